#include "rbm.hpp"

#include "team.hpp"

namespace set_native {
namespace {

constexpr Columns none{nullptr, 0};

int64_t blocks_of(int64_t rows) { return (rows + sum_block - 1) / sum_block; }

Random after(Random random, int64_t steps) { return {random.seed, random.step + static_cast<uint64_t>(steps)}; }

// Calls work(block) for the blocks of sum_block rows in this range.
template <typename Work>
void for_blocks(Range mine, Work work) {
    for (int64_t row = mine.begin; row < mine.end; row += sum_block)
        work(Range{row, row + sum_block < mine.end ? row + sum_block : mine.end});
}

// From inputs h to draws, a block of hidden units.
void draw_hidden(const Kernels& kernels, const Annealing& all, Range block, float from, float to, Random random) {
    kernels.anneal(block, from, to, all.h, all.sums + block.begin / sum_block * all.n_chains, all.n_chains);
    kernels.units({all.h, to, nullptr, none, 1, all.h, random}, block, all.n_chains);
}

// What the visible units of a block, drawn one temperature before, add to the weights; fills bias for the block.
void weigh_visible(const Kernels& kernels, const Annealing& all, Range block, float from, float to) {
    double* sums = all.sums + (blocks_of(all.n_hidden) + block.begin / sum_block) * all.n_chains;
    kernels.weigh(block, all.shift, static_cast<double>(to) - static_cast<double>(from), all.v, sums, all.n_chains);
    for (int64_t i = block.begin; i < block.end; i++) all.bias[i] = all.base[i] + to * all.shift[i];
}

// From products z without biases to draws v, a block of visible units.
void draw_visible(const Kernels& kernels, const Annealing& all, Range block, Columns z, float to, Random random) {
    kernels.units({z, to, all.bias, none, 1, all.v, random}, block, all.n_chains);
}

}  // namespace

void draw(const Kernels& kernels, const Draw& all, int64_t threads) {
    in_pieces(threads, [&](const Piece& piece) {
        kernels.units({all.z, 1, nullptr, all.p, 1, all.drawn, all.random}, piece.share(all.rows), all.n_batch);
    });
}

// A step of contrastive divergence.
struct Divergence : Contrast {
    const Kernels* kernels;
    const DivergenceMemory* memory;

    Random at(const Piece& piece, int64_t step) const { return after(random, piece.round * (2 * steps + 1) + step); }

    // The data's phase; the draws for the reconstruction in `drawn`.
    void see(const Piece& piece) const {
        const Range hidden = piece.rows(pattern.by_output);
        kernels->product(pattern.by_output, hidden, values, hidden_bias, v0, h0, n_batch);
        kernels->units({h0, 1, nullptr, h0, -1.0f / static_cast<float>(n_batch), drawn, at(piece, 0)}, hidden, n_batch);
    }

    // Visible units given hidden ones, in blocks, and where asked for the loss of the reconstruction.
    void reconstruct(const Piece& piece, Columns hidden, int64_t columns, bool draw, bool measure, int64_t step) const {
        double* losses = memory->losses.data() + piece.round * memory->blocks;
        for_blocks(piece.blocks(pattern.by_input), [&](Range block) {
            kernels->product(pattern.by_input, block, values, visible_bias, hidden, v1, columns);
            if (measure)
                losses[block.begin / sum_block] = kernels->cross_entropy_of_units(block, v1, v0, columns);
            if (draw) kernels->units({v1, 1, nullptr, none, 1, v1, at(piece, step)}, block, columns);
        });
    }

    // Hidden units given the model's visible ones: their draws, and where asked their probabilities.
    void infer(const Piece& piece, Columns z, Columns p, Columns draws, int64_t step) const {
        const Range hidden = piece.rows(pattern.by_output);
        kernels->product(pattern.by_output, hidden, values, hidden_bias, v1, z, n_chains);
        const float share = p.data ? 1.0f / static_cast<float>(n_chains) : 1.0f;
        kernels->units({z, 1, nullptr, p, share, draws, at(piece, step)}, hidden, n_chains);
    }

