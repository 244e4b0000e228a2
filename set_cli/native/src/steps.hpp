// Whole training steps with momentum SGD, as many as are wanted in one call: inputs gathered, gradients, update.
//
// A step computes what the calls of calls.hpp, stack.hpp and rbm.hpp compute one after the other, bit for bit. All arrays
// by row or by step begin with those of the first step of the call.
#pragma once
#include "calls.hpp"
#include "rbm.hpp"
#include "stack.hpp"

namespace set_native {

// What the steps read.
//   gather  n_batch rows of each step: rows, crops, maps and squares (steps n_batch, ...) in the order of the epoch; out is
//           where the network reads them. With source.data null they are there already, the same in every step
//   clip    largest absolute value of an input; 0: any
#define SET_FEED(FIELD) FIELD(GatherChanged, gather) FIELD(float, clip)
struct Feed {
    SET_RECORD(Feed, SET_FEED)
};

// How parameters follow their gradients.
//   rates  (steps,) learning rates
//   l1     strength of the L1 penalty on values: its subgradient is added to theirs
#define SET_UPDATE(FIELD)       \
    FIELD(const float*, rates)  \
    FIELD(float, momentum)      \
    FIELD(bool, nesterov)       \
    FIELD(float, l1)
struct Update {
    SET_RECORD(Update, SET_UPDATE)
};

// Steps of a stack.
//   feed    out is the first layer's x
//   loss    logits are the last layer's output, gradient its dy; labels (steps n_batch,)
//   losses  (steps,) double, written: as cross_entropy returns them
#define SET_STEPS(FIELD)        \
    FIELD(Feed, feed)           \
    FIELD(CrossEntropy, loss)   \
    FIELD(double*, losses)      \
    FIELD(Update, update)       \
    FIELD(int64_t, steps)
struct Steps {
    SET_RECORD(Steps, SET_STEPS)
};

// A parameter of a layer's outputs, one number for each.
#define SET_OF_OUTPUTS(FIELD) FIELD(int64_t, layer) FIELD(Descent, descent)
struct OfOutputs {
    SET_RECORD(OfOutputs, SET_OF_OUTPUTS)
};

//   values  where the values of each layer are, with their gradients and momenta, in the storage order of the pattern
//   others  all other parameters
struct Stack {
    const LayerForward* forward;
    const LayerBackward* backward;
    const Descent* values;
    int64_t layers;
    const OfOutputs* others;
    int64_t number_of_others;
};

// Trains; throws std::bad_alloc before anything is changed. O(steps n_batch nnz) time.
void train(const Kernels&, const Steps&, const Stack&, int64_t threads);

// Steps of contrastive divergence.
//   feed                               out is v0
//   contrast                           of the first step; each of them takes its random steps behind those of the one before
//   values, hidden_bias, visible_bias  the parameters, whose gradients are dw, dc and db
//   losses                             (steps,) double, written: as contrast returns them
#define SET_CONTRAST_STEPS(FIELD)  \
    FIELD(Feed, feed)              \
    FIELD(Contrast, contrast)      \
    FIELD(Descent, values)         \
    FIELD(Descent, hidden_bias)    \
    FIELD(Descent, visible_bias)   \
    FIELD(double*, losses)         \
    FIELD(Update, update)          \
    FIELD(int64_t, steps)
struct ContrastSteps {
    SET_RECORD(ContrastSteps, SET_CONTRAST_STEPS)
};

// Trains; throws std::bad_alloc before anything is changed. O(steps k (n_batch + n_chains) nnz) time.
void train_rbm(const Kernels&, const ContrastSteps&, int64_t threads);

}  // namespace set_native
