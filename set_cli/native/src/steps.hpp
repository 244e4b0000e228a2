// Whole training steps of a stack with momentum SGD, as many as are wanted in one call: inputs gathered, forward, loss,
// backward, update.
//
// A step computes what the calls of calls.hpp and stack.hpp compute one after the other, bit for bit.
#pragma once
#include "calls.hpp"
#include "stack.hpp"

namespace set_native {

// All arrays by row or by step begin with those of the first step of the call.
//   inputs    n_batch rows of each step: rows, crops, maps and squares (steps n_batch, ...) in the order of the epoch; out is
//             the first layer's x. With source.data null it is there already, the same in every step
//   clip      largest absolute value of an input; 0: any
//   loss      logits are the last layer's output, gradient its dy; labels (steps n_batch,)
//   losses    (steps,) double, written: as cross_entropy returns them
//   rates     (steps,) learning rates
//   l1        strength of the L1 penalty on values: its subgradient is added to theirs
#define SET_STEPS(FIELD)          \
    FIELD(GatherChanged, inputs)  \
    FIELD(float, clip)            \
    FIELD(CrossEntropy, loss)     \
    FIELD(double*, losses)        \
    FIELD(const float*, rates)    \
    FIELD(float, momentum)        \
    FIELD(bool, nesterov)         \
    FIELD(float, l1)              \
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

}  // namespace set_native
