#include "calls.hpp"

#include "team.hpp"

namespace set_native {

void product(const Kernels& kernels, const Product& all, int64_t threads) {
    const Rows& rows = all.by_output ? all.pattern.by_output : all.pattern.by_input;
    in_pieces(threads, [&](const Piece& piece) {
        kernels.product(rows, piece.rows(rows), all.values, all.bias, all.x, all.y, all.n_batch);
    });
}

void gradients(const Kernels& kernels, const Gradients& all, int64_t threads) {
    const Rows& rows = all.pattern.by_input;
    in_pieces(threads, [&](const Piece& piece) {
        kernels.gradients(rows, piece.rows(rows), all.values, all.x, all.dy, all.dx, all.dw, false, 0, all.n_batch);
        if (all.db) kernels.sum_rows(piece.share(rows.others), all.dy, all.db, all.n_batch);
    });
}

void activate(const Kernels& kernels, const Activation& all, int64_t threads) {
    in_pieces(threads, [&](const Piece& piece) {
        kernels.activate(all.shape, piece.share(all.neurons), {}, all.slopes, all.dropout, all.z, all.y, all.n_batch);
    });
}

void activate_backward(const Kernels& kernels, const ActivationBackward& all, int64_t threads) {
    in_pieces(threads, [&](const Piece& piece) {
        kernels.activate_backward(all.shape, piece.share(all.neurons), {}, all.slopes, all.slope_gradients,
                                  all.dropout, all.z, all.dy, all.dz, all.n_batch);
    });
}

double cross_entropy(const Kernels& kernels, const CrossEntropy& all) {
    return kernels.cross_entropy(all.logits, all.targets, all.classes, all.n_batch, all.gradient, all.scale);
}

void descend(const Kernels& kernels, const Descent* parameters, int64_t number, float rate, float momentum,
             bool nesterov, int64_t threads) {
    in_pieces(threads, [=, &kernels](const Piece& piece) {
        for (int64_t i = 0; i < number; i++) {
            const Descent& each = parameters[i];
            kernels.descend(piece.share(each.elements), each.parameter, each.gradient, each.momentum, rate, momentum,
                            each.decay, nesterov);
        }
    });
}

void gather(const Kernels& kernels, const Gather& all, int64_t threads) {
    in_pieces(threads, [&](const Piece& piece) {
        kernels.gather(all.source, piece.share(all.source.features), all.rows, all.out, all.n_batch);
    });
}

void gather_changed(const Kernels& kernels, const GatherChanged& all, int64_t threads) {
    const Changes changes{all.crops, all.maps, all.squares, all.blank};
    const Scratch scratch(changed_scratch(all.source, all.image), threads);
    in_pieces(threads, [&](const Piece& piece) {
        kernels.gather_changed(all.source, piece.share(all.n_batch), all.image, all.rows, changes, all.out,
                               scratch.of(piece));
    });
}

void mix(const Kernels& kernels, const Mix& all, int64_t threads) {
    const Scratch scratch(3 * all.n_batch, threads);
    in_pieces(threads, [&](const Piece& piece) {
        kernels.mix(piece.share(all.features), all.x, all.partners, all.shares, all.n_batch, scratch.of(piece));
    });
}

void to_columns(const Kernels& kernels, const ToColumns& all, int64_t threads) {
    in_pieces(threads, [&](const Piece& piece) {
        kernels.to_columns(all.x, piece.share(all.features), all.stride_batch, all.stride_feature, all.out,
                           all.n_batch);
    });
}

}  // namespace set_native
