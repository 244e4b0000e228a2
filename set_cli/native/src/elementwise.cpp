// Activation with dropout in one pass each way, the loss, and the descent; compiled once per instruction set.
#include <math.h>

#include "kernels.hpp"
#include "philox.hpp"
#include "simd.hpp"

namespace set_native::SET_NAMESPACE {
namespace {

constexpr int word = 16;  // values per mask word

// Whether each value of a row is kept, one bit per value.
void draw_kept(const Dropout& dropout, int64_t row, int64_t n_batch) {
    uint16_t* bits = dropout.kept + row * mask_words(n_batch);
    for (int64_t first = 0; first < n_batch; first += random_block) {
        unsigned kept[4] = {0, 0, 0, 0};
        for (int lane = 0; lane < word; lane += word_lanes) {
            words c[4];
            random_words(dropout.random, row, first, lane, c);
            for (int q = 0; q < 4; q++) kept[q] |= bits_at_least(c[q], dropout.threshold) << lane;
        }
        for (int q = 0; q < 4 && first + q * word < n_batch; q++)
            bits[first / word + q] = static_cast<uint16_t>(kept[q]);
    }
}

INLINE unsigned bits_at(const uint16_t* row, int64_t b) { return row[b / word] >> (b % word); }

// What the activation of a row takes: a itself, or what Affine makes of it.
template <bool Scaled>
struct Input {
    vec scale = zero(), shift = zero();
    INLINE Input(Affine affine, int64_t row) {
        if (Scaled) scale = broadcast(affine.scale[row]), shift = broadcast(affine.shift[row]);
    }
    INLINE vec operator()(vec a) const { return Scaled ? fma(a, scale, shift) : a; }
};

template <Shape shape, bool Dropped, bool Scaled>
INLINE void activate_row(Affine affine, Slopes slopes, const Dropout& dropout, const float* z, float* y,
                         int64_t row, int64_t n_batch) {
    const Input<Scaled> input(affine, row);
    const uint16_t* bits = Dropped ? dropout.kept + row * mask_words(n_batch) : nullptr;
    const vec scale = broadcast(Dropped ? dropout.scale : 1.0f);
    vec left = zero(), right = zero(), below = zero(), above = zero();
    if (shape == Shape::srelu) {
        left = broadcast(slopes.t_left[row]);
        right = broadcast(slopes.t_left[row] + __builtin_fabsf(slopes.right_width[row]));
        below = broadcast(slopes.a_left[row] - 1.0f);
        above = broadcast(slopes.a_right[row] - 1.0f);
    }
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        vec a = input(take(z + b, whole, tail));
        if (shape == Shape::srelu)
            // z is its middle part plus what lies below and above it, so only the excess slopes need adding.
            a = fma(above, max(zero(), sub(a, right)), fma(below, min(zero(), sub(a, left)), a));
        else if (shape == Shape::relu)
            a = max(zero(), a);  // in this order a NaN stays one
        if (Dropped) a = where_bits(bits_at(bits, b), mul(a, scale));
        put(y + b, a, whole, tail);
    });
}

