// A stack of sparse layers, each with its activation, in one call each way.
//
// Addresses are of float32 arrays, columns as in kernels.hpp. A layer has n_in inputs, n_out outputs and nnz
// connections, a batch n_batch rows.
#pragma once
#include <functional>

#include "kernels.hpp"
#include "team.hpp"

namespace set_native {

// What the backward reads as the forward was given it or has written it.
//   dropout  kept (n_out, mask_words(n_batch)): written by the forward, read by the backward
//   x        (n_in, n_batch), the layer's input
//   z        (n_out, n_batch), the input of the activation; of ReLU the output, which has the sign that counts
#define SET_LAYER(FIELD)        \
    FIELD(Connections, pattern) \
    FIELD(Dropout, dropout)     \
    FIELD(Columns, x)           \
    FIELD(Columns, z)
struct Layer {
    SET_RECORD(Layer, SET_LAYER)
};

//   values  (nnz,) in the pattern's storage order
//   bias    (n_out,)
//   norm    of the product, before the activation, if any; z is then normalised, without scale and shift
//   shape   of the activation, if any
//   slopes  (n_out,) each, of SReLU
//   y       (n_out, n_batch), the output, written where there is an activation or a norm; may be z
#define SET_LAYER_FORWARD(FIELD) \
    FIELD(Layer, layer)          \
    FIELD(const float*, values)  \
    FIELD(const float*, bias)    \
    FIELD(Normalization, norm)   \
    FIELD(Shape, shape)          \
    FIELD(Slopes, slopes)        \
    FIELD(Columns, y)
struct LayerForward {
    SET_RECORD(LayerForward, SET_LAYER_FORWARD)
};

//   values, norm, slopes  as in the forward
//   norm_gradients   written, where there is a norm
//   norm_sums        (blocks + 1, 2, padded(n_batch)), written, for a norm over the layer: see Normalization
//   shape            as in the forward; Shape::none also where the layer behind this one takes care of a ReLU
//   slope_gradients  (n_out,) each, written: of SReLU's parameters
//   dy               (n_out, n_batch), the gradient of the output
//   dz               (n_out, n_batch), written where there is an activation or a norm: the gradient of the product; may be dy,
//                    and is dy where there is neither
//   dx               (n_in, n_batch), written: the gradient of the input; may be x, and null for the first layer
//   dw, db           (nnz,) and (n_out,), written: the gradients of values and biases
//   relu             not 0: x is the output of a ReLU whose dropout has this scale, and dx is the gradient of its input
#define SET_LAYER_BACKWARD(FIELD)        \
    FIELD(Layer, layer)                  \
    FIELD(const float*, values)          \
    FIELD(Normalization, norm)           \
    FIELD(NormGradients, norm_gradients) \
    FIELD(float*, norm_sums)             \
    FIELD(Shape, shape)                  \
    FIELD(Slopes, slopes)                \
    FIELD(Slopes, slope_gradients)       \
    FIELD(Columns, dy)                   \
    FIELD(Columns, dz)                   \
    FIELD(Columns, dx)                   \
    FIELD(float*, dw)                    \
    FIELD(float*, db)                    \
    FIELD(float, relu)
struct LayerBackward {
    SET_RECORD(LayerBackward, SET_LAYER_BACKWARD)
};

// Called by a piece of the backward when gradients are written and what they belong to has been read for the last time:
// those of the values of a layer's inputs in `rows`, and those of the parameters of its outputs in `rows`.
struct AfterGradients {
    using Call = std::function<void(int64_t layer, Range rows, const Piece&)>;
    Call of_values, of_outputs;
};

// What stack_forward and stack_backward do, as phases; the layers must stay where they are. In every round but the first
// dropout draws the masks of the step that comes next.
void add_forward(Phases&, const Kernels&, const LayerForward* layers, int64_t count, int64_t n_batch);
void add_backward(Phases&, const Kernels&, const LayerBackward* layers, int64_t count, int64_t n_batch,
                  const AfterGradients& then);

// Writes z, y and the masks of all `count` layers, the first layer first; each layer's y is the x of the next.
// O(n_batch nnz) time.
void stack_forward(const Kernels&, const LayerForward* layers, int64_t count, int64_t n_batch, int64_t threads);

// Writes the gradients of all `count` layers, the last layer first: each layer's dx is the dy of the one before it.
// O(n_batch nnz) time.
void stack_backward(const Kernels&, const LayerBackward* layers, int64_t count, int64_t n_batch, int64_t threads);

}  // namespace set_native
