#include "steps.hpp"

namespace set_native {
namespace {

bool is_changed(const GatherChanged& inputs) { return inputs.crops || inputs.maps || inputs.squares; }

// The part of an array (rows, width) that belongs to a round.
template <typename T>
T* of_round(T* all, const Piece& piece, int64_t n_batch, int64_t width) {
    return all ? all + piece.round * n_batch * width : nullptr;
}

void clip(const GatherChanged& inputs, Range features, float largest) {
    for (int64_t f = features.begin; f < features.end; f++) {
        float* row = inputs.out.row(f);
        for (int64_t b = 0; b < inputs.n_batch; b++)
            row[b] = row[b] < -largest ? -largest : row[b] > largest ? largest : row[b];  // a NaN stays one
    }
}

void add_inputs(Phases& phases, const Kernels& kernels, const Steps& steps, const Scratch& scratch) {
    const GatherChanged& inputs = steps.inputs;
    const int64_t n_batch = inputs.n_batch;
    if (!inputs.source.data) return;
    if (is_changed(inputs)) {
        phases.add([&, n_batch](const Piece& piece) {
            const Changes changes{of_round(inputs.crops, piece, n_batch, 2), of_round(inputs.maps, piece, n_batch, 6),
                                  of_round(inputs.squares, piece, n_batch, 4), inputs.blank};
            kernels.gather_changed(inputs.source, piece.share(n_batch), inputs.image,
                                   of_round(inputs.rows, piece, n_batch, 1), changes, inputs.out, scratch.of(piece));
        });
        if (steps.clip != 0)
            phases.add([&](const Piece& piece) { clip(inputs, piece.share(inputs.source.features), steps.clip); });
    } else {
        phases.add([&, n_batch](const Piece& piece) {
            const Range features = piece.share(inputs.source.features);
            kernels.gather(inputs.source, features, of_round(inputs.rows, piece, n_batch, 1), inputs.out, n_batch);
            if (steps.clip != 0) clip(inputs, features, steps.clip);
        });
    }
}

void descend(const Kernels& kernels, const Steps& steps, const Descent& each, Range elements, const Piece& piece) {
    kernels.descend(elements, each.parameter, each.gradient, each.momentum, steps.rates[piece.round], steps.momentum,
                    each.decay, steps.nesterov);
}

void add_l1(const Descent& each, float* gradient, Range elements, float strength) {
    for (int64_t k = elements.begin; k < elements.end; k++) {
        const float w = each.parameter[k];
        gradient[k] += w > 0 ? strength : w < 0 ? -strength : 0.0f;
    }
}

}  // namespace

void train(const Kernels& kernels, const Steps& steps, const Stack& stack, int64_t threads) {
    const GatherChanged& inputs = steps.inputs;
    const int64_t n_batch = inputs.n_batch;
    const Scratch scratch(is_changed(inputs) ? changed_scratch(inputs.source, inputs.image) : 0, threads);
    Phases phases(threads);
    add_inputs(phases, kernels, steps, scratch);
    add_forward(phases, kernels, stack.forward, stack.layers, n_batch);
    phases.add_whole([&, n_batch](const Piece& piece) {
        const CrossEntropy& loss = steps.loss;
        Targets targets = loss.targets;
        targets.labels = of_round(targets.labels, piece, n_batch, 1);
        steps.losses[piece.round] =
            kernels.cross_entropy(loss.logits, targets, loss.classes, n_batch, loss.gradient, loss.scale);
    });
    // Nobody reads a value any more when its gradient is there, which is still in the nearest cache.
    AfterGradients update;
    update.of_values = [&](int64_t layer, Range rows, const Piece& piece) {
        const int32_t* indptr = stack.backward[layer].layer.pattern.by_input.indptr;
        const Range values{indptr[rows.begin], indptr[rows.end]};
        if (steps.l1 != 0) add_l1(stack.values[layer], stack.backward[layer].dw, values, steps.l1);
        descend(kernels, steps, stack.values[layer], values, piece);
    };
    update.of_outputs = [&](int64_t layer, Range rows, const Piece& piece) {
        for (int64_t i = 0; i < stack.number_of_others; i++)
            if (stack.others[i].layer == layer) descend(kernels, steps, stack.others[i].descent, rows, piece);
    };
    add_backward(phases, kernels, stack.backward, stack.layers, n_batch, update);
    phases.run(steps.steps);
}

}  // namespace set_native
