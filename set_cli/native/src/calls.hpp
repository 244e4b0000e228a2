// Calls of one kernel each, by a team of threads: what a layer, an activation, the loss, the optimiser and the inputs
// need one at a time. stack.hpp and rbm.hpp have the calls of several kernels.
//
// Columns as in kernels.hpp; all addresses are of float32 arrays where nothing else is said. Results do not depend on
// the number of threads.
#pragma once
#include "kernels.hpp"

namespace set_native {

// A layer's product with a batch. For n rows, the outputs if `by_output`, else the inputs, and m neurons on the other
// side:
//   values  (nnz,) in the pattern's storage order
//   bias    (n,), may be null
//   x, y    (m, n_batch); (n, n_batch), written: the sum of values times x over each row's connections, plus bias
#define SET_PRODUCT(FIELD)      \
    FIELD(Connections, pattern) \
    FIELD(bool, by_output)      \
    FIELD(const float*, values) \
    FIELD(const float*, bias)   \
    FIELD(Columns, x)           \
    FIELD(Columns, y)           \
    FIELD(int64_t, n_batch)
struct Product {
    SET_RECORD(Product, SET_PRODUCT)
};
// O(n_batch nnz) time.
void product(const Kernels&, const Product&, int64_t threads);

// A layer's gradients.
//   values  (nnz,); null where dx is null
//   x, dy   (n_in, n_batch), (n_out, n_batch)
//   dx      (n_in, n_batch), written: the gradient of x; may be null
//   dw, db  (nnz,), (n_out,), written: the gradients of values and biases; db may be null
#define SET_GRADIENTS(FIELD)    \
    FIELD(Connections, pattern) \
    FIELD(const float*, values) \
    FIELD(Columns, x)           \
    FIELD(Columns, dy)          \
    FIELD(Columns, dx)          \
    FIELD(float*, dw)           \
    FIELD(float*, db)           \
    FIELD(int64_t, n_batch)
struct Gradients {
    SET_RECORD(Gradients, SET_GRADIENTS)
};
// O(n_batch nnz) time.
void gradients(const Kernels&, const Gradients&, int64_t threads);

// An activation with its dropout.
//   slopes   (neurons,) each, of SReLU
//   dropout  kept (neurons, mask_words(n_batch)), written
//   z, y     (neurons, n_batch); the same, written, may be z
#define SET_ACTIVATION(FIELD) \
    FIELD(Shape, shape)       \
    FIELD(Slopes, slopes)     \
    FIELD(Dropout, dropout)   \
    FIELD(Columns, z)         \
    FIELD(Columns, y)         \
    FIELD(int64_t, neurons)   \
    FIELD(int64_t, n_batch)
struct Activation {
    SET_RECORD(Activation, SET_ACTIVATION)
};
// O(neurons n_batch) time.
void activate(const Kernels&, const Activation&, int64_t threads);

// Its gradients, with what the forward was given.
//   dropout          kept as the forward wrote it
//   slope_gradients  (neurons,) each, written: of SReLU's parameters
//   z, dy            (neurons, n_batch)
//   dz               (neurons, n_batch), written, may be dy
#define SET_ACTIVATION_BACKWARD(FIELD) \
    FIELD(Shape, shape)                \
    FIELD(Slopes, slopes)              \
    FIELD(Dropout, dropout)            \
    FIELD(Slopes, slope_gradients)     \
    FIELD(Columns, z)                  \
    FIELD(Columns, dy)                 \
    FIELD(Columns, dz)                 \
    FIELD(int64_t, neurons)            \
    FIELD(int64_t, n_batch)
struct ActivationBackward {
    SET_RECORD(ActivationBackward, SET_ACTIVATION_BACKWARD)
};
// O(neurons n_batch) time.
void activate_backward(const Kernels&, const ActivationBackward&, int64_t threads);

// The loss of a batch of logits.
//   logits, gradient  (classes, n_batch); the same, written: the gradient times `scale`
#define SET_CROSS_ENTROPY(FIELD) \
    FIELD(Columns, logits)       \
    FIELD(Targets, targets)      \
    FIELD(int64_t, classes)      \
    FIELD(int64_t, n_batch)      \
    FIELD(Columns, gradient)     \
    FIELD(float, scale)
struct CrossEntropy {
    SET_RECORD(CrossEntropy, SET_CROSS_ENTROPY)
};
// The sum over the batch of -log softmax(logits)[label]; NaN where a label is no class. In one thread,
// O(classes n_batch) time.
double cross_entropy(const Kernels&, const CrossEntropy&);

// A parameter and its momentum, (elements,) each, both updated in place, and the gradient (elements,).
#define SET_DESCENT(FIELD)        \
    FIELD(float*, parameter)      \
    FIELD(const float*, gradient) \
    FIELD(float*, momentum)       \
    FIELD(int64_t, elements)      \
    FIELD(float, decay)
struct Descent {
    SET_RECORD(Descent, SET_DESCENT)
};
// A step of momentum SGD for `number` parameters: O(their elements) time.
void descend(const Kernels&, const Descent* parameters, int64_t number, float rate, float momentum, bool nesterov,
             int64_t threads);

// Rows of a data set.
//   rows  (n_batch,) int64 row numbers, all below the source's rows
//   out   (features, n_batch), written: these rows, scaled
#define SET_GATHER(FIELD)       \
    FIELD(Source, source)       \
    FIELD(const int64_t*, rows) \
    FIELD(Columns, out)         \
    FIELD(int64_t, n_batch)
struct Gather {
    SET_RECORD(Gather, SET_GATHER)
};
// O(features n_batch) time.
void gather(const Kernels&, const Gather&, int64_t threads);

// The same for images, each changed in its own way.
//   image    channels, height and width, whose product is the source's features
//   crops    (n_batch, 2) int32: pixels further down and to the right at which the image is read, reflected at its
//            borders; null: 0
//   maps     (n_batch, 2, 3) from output to input coordinates in [-1, 1]; null: the image stays where it is
//   squares  (n_batch, 4) int32: the lines [top, bottom) and columns [left, right) that become blank; null: none
//   blank    (features,)
#define SET_GATHER_CHANGED(FIELD)  \
    FIELD(Source, source)          \
    FIELD(Image, image)            \
    FIELD(const int64_t*, rows)    \
    FIELD(const int32_t*, crops)   \
    FIELD(const float*, maps)      \
    FIELD(const int32_t*, squares) \
    FIELD(const float*, blank)     \
    FIELD(Columns, out)            \
    FIELD(int64_t, n_batch)
struct GatherChanged {
    SET_RECORD(GatherChanged, SET_GATHER_CHANGED)
};
// Throws std::bad_alloc. O(features n_batch) time, changed_scratch() floats of memory for each thread.
void gather_changed(const Kernels&, const GatherChanged&, int64_t threads);

// A batch whose rows become mixtures with others of it.
//   x         (features, n_batch), changed: share x[b] + (1 - share) x[partner]
//   partners  (n_batch,) int64, all below n_batch
//   shares    (n_batch,)
#define SET_MIX(FIELD)              \
    FIELD(Columns, x)               \
    FIELD(const int64_t*, partners) \
    FIELD(const float*, shares)     \
    FIELD(int64_t, features)        \
    FIELD(int64_t, n_batch)
struct Mix {
    SET_RECORD(Mix, SET_MIX)
};
// Throws std::bad_alloc. O(features n_batch) time, 3 n_batch floats of memory for each thread.
void mix(const Kernels&, const Mix&, int64_t threads);

// A batch in any layout, as columns.
//   x    element (b, f) of (n_batch, features) lies at b * stride_batch + f * stride_feature
//   out  (features, n_batch), written
#define SET_TO_COLUMNS(FIELD)      \
    FIELD(const float*, x)         \
    FIELD(int64_t, stride_batch)   \
    FIELD(int64_t, stride_feature) \
    FIELD(Columns, out)            \
    FIELD(int64_t, features)       \
    FIELD(int64_t, n_batch)
struct ToColumns {
    SET_RECORD(ToColumns, SET_TO_COLUMNS)
};
// O(features n_batch) time.
void to_columns(const Kernels&, const ToColumns&, int64_t threads);

}  // namespace set_native
