// Normalisation of columns before an activation; compiled once per instruction set.
//
// All of it leaves the normalised values, before their scale and shift, where the values were: the activation applies
// the two as it reads (Affine). Moments are of the deviations from a first estimate of the mean, so that a mean far from
// 0 costs no digits.
#include <math.h>

#include "kernels.hpp"
#include "simd.hpp"

namespace set_native::SET_NAMESPACE {
namespace {

constexpr int64_t run = 512;  // values that one float sum takes; longer rows are summed in double

// The sums over a row of the two vectors that terms(b, whole, tail, first, second) adds to.
template <typename Terms>
INLINE void sum_two(int64_t n_batch, double& first, double& second, Terms terms) {
    first = second = 0;
    for (int64_t from = 0; from < n_batch; from += run) {
        vec one = zero(), two = zero();
        for_vectors(n_batch - from < run ? n_batch - from : run,
                    [&](int64_t b, bool whole, tail_mask tail)
                        __attribute__((always_inline)) { terms(from + b, whole, tail, one, two); });
        first += sum(one), second += sum(two);
    }
}

// a where there are values, 0 in the lanes beyond.
INLINE vec existing(vec a, bool whole, int64_t n_batch) {
    return whole ? a : where_bits((1u << (n_batch % width)) - 1u, a);
}

struct Moments {
    double mean, squares;  // squares: the sum of the squared deviations from the mean
};

INLINE Moments moments_of(const float* row, int64_t n_batch) {
    const double count = static_cast<double>(n_batch);
    double total, unused;
    sum_two(n_batch, total, unused, [&](int64_t b, bool whole, tail_mask tail, vec& one, vec&)
        __attribute__((always_inline)) { one = add(one, take(row + b, whole, tail)); });
    const float estimate = static_cast<float>(total / count);
    const vec middle = broadcast(estimate);
    double off, squares;
    sum_two(n_batch, off, squares, [&](int64_t b, bool whole, tail_mask tail, vec& one, vec& two)
        __attribute__((always_inline)) {
            const vec d = existing(sub(take(row + b, whole, tail), middle), whole, n_batch);
            one = add(one, d);
            two = fma(d, d, two);
        });
    return {estimate + off / count, squares - off * off / count};
}

INLINE void standardize(float* row, float mean, float rstd, int64_t n_batch) {
    const vec middle = broadcast(mean), factor = broadcast(rstd);
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        put(row + b, mul(sub(take(row + b, whole, tail), middle), factor), whole, tail);
    });
}

INLINE float reciprocal_deviation(double variance, float eps) {
    return static_cast<float>(1 / sqrt((variance > 0 || variance != variance ? variance : 0) + eps));
}

// Two rows of n_batch floats for every block of sum_block neurons, then two for all neurons.
template <typename Float>
INLINE Float* rows_of_block(Float* sums, int64_t block, int64_t n_batch) { return sums + 2 * block * padded(n_batch); }

// The sums over the batch of d and of d times the normalised values: the gradients of shift and scale.
INLINE void shift_and_scale(const float* x, const float* d, int64_t row, int64_t n_batch,
                            NormGradients to, double& of_shift, double& of_scale) {
    sum_two(n_batch, of_shift, of_scale, [&](int64_t b, bool whole, tail_mask tail, vec& one, vec& two)
        __attribute__((always_inline)) {
            const vec a = take(d + b, whole, tail);
            one = add(one, a);
            two = fma(a, take(x + b, whole, tail), two);
        });
    to.shift[row] = static_cast<float>(of_shift);
    to.scale[row] = static_cast<float>(of_scale);
}

}  // namespace

void normalize(const Normalization& norm, Range mine, const float* merged, Columns z, int64_t n_batch) {
    const double count = static_cast<double>(n_batch);
    for (int64_t row = mine.begin; row < mine.end; row++) {
        float* x = z.row(row);
        if (norm.kind == NormKind::layer) {
            const float* rstd = merged + padded(n_batch);
            for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
                const vec centred = sub(take(x + b, whole, tail), take(merged + b, whole, tail));
                put(x + b, mul(centred, take(rstd + b, whole, tail)), whole, tail);
            });
            continue;
        }
        float mean = norm.mean[row];
        if (norm.kind == NormKind::averages) {
            norm.moments[row] = reciprocal_deviation(norm.variance[row], norm.eps);
        } else {
            const Moments found = moments_of(x, n_batch);
            norm.moments[row] = reciprocal_deviation(found.squares / count, norm.eps);
            const float kept = 1.0f - norm.momentum;
            mean = static_cast<float>(found.mean);
            norm.mean[row] = kept * norm.mean[row] + norm.momentum * mean;
            norm.variance[row] =
                kept * norm.variance[row] + norm.momentum * static_cast<float>(found.squares / (count - 1));
        }
        standardize(x, mean, norm.moments[row], n_batch);
    }
}

