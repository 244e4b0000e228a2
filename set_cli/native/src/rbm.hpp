// An RBM's phases in one call each: a step of contrastive divergence, annealed chains through their temperatures.
//
// Units and their inputs are columns as in kernels.hpp, drawn units are 0 or 1. An RBM has n_visible and n_hidden units
// and nnz connections between them; the visible units are the inputs of its pattern. Random numbers are those of a seed
// and of consecutive steps, one step for every half step from one side to the other.
#pragma once
#include <functional>
#include <vector>

#include "kernels.hpp"
#include "team.hpp"

namespace set_native {

// Units of `rows` rows with inputs z (rows, n_batch): writes their probabilities p and draws from them, both of the
// same shape; p or drawn may be null, either may be z.
#define SET_DRAW(FIELD)      \
    FIELD(Columns, z)        \
    FIELD(Columns, p)        \
    FIELD(Columns, drawn)    \
    FIELD(int64_t, rows)     \
    FIELD(int64_t, n_batch)  \
    FIELD(Random, random)
struct Draw {
    SET_RECORD(Draw, SET_DRAW)
};

// O(rows n_batch) time.
void draw(const Kernels&, const Draw&, int64_t threads);

// A step of contrastive divergence (CD-k), or of its persistent form where there is a chain.
//   values                     (nnz,) weights
//   hidden_bias, visible_bias  (n_hidden,), (n_visible,)
//   v0                         (n_visible, n_batch), the data
//   v1                         (n_visible, the larger of n_batch and n_chains), buffer: the model's visible units
//   h0                         (n_hidden, n_batch), buffer: the data's hidden probabilities
//   h1                         (n_hidden, n_chains), buffer: the model's hidden probabilities
//   drawn                      (n_hidden, n_batch), buffer: the data's hidden units
//   chain                      (n_hidden, n_chains), moved on in place: hidden units from which the model's phase
//                              starts; null: it starts from `drawn`, and n_chains is n_batch
//   dw, dc, db                 (nnz,), (n_hidden,), (n_visible,), written: minus the gradient of the log-probability,
//                              by weights, hidden and visible biases
//   steps                      k, at least 1
//   random                     the first of 2 steps + 1 random steps
#define SET_CONTRAST(FIELD)           \
    FIELD(Connections, pattern)       \
    FIELD(const float*, values)       \
    FIELD(const float*, hidden_bias)  \
    FIELD(const float*, visible_bias) \
    FIELD(Columns, v0)                \
    FIELD(Columns, v1)                \
    FIELD(Columns, h0)                \
    FIELD(Columns, h1)                \
    FIELD(Columns, drawn)             \
    FIELD(Columns, chain)             \
    FIELD(float*, dw)                 \
    FIELD(float*, dc)                 \
    FIELD(float*, db)                 \
    FIELD(int64_t, n_batch)           \
    FIELD(int64_t, n_chains)          \
    FIELD(int64_t, steps)             \
    FIELD(Random, random)
struct Contrast {
    SET_RECORD(Contrast, SET_CONTRAST)
};

// Writes the gradients; the sum over the batch of the reconstruction's cross-entropy (nats). Throws std::bad_alloc.
// O(steps (n_batch + n_chains) nnz) time, O(n_visible + n_hidden) memory.
double contrast(const Kernels&, const Contrast&, int64_t threads);

// What a step needs beside that, of `rounds` of them.
class DivergenceMemory {
    friend struct Divergence;
    int64_t blocks;
    mutable std::vector<double> losses;  // (rounds, blocks of visible units)
    mutable std::vector<float> sums;     // of the data's visible, then hidden units

  public:
    DivergenceMemory(const Contrast&, int64_t rounds);
    double loss(int64_t round) const;  // as contrast returns it
};

// Called by a piece when the gradients that belong to some visible and some hidden units are written, and their parameters
// have been read for the last time.
using AfterContrast = std::function<void(Range visible, Range hidden, const Piece&)>;

// What contrast does, as phases; contrast and memory must stay where they are. Each round takes the random steps behind
// those of the one before.
void add_contrast(Phases&, const Kernels&, const Contrast&, const DivergenceMemory&, const AfterContrast& then);

// Annealed chains on their way from the base-rate model, whose hidden units have no connections, to an RBM.
//   base, shift  (n_visible,) the base-rate model's visible biases; those of the RBM minus these
//   bias         (n_visible,) buffer: the visible biases at the temperature of the moment
//   v, h         (n_visible, n_chains), moved on in place; (n_hidden, n_chains), buffer
//   sums         (ceil(n_hidden / sum_block) + ceil(n_visible / sum_block), n_chains), added to: the logarithms of the
//                chains' weights by blocks of hidden, then of visible units
//   random       the first random step
#define SET_ANNEALING(FIELD)    \
    FIELD(const float*, base)   \
    FIELD(const float*, shift)  \
    FIELD(float*, bias)         \
    FIELD(Columns, v)           \
    FIELD(Columns, h)           \
    FIELD(int64_t, n_visible)   \
    FIELD(int64_t, n_hidden)    \
    FIELD(int64_t, n_chains)    \
    FIELD(double*, sums)        \
    FIELD(Random, random)
struct Annealing {
    SET_RECORD(Annealing, SET_ANNEALING)
};

// The same to a sparse RBM, through all its temperatures.
//   values        (nnz,) weights
//   hidden_bias   (n_hidden,)
//   betas         (temperatures,) inverse temperatures, ascending; v are draws at the first
#define SET_SPARSE_ANNEALING(FIELD)  \
    FIELD(Annealing, chains)         \
    FIELD(Connections, pattern)      \
    FIELD(const float*, values)      \
    FIELD(const float*, hidden_bias) \
    FIELD(const float*, betas)       \
    FIELD(int64_t, temperatures)
struct SparseAnnealing {
    SET_RECORD(SparseAnnealing, SET_SPARSE_ANNEALING)
};

// Moves v on to the last temperature. Takes 2 (temperatures - 1) random steps; O(temperatures n_chains nnz) time.
void anneal(const Kernels&, const SparseAnnealing&, int64_t threads);

// The two halves of one temperature for products that are computed elsewhere, from one inverse temperature to the next;
// O(n_chains) time for each unit. First h: the inputs of the hidden units in it become their draws. Takes the first
// random step.
void anneal_hidden(const Kernels&, const Annealing&, float from, float to, int64_t threads);

// Then v: draws, given the products z (n_visible, n_chains) of the hidden units' draws. Takes the second random step.
void anneal_visible(const Kernels&, const Annealing&, Columns z, float from, float to, int64_t threads);

}  // namespace set_native