    // Minus the gradient of the log-probability: the model's statistics minus the data's.
    void compare(Range visible, Range hidden) const {
        const Rows& rows = pattern.by_input;
        float* sums = memory->sums.data();
        kernels->gradients(rows, visible, values, v0, h0, none, dw, false, 0, n_batch);
        kernels->gradients(rows, visible, values, v1, h1, none, dw, true, 0, n_chains);
        kernels->sum_rows(visible, v0, sums, n_batch);
        kernels->sum_rows(visible, v1, db, n_chains);
        for (int64_t i = visible.begin; i < visible.end; i++)
            db[i] = db[i] / static_cast<float>(n_chains) - sums[i] / static_cast<float>(n_batch);
        kernels->sum_rows(hidden, h0, sums + rows.count, n_batch);
        kernels->sum_rows(hidden, h1, dc, n_chains);
        for (int64_t j = hidden.begin; j < hidden.end; j++) dc[j] += sums[rows.count + j];
    }
};

DivergenceMemory::DivergenceMemory(const Contrast& all, int64_t rounds)
    : blocks(blocks_of(all.pattern.by_input.count)),
      losses(static_cast<size_t>(rounds * blocks)),
      sums(static_cast<size_t>(all.pattern.by_input.count) + static_cast<size_t>(all.pattern.by_output.count)) {}

double DivergenceMemory::loss(int64_t round) const {
    double total = 0;
    for (int64_t block = 0; block < blocks; block++) total += losses[static_cast<size_t>(round * blocks + block)];
    return total;
}

void add_contrast(Phases& phases, const Kernels& kernels, const Contrast& contrast, const DivergenceMemory& memory,
                  const AfterContrast& then) {
    const Divergence all{contrast, &kernels, &memory};
    const bool persistent = all.chain.data != nullptr;
    const Columns between = persistent ? all.chain : all.drawn;
    phases.add([=](const Piece& piece) { all.see(piece); });
    phases.add([=](const Piece& piece) {
        all.reconstruct(piece, all.drawn, all.n_batch, !persistent, true, 1);
        if (persistent) all.reconstruct(piece, all.chain, all.n_chains, true, false, 1);
    });
    for (int64_t step = 1; step < all.steps; step++) {
        phases.add([=](const Piece& piece) { all.infer(piece, between, none, between, 2 * step); });
        phases.add([=](const Piece& piece) {
            all.reconstruct(piece, between, all.n_chains, true, false, 2 * step + 1);
        });
    }
    phases.add([=](const Piece& piece) { all.infer(piece, all.h1, all.h1, all.chain, 2 * all.steps); });
    phases.add([=](const Piece& piece) {
        const Range visible = piece.rows(all.pattern.by_input), hidden = piece.share(all.pattern.by_output.count);
        all.compare(visible, hidden);
        if (then) then(visible, hidden, piece);
    });
}

double contrast(const Kernels& kernels, const Contrast& all, int64_t threads) {
    const DivergenceMemory memory(all, 1);
    Phases phases(threads);
    add_contrast(phases, kernels, all, memory, {});
    phases.run();
    return memory.loss(0);
}

void anneal(const Kernels& kernels, const SparseAnnealing& rbm, int64_t threads) {
    const Annealing& all = rbm.chains;
    const Rows &by_input = rbm.pattern.by_input, &by_output = rbm.pattern.by_output;
    const auto from = [&](const Piece& piece) { return rbm.betas[piece.round]; };
    const auto to = [&](const Piece& piece) { return rbm.betas[piece.round + 1]; };
    Phases phases(threads);
    phases.add([&](const Piece& piece) {
        for_blocks(piece.blocks(by_output), [&](Range block) {
            kernels.product(by_output, block, rbm.values, rbm.hidden_bias, all.v, all.h, all.n_chains);
            draw_hidden(kernels, all, block, from(piece), to(piece), after(all.random, 2 * piece.round));
        });
    });
    phases.add([&](const Piece& piece) {
        for_blocks(piece.blocks(by_input), [&](Range block) {
            weigh_visible(kernels, all, block, from(piece), to(piece));
            kernels.product(by_input, block, rbm.values, nullptr, all.h, all.v, all.n_chains);
            draw_visible(kernels, all, block, all.v, to(piece), after(all.random, 2 * piece.round + 1));
        });
    });
    phases.run(rbm.temperatures - 1);
}

void anneal_hidden(const Kernels& kernels, const Annealing& all, float from, float to, int64_t threads) {
    in_pieces(threads, [&](const Piece& piece) {
        for_blocks(piece.blocks(all.n_hidden),
                   [&](Range block) { draw_hidden(kernels, all, block, from, to, all.random); });
    });
}

void anneal_visible(const Kernels& kernels, const Annealing& all, Columns z, float from, float to, int64_t threads) {
    in_pieces(threads, [&](const Piece& piece) {
        for_blocks(piece.blocks(all.n_visible), [&](Range block) {
            weigh_visible(kernels, all, block, from, to);
            draw_visible(kernels, all, block, z, to, after(all.random, 1));
        });
    });
}

}  // namespace set_native
