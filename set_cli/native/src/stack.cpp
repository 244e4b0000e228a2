#include "stack.hpp"

#include "team.hpp"

namespace set_native {
namespace {

constexpr int64_t few = 8;  // rows that go through all passes of a layer together, while they are in the nearest cache

bool is_over_layer(const Normalization& norm) { return norm.kind == NormKind::layer; }

Affine affine_of(const Normalization& norm) {
    return norm.kind == NormKind::none ? Affine{} : Affine{norm.scale, norm.shift};
}

// The two rows of a norm's moments or sums that this thread has for itself.
float* own_rows(float* sums, int64_t neurons, int64_t thread, int64_t n_batch) {
    return sums + 2 * padded(n_batch) * ((neurons + sum_block - 1) / sum_block + thread);
}

template <typename Work>
void by_few(Range mine, Work work) {
    for (int64_t row = mine.begin; row < mine.end; row += few)
        work(Range{row, row + few < mine.end ? row + few : mine.end});
}

// A thread's share of a layer's rows; in whole blocks where a norm sums over them.
Range rows_for(const Normalization& norm, const Rows& rows) {
    return is_over_layer(norm) ? my_blocks(rows.indptr, rows.count) : my_rows(rows.indptr, rows.count);
}

void normalize_and_activate(const Kernels& kernels, const LayerForward& each, Range mine, int64_t n_batch) {
    const Layer& layer = each.layer;
    const float* merged = nullptr;
    if (is_over_layer(each.norm)) {
        const int64_t neurons = layer.pattern.by_output.count;
        float* own = own_rows(each.norm.moments, neurons, thread_number(), n_batch);
        kernels.layer_moments(each.norm, mine, layer.z, n_batch);
        wait_for_team();
        kernels.merge_moments(each.norm, neurons, own, n_batch);
        merged = own;
    }
    by_few(mine, [&](Range some) {
        kernels.normalize(each.norm, some, merged, layer.z, n_batch);
        kernels.activate(each.shape, some, affine_of(each.norm), each.slopes, layer.dropout, layer.z, each.y, n_batch);
    });
}

void activate_backward(const Kernels& kernels, const LayerBackward& each, Range mine, int64_t n_batch) {
    const Layer& layer = each.layer;
    if (each.shape != Shape::none)
        kernels.activate_backward(each.shape, mine, affine_of(each.norm), each.slopes, each.slope_gradients,
                                  layer.dropout, layer.z, each.dy, each.dz, n_batch);
}

// dz and db, with the gradients of the norm and of the activation.
void undo_norm(const Kernels& kernels, const LayerBackward& each, Range mine, int64_t n_batch) {
    const Columns z = each.layer.z, before = each.shape == Shape::none ? each.dy : each.dz;
    if (!is_over_layer(each.norm)) {
        by_few(mine, [&](Range some) {
            activate_backward(kernels, each, some, n_batch);
            kernels.normalize_backward(each.norm, each.norm_gradients, some, z, before, each.dz, n_batch);
            kernels.sum_rows(some, each.dz, each.db, n_batch);
        });
        return;
    }
    const int64_t neurons = each.layer.pattern.by_output.count;
    float* own = own_rows(each.norm_sums, neurons, thread_number(), n_batch);
    const float* rstd = own_rows(each.norm.moments, neurons, 0, n_batch) + padded(n_batch);
    for (int64_t row = mine.begin; row < mine.end; row += sum_block) {
        const Range block{row, row + sum_block < mine.end ? row + sum_block : mine.end};
        activate_backward(kernels, each, block, n_batch);
        kernels.layer_sums(each.norm, each.norm_gradients, each.norm_sums, block, z, before, n_batch);
    }
    wait_for_team();
    kernels.merge_sums(each.norm_sums, neurons, own, n_batch);
    by_few(mine, [&](Range some) {
        kernels.layer_backward(each.norm, some, rstd, own, z, before, each.dz, n_batch);
        kernels.sum_rows(some, each.dz, each.db, n_batch);
    });
}

}  // namespace

void stack_forward(const Kernels& kernels, const LayerForward* layers, int64_t count, int64_t n_batch,
                   int64_t threads) {
    in_team(threads, [=, &kernels] {
        for (int64_t i = 0; i < count; i++) {
            const LayerForward& each = layers[i];
            const Layer& layer = each.layer;
            if (i) wait_for_team();
            const Rows& rows = layer.pattern.by_output;
            // Each thread activates the rows that it has just computed.
            const Range mine = rows_for(each.norm, rows);
            kernels.product(rows, mine, each.values, each.bias, layer.x, layer.z, n_batch);
            if (each.norm.kind != NormKind::none)
                normalize_and_activate(kernels, each, mine, n_batch);
            else if (each.shape != Shape::none)
                kernels.activate(each.shape, mine, {}, each.slopes, layer.dropout, layer.z, each.y, n_batch);
        }
    });
}

void stack_backward(const Kernels& kernels, const LayerBackward* layers, int64_t count, int64_t n_batch,
                    int64_t threads) {
    in_team(threads, [=, &kernels] {
        for (int64_t i = count; i-- > 0;) {
            const LayerBackward& each = layers[i];
            const Layer& layer = each.layer;
            // This layer's outputs are the inputs of the one behind it: each thread continues with the rows whose dx
            // it has just computed.
            const int64_t n_out = layer.pattern.by_output.count;
            Range outputs = is_over_layer(each.norm) ? my_blocks(n_out) : my_share(n_out);
            if (i + 1 < count) outputs = rows_for(each.norm, layers[i + 1].layer.pattern.by_input);
            if (each.norm.kind != NormKind::none) {
                undo_norm(kernels, each, outputs, n_batch);
            } else {
                activate_backward(kernels, each, outputs, n_batch);
                kernels.sum_rows(outputs, each.dz, each.db, n_batch);
            }
            wait_for_team();
            const Rows& rows = layer.pattern.by_input;
            const Range inputs = i ? rows_for(layers[i - 1].norm, rows) : my_rows(rows.indptr, rows.count);
            kernels.gradients(rows, inputs, each.values, layer.x, each.dz, each.dx, each.dw, false, each.relu,
                              n_batch);
        }
    });
}

}  // namespace set_native
