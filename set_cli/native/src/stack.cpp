#include "stack.hpp"

#include "team.hpp"

namespace set_native {

void stack_forward(const Kernels& kernels, const LayerForward* layers, int64_t count, int64_t n_batch,
                   int64_t threads) {
    in_team(threads, [=, &kernels] {
        for (int64_t i = 0; i < count; i++) {
            const LayerForward& each = layers[i];
            const Layer& layer = each.layer;
            if (i) wait_for_team();
            const Rows& rows = layer.pattern.by_output;
            // Each thread activates the rows that it has just computed.
            const Range mine = my_rows(rows.indptr, rows.count);
            kernels.product(rows, mine, each.values, each.bias, layer.x, layer.z, n_batch);
            if (each.shape != Shape::none)
                kernels.activate(each.shape, mine, each.slopes, layer.dropout, layer.z, each.y, n_batch);
        }
    });
}

void stack_backward(const Kernels& kernels, const LayerBackward* layers, int64_t count, int64_t n_batch,
                    int64_t threads) {
    in_team(threads, [=, &kernels] {
        for (int64_t i = count; i-- > 0;) {
            const LayerBackward& each = layers[i];
            const Layer& layer = each.layer;
            const Rows& rows = layer.pattern.by_input;
            // This layer's outputs are the inputs of the one behind it: each thread continues with the rows whose dx
            // it has just computed.
            Range outputs = my_share(layer.pattern.by_output.count);
            if (i + 1 < count) {
                const Rows& behind = layers[i + 1].layer.pattern.by_input;
                outputs = my_rows(behind.indptr, behind.count);
            }
            if (each.shape != Shape::none)
                kernels.activate_backward(each.shape, outputs, each.slopes, each.slope_gradients, layer.dropout,
                                          layer.z, each.dy, each.dz, n_batch);
            kernels.sum_rows(outputs, each.dz, each.db, n_batch);
            wait_for_team();
            kernels.gradients(rows, my_rows(rows.indptr, rows.count), each.values, layer.x, each.dz, each.dx, each.dw,
                              false, each.relu, n_batch);
        }
    });
}

}  // namespace set_native