template <Shape shape, bool Dropped, bool Scaled>
INLINE void activate_row_backward(Affine affine, Slopes slopes, Slopes gradients, const Dropout& dropout,
                                  const float* z, const float* dy, float* dz, int64_t row, int64_t n_batch) {
    const Input<Scaled> input(affine, row);
    const uint16_t* bits = Dropped ? dropout.kept + row * mask_words(n_batch) : nullptr;
    const vec scale = broadcast(Dropped ? dropout.scale : 1.0f);
    float t_left = 0, width_of_middle = 0, a_left = 1, a_right = 1;
    if (shape == Shape::srelu) {
        t_left = slopes.t_left[row], width_of_middle = slopes.right_width[row];
        a_left = slopes.a_left[row], a_right = slopes.a_right[row];
    }
    const vec left = broadcast(t_left), right = broadcast(t_left + __builtin_fabsf(width_of_middle));
    const vec below = broadcast(a_left - 1.0f), above = broadcast(a_right - 1.0f);
    vec sum_below = zero(), sum_above = zero(), part_below = zero(), part_above = zero();
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        const vec a = input(take(z + b, whole, tail));
        vec d = take(dy + b, whole, tail);
        if (Dropped) d = where_bits(bits_at(bits, b), mul(d, scale));
        if (shape == Shape::srelu) {
            const vec d_below = where_at_most(a, left, d), d_above = where_at_most(right, a, d);
            sum_below = add(sum_below, d_below);
            sum_above = add(sum_above, d_above);
            part_below = fma(d_below, sub(a, left), part_below);
            part_above = fma(d_above, sub(a, right), part_above);
            d = fma(below, d_below, fma(above, d_above, d));
        } else {
            d = where_less(zero(), a, d);
        }
        put(dz + b, d, whole, tail);
    });
    if (shape == Shape::srelu) {
        const float to_right = -(a_right - 1.0f) * sum(sum_above);
        gradients.t_left[row] = to_right - (a_left - 1.0f) * sum(sum_below);
        gradients.a_left[row] = sum(part_below);
        gradients.a_right[row] = sum(part_above);
        gradients.right_width[row] = width_of_middle > 0 ? to_right : width_of_middle < 0 ? -to_right : 0.0f;
    }
}

template <Shape shape, bool Dropped, bool Scaled>
void activate_rows(Affine affine, Slopes slopes, const Dropout& dropout, Columns z, Columns y, Range mine,
                   int64_t n_batch) {
    for (int64_t row = mine.begin; row < mine.end; row++) {
        if (Dropped) draw_kept(dropout, row, n_batch);
        activate_row<shape, Dropped, Scaled>(affine, slopes, dropout, z.row(row), y.row(row), row, n_batch);
    }
}

template <Shape shape, bool Dropped, bool Scaled>
void activate_rows_backward(Affine affine, Slopes slopes, Slopes gradients, const Dropout& dropout, Columns z,
                            Columns dy, Columns dz, Range mine, int64_t n_batch) {
    for (int64_t row = mine.begin; row < mine.end; row++)
        activate_row_backward<shape, Dropped, Scaled>(affine, slopes, gradients, dropout, z.row(row), dy.row(row),
                                                      dz.row(row), row, n_batch);
}

template <bool Scaled>
constexpr auto rows_of(Shape shape, bool dropped) {
    if (shape == Shape::none) return activate_rows<Shape::none, false, Scaled>;
    if (shape == Shape::srelu)
        return dropped ? activate_rows<Shape::srelu, true, Scaled> : activate_rows<Shape::srelu, false, Scaled>;
    return dropped ? activate_rows<Shape::relu, true, Scaled> : activate_rows<Shape::relu, false, Scaled>;
}

template <bool Scaled>
constexpr auto rows_backward_of(Shape shape, bool dropped) {
    if (shape == Shape::srelu)
        return dropped ? activate_rows_backward<Shape::srelu, true, Scaled>
                       : activate_rows_backward<Shape::srelu, false, Scaled>;
    return dropped ? activate_rows_backward<Shape::relu, true, Scaled>
                   : activate_rows_backward<Shape::relu, false, Scaled>;
}

// The gradient of `count` rows that have softened targets, from its exponentials and what they are multiplied by. What
// the targets add to the loss that the labels alone would have.
double soften(Columns logits, const Targets& targets, int64_t classes, int64_t first, int count, const float* factors,
              Columns gradient, float scale) {
    const float evenly = targets.smoothing / static_cast<float>(classes), kept = 1.0f - targets.smoothing;
    double more = 0;
    for (int64_t c = 0; c < classes; c++) {
        const float* row = logits.row(c) + first;
        float* to = gradient.row(c) + first;
        for (int b = 0; b < count; b++) {
            const int64_t label = targets.labels[first + b], other = targets.others ? targets.others[first + b] : label;
            const float share = targets.others ? targets.shares[first + b] : 1.0f;
            const float own = (label == c ? share : 0.0f) + (other == c ? 1.0f - share : 0.0f);
            const float target = kept * own + evenly;
            more += ((label == c ? 1.0 : 0.0) - target) * row[b];
            to[b] = to[b] * factors[b] - scale * target;
        }
    }
    return more;
}

}  // namespace

