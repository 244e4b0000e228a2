// What the numerical kernels offer; one table of them per instruction set.
//
// Matrices are "columns": (neurons, n_batch) in memory, `stride` floats from one neuron to the next, so that the batch
// is contiguous. Nothing beyond n_batch is read or written. Every output element is computed by one thread in one fixed
// order: results do not depend on the number of threads.
#pragma once
#include <cstdint>

#include "record.hpp"

namespace set_native {

#define SET_COLUMNS(FIELD) FIELD(float*, data) FIELD(int64_t, stride)
struct Columns {
    SET_RECORD(Columns, SET_COLUMNS)
    float* row(int64_t neuron) const { return data + neuron * stride; }
};

// Rows of one order of a pattern, and how many neurons there are on the other side. `order` says where each
// connection's value lies; null where it is the storage order.
struct Rows {
    int32_t count, others;
    const int32_t *indptr, *indices, *order;
};

// A layer's connections in both orders: `by_output` says through `order` where each value lies.
struct Connections {
    Rows by_input, by_output;
};

enum class Shape { none = -1, relu = 0, srelu = 1 };

// SReLU's parameters, (neurons,) each; unused by ReLU.
#define SET_SLOPES(FIELD) \
    FIELD(float*, t_left) FIELD(float*, a_left) FIELD(float*, right_width) FIELD(float*, a_right)
struct Slopes {
    SET_RECORD(Slopes, SET_SLOPES)
};

// What an activation's input is multiplied with and what is added, (neurons,) each; null: it is taken as it is.
struct Affine {
    const float *scale = nullptr, *shift = nullptr;
};

// By the moments of a neuron's values in the batch; by moving averages of them; by those of a row's neurons.
enum class NormKind { none = 0, batch = 1, averages = 2, layer = 3 };

// Normalisation before an activation.
//   scale, shift    (neurons,)
//   mean, variance  (neurons,), the moving averages: read for NormKind::averages, updated for NormKind::batch
//   moments         written by the forward, read by the backward. (neurons,): 1 / standard deviation. For a layer
//                   (blocks + 1, 2, padded(n_batch)), blocks of sum_block neurons: their mean and sum of squared
//                   deviations, then the mean of all and 1 / standard deviation
#define SET_NORMALIZATION(FIELD) \
    FIELD(NormKind, kind)        \
    FIELD(const float*, scale)   \
    FIELD(const float*, shift)   \
    FIELD(float*, mean)          \
    FIELD(float*, variance)      \
    FIELD(float*, moments)       \
    FIELD(float, momentum)       \
    FIELD(float, eps)
struct Normalization {
    SET_RECORD(Normalization, SET_NORMALIZATION)
};
inline int64_t padded(int64_t n_batch) { return (n_batch + 15) / 16 * 16; }

// The gradients of scale and shift, (neurons,) each.
#define SET_NORM_GRADIENTS(FIELD) FIELD(float*, scale) FIELD(float*, shift)
struct NormGradients {
    SET_RECORD(NormGradients, SET_NORM_GRADIENTS)
};

// Which random numbers: those of this seed and step, by row and column.
#define SET_RANDOM(FIELD) FIELD(uint64_t, seed) FIELD(uint64_t, step)
struct Random {
    SET_RECORD(Random, SET_RANDOM)
};

// Dropout: a value is kept where its random 32-bit word is at least `threshold`, then multiplied by `scale`.
// `kept` has one bit per value: (neurons, words(n_batch)) uint16; null means no dropout.
#define SET_DROPOUT(FIELD) \
    FIELD(uint16_t*, kept) FIELD(uint32_t, threshold) FIELD(float, scale) FIELD(Random, random)
struct Dropout {
    SET_RECORD(Dropout, SET_DROPOUT)
};
inline int64_t mask_words(int64_t n_batch) { return (n_batch + 15) / 16; }

// Units with inputs a = slope z + shift[row] (shift may be null): p = share sigmoid(a), and drawn = 1 with probability
// sigmoid(a), else 0. p.data or drawn.data may be null, either may be z.data.
struct Units {
    Columns z;
    float slope;
    const float* shift;
    Columns p;
    float share;
    Columns drawn;
    Random random;
};

// Rows of a data set, (rows, features), uint8 or float32; the network gets (x - offset) * scale.
#define SET_SOURCE(FIELD)       \
    FIELD(const void*, data)    \
    FIELD(bool, is_bytes)       \
    FIELD(int64_t, features)    \
    FIELD(const float*, offset) \
    FIELD(const float*, scale)
struct Source {
    SET_RECORD(Source, SET_SOURCE)
};

#define SET_IMAGE(FIELD) FIELD(int, channels) FIELD(int, height) FIELD(int, width)
struct Image {
    SET_RECORD(Image, SET_IMAGE)
};

// What is done to the images of a batch, as calls.hpp says of GatherChanged.
struct Changes {
    const int32_t* crops;
    const float* maps;
    const int32_t* squares;
    const float* blank;
};

// What a batch of logits should be. With smoothing s, s / classes for every class and 1 - s for the label; with
// `others`, that label has only its row's share of it, and the other label the rest.
//   labels  (n_batch,) int64
//   others  (n_batch,) int64; null: there are none
//   shares  (n_batch,), null with `others`
#define SET_TARGETS(FIELD) \
    FIELD(const int64_t*, labels) FIELD(const int64_t*, others) FIELD(const float*, shares) FIELD(float, smoothing)
struct Targets {
    SET_RECORD(Targets, SET_TARGETS)
};

// Rows [begin, end): a piece of the work.
struct Range {
    int64_t begin, end;
};

// Every function does a piece of the work; team.hpp divides it and waits where it must.
struct Kernels {
    const char* name;
    // out[r] = bias[r] + sum_k values[order[k]] * in[indices[k]] for the rows of `mine`; bias may be null
    void (*product)(const Rows&, Range mine, const float* values, const float* bias, Columns in, Columns out,
                    int64_t n_batch);
    // One walk over the inputs' rows: dx[i] = sum_k values[k] dy[indices[k]] and dw[k] = <x[i], dy[indices[k]]>, or
    // that much more if `add`; dx.data may be null, or x.data. With relu not 0, x is what ReLU and dropout of that
    // scale gave, and dx goes on through them: relu * dx where x > 0, else 0.
    void (*gradients)(const Rows&, Range mine, const float* values, Columns x, Columns dy, Columns dx, float* dw,
                      bool add, float relu, int64_t n_batch);
    // out[r] = the sum of row r
    void (*sum_rows)(Range mine, Columns in, float* out, int64_t n_batch);
    // y may be z. Shape::none does no more than Affine.
    void (*activate)(Shape, Range mine, Affine, Slopes, Dropout, Columns z, Columns y, int64_t n_batch);
    // dz, which may be dy, and for SReLU the gradients of its four parameters. ReLU needs only the sign of z: y will do.
    // dz is the gradient of what Affine gives.
    void (*activate_backward)(Shape, Range mine, Affine, Slopes, Slopes gradients, Dropout, Columns z, Columns dy,
                              Columns dz, int64_t n_batch);
    // z becomes the normalised z, before scale and shift; merged as merge_moments wrote it, for a layer only
    void (*normalize)(const Normalization&, Range mine, const float* merged, Columns z, int64_t n_batch);
    // The next two come before it for a layer; `mine` is whole blocks of sum_block rows.
    void (*layer_moments)(const Normalization&, Range mine, Columns z, int64_t n_batch);
    // merged  (2, padded(n_batch)), written: the mean of all neurons and 1 / their standard deviation
    void (*merge_moments)(const Normalization&, int64_t neurons, float* merged, int64_t n_batch);
    // dz, which may be dy, from the normalised z; not for a layer
    void (*normalize_backward)(const Normalization&, NormGradients, Range mine, Columns z, Columns dy, Columns dz,
                               int64_t n_batch);
    // The same for a layer in three steps, `sums` and `merged` as the moments: the sums over a block's neurons of the
    // gradient of the normalised z, and of that times it; their means over all neurons; dz.
    void (*layer_sums)(const Normalization&, NormGradients, float* sums, Range mine, Columns z, Columns dy,
                       int64_t n_batch);
    void (*merge_sums)(const float* sums, int64_t neurons, float* merged, int64_t n_batch);
    void (*layer_backward)(const Normalization&, Range mine, const float* rstd, const float* merged, Columns z,
                           Columns dy, Columns dz, int64_t n_batch);
    // The sum over the batch of -log softmax(logits)[label], and its gradient times `scale`; NaN where a label is no
    // class. One thread: a batch of logits is small.
    double (*cross_entropy)(Columns logits, const Targets&, int64_t classes, int64_t n_batch, Columns gradient,
                            float scale);
    // Momentum SGD for the elements of `mine`: m = momentum m + g + decay w, then w -= rate m (nesterov: rate
    // (g + decay w + momentum m))
    void (*descend)(Range mine, float* w, const float* g, float* m, float rate, float momentum, float decay,
                    bool nesterov);
    // Bernoulli units of an RBM
    void (*units)(const Units&, Range mine, int64_t n_batch);
    // The next three are for at most sum_block rows.
    // The sum over rows and batch of log(1 + exp(z)) - v z: the cross-entropy of v under the probabilities of z
    double (*cross_entropy_of_units)(Range mine, Columns z, Columns v, int64_t n_batch);
    // sums[b] += the sum over the rows of log(1 + exp(to z)) - log(1 + exp(from z)), 0 <= from <= to
    void (*anneal)(Range mine, float from, float to, Columns z, double* sums, int64_t n_batch);
    // sums[b] += factor times the sum over the rows of weights[row] v
    void (*weigh)(Range mine, const float* weights, double factor, Columns v, double* sums, int64_t n_batch);
    // out[f][b] = scaled feature f of source row rows[b], for the features of `mine`
    void (*gather)(const Source&, Range mine, const int64_t* rows, Columns out, int64_t n_batch);
    // The same for the samples of `mine`, images that are changed; scratch has changed_scratch() floats
    void (*gather_changed)(const Source&, Range mine, Image, const int64_t* rows, const Changes&, Columns out,
                           float* scratch);
    // x[f][b] = share x[f][b] + (1 - share) x[f][partner], for the features of `mine`; scratch has 3 n_batch floats
    void (*mix)(Range mine, Columns x, const int64_t* partners, const float* shares, int64_t n_batch, float* scratch);
    // out[f][b] = in[b * stride_batch + f * stride_feature], for the features of `mine`
    void (*to_columns)(const float* in, Range mine, int64_t stride_batch, int64_t stride_feature, Columns out,
                       int64_t n_batch);
};

constexpr int64_t sum_block = 32;  // rows of a sum over neurons: where a block ends does not depend on the threads
constexpr int turned = 16;  // samples and features that are turned over at a time
inline int64_t changed_scratch(const Source& source, Image image) {
    return source.features * (turned + 1) + int64_t{image.channels} * (image.height + 1) * (image.width + 1);
}

namespace portable { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }

}  // namespace set_native