void layer_moments(const Normalization& norm, Range mine, Columns z, int64_t n_batch) {
    for (int64_t first = mine.begin; first < mine.end; first += sum_block) {
        const int64_t end = first + sum_block < mine.end ? first + sum_block : mine.end;
        float* means = rows_of_block(norm.moments, first / sum_block, n_batch);
        float* squares = means + padded(n_batch);
        const vec share = broadcast(1.0f / static_cast<float>(end - first));
        for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
            vec total = zero(), off = zero(), square = zero();
            for (int64_t row = first; row < end; row++) total = add(total, take(z.row(row) + b, whole, tail));
            const vec middle = mul(total, share);
            for (int64_t row = first; row < end; row++) {
                const vec d = sub(take(z.row(row) + b, whole, tail), middle);
                off = add(off, d);
                square = fma(d, d, square);
            }
            put(means + b, fma(off, share, middle), whole, tail);
            put(squares + b, sub(square, mul(off, mul(off, share))), whole, tail);
        });
    }
}

void merge_moments(const Normalization& norm, int64_t neurons, float* merged, int64_t n_batch) {
    float* rstd = merged + padded(n_batch);
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        vec mean = zero(), squares = zero();
        for (int64_t first = 0; first < neurons; first += sum_block) {
            const int64_t more = neurons - first < sum_block ? neurons - first : sum_block;
            const float* means = rows_of_block(norm.moments, first / sum_block, n_batch);
            const float share = static_cast<float>(more) / static_cast<float>(first + more);
            const vec apart = sub(take(means + b, whole, tail), mean);
            mean = fma(apart, broadcast(share), mean);
            squares = add(squares, take(means + padded(n_batch) + b, whole, tail));
            squares = fma(mul(apart, apart), broadcast(static_cast<float>(first) * share), squares);
        }
        put(merged + b, mean, whole, tail);
        put(rstd + b, squares, whole, tail);
    });
    for (int64_t b = 0; b < n_batch; b++)
        rstd[b] = reciprocal_deviation(rstd[b] / static_cast<double>(neurons), norm.eps);
}

void normalize_backward(const Normalization& norm, NormGradients to, Range mine, Columns z, Columns dy, Columns dz,
                        int64_t n_batch) {
    for (int64_t row = mine.begin; row < mine.end; row++) {
        const float *x = z.row(row), *d = dy.row(row);
        float* out = dz.row(row);
        double of_shift, of_scale;
        shift_and_scale(x, d, row, n_batch, to, of_shift, of_scale);
        if (norm.kind == NormKind::averages) of_shift = of_scale = 0;  // the averages do not depend on the batch
        const double count = static_cast<double>(n_batch);
        const vec middle = broadcast(static_cast<float>(of_shift / count));
        const vec slope = broadcast(static_cast<float>(-of_scale / count));
        const vec factor = broadcast(norm.scale[row] * norm.moments[row]);
        for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
            const vec centred = sub(take(d + b, whole, tail), middle);
            put(out + b, mul(fma(slope, take(x + b, whole, tail), centred), factor), whole, tail);
        });
    }
}

void layer_sums(const Normalization& norm, NormGradients to, float* sums, Range mine, Columns z, Columns dy,
                int64_t n_batch) {
    for (int64_t first = mine.begin; first < mine.end; first += sum_block) {
        const int64_t end = first + sum_block < mine.end ? first + sum_block : mine.end;
        float* plain = rows_of_block(sums, first / sum_block, n_batch);
        for (int64_t row = first; row < end; row++) {
            double of_shift, of_scale;
            shift_and_scale(z.row(row), dy.row(row), row, n_batch, to, of_shift, of_scale);
        }
        for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
            vec one = zero(), two = zero();
            for (int64_t row = first; row < end; row++) {
                const vec d = mul(take(dy.row(row) + b, whole, tail), broadcast(norm.scale[row]));
                one = add(one, d);
                two = fma(d, take(z.row(row) + b, whole, tail), two);
            }
            put(plain + b, one, whole, tail);
            put(plain + padded(n_batch) + b, two, whole, tail);
        });
    }
}

void merge_sums(const float* sums, int64_t neurons, float* merged, int64_t n_batch) {
    const vec share = broadcast(1.0f / static_cast<float>(neurons));
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        vec one = zero(), two = zero();
        for (int64_t first = 0; first < neurons; first += sum_block) {
            const float* plain = rows_of_block(sums, first / sum_block, n_batch);
            one = add(one, take(plain + b, whole, tail));
            two = add(two, take(plain + padded(n_batch) + b, whole, tail));
        }
        put(merged + b, mul(one, share), whole, tail);
        put(merged + padded(n_batch) + b, mul(two, share), whole, tail);
    });
}

void layer_backward(const Normalization& norm, Range mine, const float* rstd, const float* merged, Columns z,
                    Columns dy, Columns dz, int64_t n_batch) {
    for (int64_t row = mine.begin; row < mine.end; row++) {
        const float *x = z.row(row), *d = dy.row(row);
        float* out = dz.row(row);
        const vec scale = broadcast(norm.scale[row]);
        for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
            const vec along = mul(take(merged + padded(n_batch) + b, whole, tail), take(x + b, whole, tail));
            const vec across = add(along, take(merged + b, whole, tail));
            const vec left = sub(mul(take(d + b, whole, tail), scale), across);
            put(out + b, mul(left, take(rstd + b, whole, tail)), whole, tail);
        });
    }
}

}  // namespace set_native::SET_NAMESPACE