void activate(Shape shape, Range mine, Affine affine, Slopes slopes, Dropout dropout, Columns z, Columns y,
              int64_t n_batch) {
    const auto rows = affine.scale ? rows_of<true>(shape, dropout.kept) : rows_of<false>(shape, dropout.kept);
    rows(affine, slopes, dropout, z, y, mine, n_batch);
}

void activate_backward(Shape shape, Range mine, Affine affine, Slopes slopes, Slopes gradients, Dropout dropout,
                       Columns z, Columns dy, Columns dz, int64_t n_batch) {
    const auto rows =
        affine.scale ? rows_backward_of<true>(shape, dropout.kept) : rows_backward_of<false>(shape, dropout.kept);
    rows(affine, slopes, gradients, dropout, z, dy, dz, mine, n_batch);
}

double cross_entropy(Columns logits, const Targets& targets, int64_t classes, int64_t n_batch, Columns gradient,
                     float scale) {
    const int64_t* labels = targets.labels;
    const bool soft = targets.others || targets.smoothing != 0;
    constexpr int run = 64;
    double total = 0;
    for (int64_t b0 = 0; b0 < n_batch; b0 += run) {
        const int count = n_batch - b0 < run ? static_cast<int>(n_batch - b0) : run;
        float largest[run], sum_of_powers[run];
        for (int b = 0; b < count; b++) {
            if (labels[b0 + b] < 0 || labels[b0 + b] >= classes) return NAN;
            if (targets.others && (targets.others[b0 + b] < 0 || targets.others[b0 + b] >= classes)) return NAN;
            largest[b] = logits.row(0)[b0 + b];
            sum_of_powers[b] = 0;
        }
        for (int64_t c = 1; c < classes; c++) {
            const float* row = logits.row(c) + b0;
            for (int b = 0; b < count; b++) largest[b] = row[b] > largest[b] ? row[b] : largest[b];
        }
        for (int64_t c = 0; c < classes; c++) {
            const float* row = logits.row(c) + b0;
            float* to = gradient.row(c) + b0;
            for (int b = 0; b < count; b++) {
                to[b] = expf(row[b] - largest[b]);
                sum_of_powers[b] += to[b];
            }
        }
        for (int b = 0; b < count; b++) {
            const int64_t label = labels[b0 + b];
            total += static_cast<double>(logf(sum_of_powers[b])) + largest[b] - logits.row(label)[b0 + b];
            sum_of_powers[b] = scale / sum_of_powers[b];
        }
        if (soft) {
            total += soften(logits, targets, classes, b0, count, sum_of_powers, gradient, scale);
            continue;
        }
        for (int64_t c = 0; c < classes; c++) {
            float* to = gradient.row(c) + b0;
            for (int b = 0; b < count; b++) to[b] = to[b] * sum_of_powers[b] - (labels[b0 + b] == c ? scale : 0.0f);
        }
    }
    return total;
}

void descend(Range mine, float* __restrict w, const float* __restrict g, float* __restrict m, float rate,
             float momentum, float decay, bool nesterov) {
    if (nesterov) {
        for (int64_t k = mine.begin; k < mine.end; k++) {
            const float d = g[k] + decay * w[k];
            m[k] = momentum * m[k] + d;
            w[k] -= rate * (d + momentum * m[k]);
        }
    } else {
        for (int64_t k = mine.begin; k < mine.end; k++) {
            m[k] = momentum * m[k] + (g[k] + decay * w[k]);
            w[k] -= rate * m[k];
        }
    }
}

}  // namespace set_native::SET_NAMESPACE
