#include "calls.hpp"

#include <cstdlib>

#include "team.hpp"

namespace set_native {

void product(const Kernels& kernels, const Product& all, int64_t threads) {
    const Rows& rows = all.by_output ? all.pattern.by_output : all.pattern.by_input;
    in_team(threads, [&] {
        kernels.product(rows, my_rows(rows.indptr, rows.count), all.values, all.bias, all.x, all.y, all.n_batch);
    });
}

void gradients(const Kernels& kernels, const Gradients& all, int64_t threads) {
    const Rows& rows = all.pattern.by_input;
    in_team(threads, [&] {
        kernels.gradients(rows, my_rows(rows.indptr, rows.count), all.values, all.x, all.dy, all.dx, all.dw, false, 0,
                          all.n_batch);
        if (all.db) kernels.sum_rows(my_share(rows.others), all.dy, all.db, all.n_batch);
    });
}

void activate(const Kernels& kernels, const Activation& all, int64_t threads) {
    in_team(threads, [&] {
        kernels.activate(all.shape, my_share(all.neurons), {}, all.slopes, all.dropout, all.z, all.y, all.n_batch);
    });
}

void activate_backward(const Kernels& kernels, const ActivationBackward& all, int64_t threads) {
    in_team(threads, [&] {
        kernels.activate_backward(all.shape, my_share(all.neurons), {}, all.slopes, all.slope_gradients, all.dropout,
                                  all.z, all.dy, all.dz, all.n_batch);
    });
}

double cross_entropy(const Kernels& kernels, const CrossEntropy& all) {
    return kernels.cross_entropy(all.logits, all.targets, all.classes, all.n_batch, all.gradient, all.scale);
}

void descend(const Kernels& kernels, const Descent* parameters, int64_t number, float rate, float momentum,
             bool nesterov, int64_t threads) {
    in_team(threads, [=, &kernels] {
        for (int64_t i = 0; i < number; i++) {
            const Descent& each = parameters[i];
            kernels.descend(my_share(each.elements), each.parameter, each.gradient, each.momentum, rate, momentum,
                            each.decay, nesterov);
        }
    });
}

void gather(const Kernels& kernels, const Gather& all, int64_t threads) {
    in_team(threads, [&] {
        kernels.gather(all.source, my_share(all.source.features), all.rows, all.out, all.n_batch);
    });
}

// Calls work(scratch) in every thread, with so many floats of its own; false where there is no memory.
template <typename Work>
static bool with_scratch(int64_t floats, int64_t threads, Work work) {
    float* scratch = static_cast<float*>(malloc(static_cast<size_t>(floats * threads) * sizeof(float)));
    if (!scratch) return false;
    in_team(threads, [&] { work(scratch + floats * thread_number()); });
    free(scratch);
    return true;
}

bool gather_changed(const Kernels& kernels, const GatherChanged& all, int64_t threads) {
    const Changes changes{all.crops, all.maps, all.squares, all.blank};
    return with_scratch(changed_scratch(all.source, all.image), threads, [&](float* scratch) {
        kernels.gather_changed(all.source, my_share(all.n_batch), all.image, all.rows, changes, all.out, scratch);
    });
}

bool mix(const Kernels& kernels, const Mix& all, int64_t threads) {
    return with_scratch(3 * all.n_batch, threads, [&](float* scratch) {
        kernels.mix(my_share(all.features), all.x, all.partners, all.shares, all.n_batch, scratch);
    });
}

void to_columns(const Kernels& kernels, const ToColumns& all, int64_t threads) {
    in_team(threads, [&] {
        kernels.to_columns(all.x, my_share(all.features), all.stride_batch, all.stride_feature, all.out, all.n_batch);
    });
}

}  // namespace set_native
