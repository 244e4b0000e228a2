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

// Memory for the images of a feed.
Scratch scratch_of(const Feed& feed, int64_t threads) {
    return {is_changed(feed.gather) ? changed_scratch(feed.gather.source, feed.gather.image) : 0, threads};
}

void add_feed(Phases& phases, const Kernels& kernels, const Feed& feed, const Scratch& scratch) {
    const GatherChanged& inputs = feed.gather;
    const int64_t n_batch = inputs.n_batch;
    if (!inputs.source.data) return;
    if (is_changed(inputs)) {
        phases.add([&, n_batch](const Piece& piece) {
            const Changes changes{of_round(inputs.crops, piece, n_batch, 2), of_round(inputs.maps, piece, n_batch, 6),
                                  of_round(inputs.squares, piece, n_batch, 4), inputs.blank};
            kernels.gather_changed(inputs.source, piece.share(n_batch), inputs.image,
                                   of_round(inputs.rows, piece, n_batch, 1), changes, inputs.out, scratch.of(piece));
        });
        if (feed.clip != 0)
            phases.add([&](const Piece& piece) { clip(inputs, piece.share(inputs.source.features), feed.clip); });
    } else {
        phases.add([&, n_batch](const Piece& piece) {
            const Range features = piece.share(inputs.source.features);
            kernels.gather(inputs.source, features, of_round(inputs.rows, piece, n_batch, 1), inputs.out, n_batch);
            if (feed.clip != 0) clip(inputs, features, feed.clip);
        });
    }
}

void descend(const Kernels& kernels, const Update& update, const Descent& each, Range elements, const Piece& piece) {
    kernels.descend(elements, each.parameter, each.gradient, each.momentum, update.rates[piece.round], update.momentum,
                    each.decay, update.nesterov);
}

// The values of the connections of some inputs; `gradient` is where their gradient is.
void descend_values(const Kernels& kernels, const Update& update, const Descent& each, float* gradient, const Rows& rows,
                    Range mine, const Piece& piece) {
    const Range values{rows.indptr[mine.begin], rows.indptr[mine.end]};
    if (update.l1 != 0)
        for (int64_t k = values.begin; k < values.end; k++) {
            const float w = each.parameter[k];
            gradient[k] += w > 0 ? update.l1 : w < 0 ? -update.l1 : 0.0f;
        }
    descend(kernels, update, each, values, piece);
}

}  // namespace

void train(const Kernels& kernels, const Steps& steps, const Stack& stack, int64_t threads) {
    const int64_t n_batch = steps.feed.gather.n_batch;
    const Scratch scratch = scratch_of(steps.feed, threads);
    Phases phases(threads);
    add_feed(phases, kernels, steps.feed, scratch);
    add_forward(phases, kernels, stack.forward, stack.layers, n_batch);
    phases.add_whole([&, n_batch](const Piece& piece) {
        const CrossEntropy& loss = steps.loss;
        Targets targets = loss.targets;
        targets.labels = of_round(targets.labels, piece, n_batch, 1);
        steps.losses[piece.round] =
            kernels.cross_entropy(loss.logits, targets, loss.classes, n_batch, loss.gradient, loss.scale);
    });
    // Nobody reads a value any more when its gradient is there, which is still in the nearest cache.
    AfterGradients then;
    then.of_values = [&](int64_t layer, Range rows, const Piece& piece) {
        const LayerBackward& each = stack.backward[layer];
        descend_values(kernels, steps.update, stack.values[layer], each.dw, each.layer.pattern.by_input, rows, piece);
    };
    then.of_outputs = [&](int64_t layer, Range rows, const Piece& piece) {
        for (int64_t i = 0; i < stack.number_of_others; i++)
            if (stack.others[i].layer == layer) descend(kernels, steps.update, stack.others[i].descent, rows, piece);
    };
    add_backward(phases, kernels, stack.backward, stack.layers, n_batch, then);
    phases.run(steps.steps);
}

void train_rbm(const Kernels& kernels, const ContrastSteps& steps, int64_t threads) {
    const Connections& pattern = steps.contrast.pattern;
    const Scratch scratch = scratch_of(steps.feed, threads);
    const DivergenceMemory memory(steps.contrast, steps.steps);
    Phases phases(threads);
    add_feed(phases, kernels, steps.feed, scratch);
    add_contrast(phases, kernels, steps.contrast, memory, [&](Range visible, Range hidden, const Piece& piece) {
        descend_values(kernels, steps.update, steps.values, steps.contrast.dw, pattern.by_input, visible, piece);
        descend(kernels, steps.update, steps.visible_bias, visible, piece);
        descend(kernels, steps.update, steps.hidden_bias, hidden, piece);
    });
    phases.run(steps.steps);
    for (int64_t step = 0; step < steps.steps; step++) steps.losses[step] = memory.loss(step);
}

}  // namespace set_native
