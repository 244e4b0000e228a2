// What the numerical kernels offer; one table of them per instruction set.
//
// Matrices are "columns": (neurons, n_batch) in memory, `stride` floats from one neuron to the next, so that the batch
// is contiguous. Nothing beyond n_batch is read or written. Every output element is computed by one thread in one fixed
// order: results do not depend on the number of threads.
#pragma once
#include <cstdint>

namespace set_native {

struct Columns {
    float* data;
    int64_t stride;
    float* row(int64_t neuron) const { return data + neuron * stride; }
};

// Rows of one order of a pattern, and how many neurons there are on the other side. `order` says where each
// connection's value lies; null where it is the storage order.
struct Rows {
    int32_t count, others;
    const int32_t *indptr, *indices, *order;
};

enum class Shape { relu = 0, srelu = 1 };

// SReLU's parameters, (neurons,) each; unused by ReLU.
struct Slopes {
    float *t_left, *a_left, *right_width, *a_right;
};

// Dropout: a value is kept where its random 32-bit word is at least `threshold`, then multiplied by `scale`.
// `kept` has one bit per value: (neurons, words(n_batch)) uint16; null means no dropout.
struct Dropout {
    uint16_t* kept;
    uint32_t threshold;
    float scale;
    uint64_t seed, step;
};
inline int64_t mask_words(int64_t n_batch) { return (n_batch + 15) / 16; }

// Rows of a data set, (rows, features), uint8 or float32; the network gets (x - offset) * scale.
struct Source {
    const void* data;
    bool is_bytes;
    int64_t features;
    const float *offset, *scale;
};

struct Image {
    int channels, height, width;
};

struct Kernels {
    const char* name;
    // out[r] = bias[r] + sum_k values[order[k]] * in[indices[k]]; bias may be null
    void (*product)(const Rows&, const float* values, const float* bias, Columns in, Columns out, int64_t n_batch,
                    int threads);
    // One walk over the inputs' rows: dx[i] = sum_k values[k] dy[indices[k]] and dw[k] = <x[i], dy[indices[k]]>;
    // dx.data may be null. Then db[o] = sum of dy[o]; db may be null.
    void (*gradients)(const Rows&, const float* values, Columns x, Columns dy, Columns dx, float* dw, float* db,
                      int64_t n_batch, int threads);
    void (*activate)(Shape, Slopes, Dropout, Columns z, Columns y, int64_t neurons, int64_t n_batch, int threads);
    // dz, and for SReLU the gradients of its four parameters
    void (*activate_backward)(Shape, Slopes, Slopes gradients, Dropout, Columns z, Columns dy, Columns dz,
                              int64_t neurons, int64_t n_batch, int threads);
    // out[f][b] = scaled feature f of source row rows[b]
    void (*gather)(const Source&, const int64_t* rows, Columns out, int64_t n_batch, int threads);
    // The same, each row an image moved by its own map (2, 3) from output to input coordinates in [-1, 1]; false
    // where there is no memory for the scratch space
    bool (*gather_moved)(const Source&, Image, const int64_t* rows, const float* maps, Columns out, int64_t n_batch,
                         int threads);
    // out[f][b] = in[b * stride_batch + f * stride_feature]
    void (*to_columns)(const float* in, int64_t stride_batch, int64_t stride_feature, Columns out, int64_t features,
                       int64_t n_batch, int threads);
};

namespace portable { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }

}  // namespace set_native
