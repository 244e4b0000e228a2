#include "stack.hpp"

#include "team.hpp"

namespace set_native {
namespace {

constexpr int64_t few = 8;  // rows that go through all passes of a layer together, while they are in the nearest cache

bool is_over_layer(const Normalization& norm) { return norm.kind == NormKind::layer; }

Affine affine_of(const Normalization& norm) {
    return norm.kind == NormKind::none ? Affine{} : Affine{norm.scale, norm.shift};
}

// The two rows of a norm's moments or sums that are of all neurons.
float* merged_rows(float* sums, int64_t neurons, int64_t n_batch) {
    return sums + 2 * padded(n_batch) * ((neurons + sum_block - 1) / sum_block);
}

template <typename Work>
void by_few(Range mine, Work work) {
    for (int64_t row = mine.begin; row < mine.end; row += few)
        work(Range{row, row + few < mine.end ? row + few : mine.end});
}

// A piece's rows of a layer; in whole blocks where a norm sums over them.
Range rows_for(const Normalization& norm, const Piece& piece, const Rows& rows) {
    return is_over_layer(norm) ? piece.blocks(rows) : piece.rows(rows);
}

// The masks of the round: each has random numbers of its own.
Dropout in_round(Dropout dropout, const Piece& piece) {
    dropout.random.step += static_cast<uint64_t>(piece.round);
    return dropout;
}

void activate(const Kernels& kernels, const LayerForward& each, const Piece& piece, Range mine, const float* merged,
              int64_t n_batch) {
    const Layer& layer = each.layer;
    const Dropout dropout = in_round(layer.dropout, piece);
    const auto run = [&](Range some) {
        kernels.activate(each.shape, some, affine_of(each.norm), each.slopes, dropout, layer.z, each.y, n_batch);
    };
    if (each.norm.kind != NormKind::none) {
        by_few(mine, [&](Range some) {
            kernels.normalize(each.norm, some, merged, layer.z, n_batch);
            run(some);
        });
    } else if (each.shape != Shape::none) {
        run(mine);
    }
}

// Each piece activates the rows that it has just computed.
void add_layer(Phases& phases, const Kernels& kernels, const LayerForward& each, int64_t n_batch) {
    const Rows& rows = each.layer.pattern.by_output;
    if (!is_over_layer(each.norm)) {
        phases.add([&, n_batch](const Piece& piece) {
            const Range mine = piece.rows(rows);
            kernels.product(rows, mine, each.values, each.bias, each.layer.x, each.layer.z, n_batch);
            activate(kernels, each, piece, mine, nullptr, n_batch);
        });
        return;
    }
    float* merged = merged_rows(each.norm.moments, rows.count, n_batch);
    phases.add([&, n_batch](const Piece& piece) {
        const Range mine = piece.blocks(rows);
        kernels.product(rows, mine, each.values, each.bias, each.layer.x, each.layer.z, n_batch);
        kernels.layer_moments(each.norm, mine, each.layer.z, n_batch);
    });
    phases.add_whole([&, merged, n_batch](const Piece&) {
        kernels.merge_moments(each.norm, rows.count, merged, n_batch);
    });
    phases.add([&, merged, n_batch](const Piece& piece) {
        activate(kernels, each, piece, piece.blocks(rows), merged, n_batch);
    });
}

void activate_backward(const Kernels& kernels, const LayerBackward& each, Range mine, int64_t n_batch) {
    const Layer& layer = each.layer;
    if (each.shape != Shape::none)
        kernels.activate_backward(each.shape, mine, affine_of(each.norm), each.slopes, each.slope_gradients,
                                  layer.dropout, layer.z, each.dy, each.dz, n_batch);
}

Columns before_activation(const LayerBackward& each) { return each.shape == Shape::none ? each.dy : each.dz; }

// dz and db of these rows, with the gradients of the activation and the norm; over a layer only up to its sums.
void undo(const Kernels& kernels, const LayerBackward& each, Range mine, int64_t n_batch) {
    const Columns z = each.layer.z, before = before_activation(each);
    if (is_over_layer(each.norm)) {
        for (int64_t row = mine.begin; row < mine.end; row += sum_block) {
            const Range block{row, row + sum_block < mine.end ? row + sum_block : mine.end};
            activate_backward(kernels, each, block, n_batch);
            kernels.layer_sums(each.norm, each.norm_gradients, each.norm_sums, block, z, before, n_batch);
        }
    } else if (each.norm.kind != NormKind::none) {
        by_few(mine, [&](Range some) {
            activate_backward(kernels, each, some, n_batch);
            kernels.normalize_backward(each.norm, each.norm_gradients, some, z, before, each.dz, n_batch);
            kernels.sum_rows(some, each.dz, each.db, n_batch);
        });
    } else {
        activate_backward(kernels, each, mine, n_batch);
        kernels.sum_rows(mine, each.dz, each.db, n_batch);
    }
}

// The rest of it for a norm over the layer, when `undo` has come through all rows.
void add_rest_of_undo(Phases& phases, const Kernels& kernels, const LayerBackward& each, int64_t n_batch,
                      std::function<void(Range, const Piece&)> then) {
    const int64_t neurons = each.layer.pattern.by_output.count;
    float* merged = merged_rows(each.norm_sums, neurons, n_batch);
    const float* rstd = merged_rows(each.norm.moments, neurons, n_batch) + padded(n_batch);
    phases.add_whole([&, neurons, merged, n_batch](const Piece&) {
        kernels.merge_sums(each.norm_sums, neurons, merged, n_batch);
    });
    phases.add([&, neurons, merged, rstd, n_batch, then](const Piece& piece) {
        const Range mine = piece.blocks(neurons);
        by_few(mine, [&](Range some) {
            kernels.layer_backward(each.norm, some, rstd, merged, each.layer.z, before_activation(each), each.dz,
                                   n_batch);
            kernels.sum_rows(some, each.dz, each.db, n_batch);
        });
        then(mine, piece);
    });
}

}  // namespace

void add_forward(Phases& phases, const Kernels& kernels, const LayerForward* layers, int64_t count, int64_t n_batch) {
    for (int64_t i = 0; i < count; i++) add_layer(phases, kernels, layers[i], n_batch);
}

void add_backward(Phases& phases, const Kernels& kernels, const LayerBackward* layers, int64_t count, int64_t n_batch,
                  const AfterGradients& then) {
    const auto after_undo = [&](int64_t i) {
        return [i, call = then.of_outputs](Range mine, const Piece& piece) {
            if (call) call(i, mine, piece);
        };
    };
    const auto undo_layer = [&](int64_t i) {
        const LayerBackward& each = layers[i];
        return [&each, &kernels, n_batch, finish = after_undo(i)](Range mine, const Piece& piece) {
            undo(kernels, each, mine, n_batch);
            if (!is_over_layer(each.norm)) finish(mine, piece);
        };
    };
    const LayerBackward& last = layers[count - 1];
    phases.add([&last, run = undo_layer(count - 1)](const Piece& piece) {
        const int64_t n_out = last.layer.pattern.by_output.count;
        run(is_over_layer(last.norm) ? piece.blocks(n_out) : piece.share(n_out), piece);
    });
    if (is_over_layer(last.norm)) add_rest_of_undo(phases, kernels, last, n_batch, after_undo(count - 1));
    for (int64_t i = count; i-- > 0;) {
        const LayerBackward& each = layers[i];
        const auto gradients = [&each, &kernels, i, n_batch, call = then.of_values](Range mine, const Piece& piece) {
            kernels.gradients(each.layer.pattern.by_input, mine, each.values, each.layer.x, each.dz, each.dx, each.dw,
                              false, each.relu, n_batch);
            if (call) call(i, mine, piece);
        };
        const Rows& rows = each.layer.pattern.by_input;
        if (i == 0) {
            phases.add([&rows, gradients](const Piece& piece) { gradients(piece.rows(rows), piece); });
            continue;
        }
        // A layer's inputs are the outputs of the one before it, which goes on with the rows that are at hand.
        const LayerBackward& before = layers[i - 1];
        phases.add([&rows, &before, gradients, run = undo_layer(i - 1)](const Piece& piece) {
            const Range mine = rows_for(before.norm, piece, rows);
            gradients(mine, piece);
            run(mine, piece);
        });
        if (is_over_layer(before.norm)) add_rest_of_undo(phases, kernels, before, n_batch, after_undo(i - 1));
    }
}

void stack_forward(const Kernels& kernels, const LayerForward* layers, int64_t count, int64_t n_batch,
                   int64_t threads) {
    Phases phases(threads);
    add_forward(phases, kernels, layers, count, n_batch);
    phases.run();
}

void stack_backward(const Kernels& kernels, const LayerBackward* layers, int64_t count, int64_t n_batch,
                    int64_t threads) {
    if (!count) return;
    Phases phases(threads);
    add_backward(phases, kernels, layers, count, n_batch, {});
    phases.run();
}

}  // namespace set_native
