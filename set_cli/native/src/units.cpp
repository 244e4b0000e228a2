// Bernoulli units of an RBM: their probabilities, draws and sums; compiled once per instruction set.
#include <math.h>

#include "kernels.hpp"
#include "philox.hpp"
#include "simd.hpp"

namespace set_native::SET_NAMESPACE {
namespace {

// e^x within 2 units in the last place (Cephes' expf), for x held between -87 and 87; NaN stays NaN: min and max give
// their second operand then.
INLINE vec exponential(vec x) {
    const vec to_nearest = broadcast(0x1.8p23f);
    x = max(broadcast(-87.0f), min(broadcast(87.0f), x));
    const vec n = sub(fma(x, broadcast(1.44269504f), to_nearest), to_nearest);
    const vec r = fma(n, broadcast(2.12194440e-4f), fma(n, broadcast(-0.693359375f), x));
    vec y = fma(broadcast(1.9875691500e-4f), r, broadcast(1.3981999507e-3f));
    y = fma(y, r, broadcast(8.3334519073e-3f));
    y = fma(y, r, broadcast(4.1665795894e-2f));
    y = fma(y, r, broadcast(1.6666665459e-1f));
    y = fma(y, r, broadcast(0.5f));
    return mul(fma(mul(y, r), r, add(r, broadcast(1.0f))), power_of_two(n));
}

INLINE vec size_of(vec a) { return max(a, sub(zero(), a)); }

template <bool Drawn>
void units_of(const Units& units, Range mine, int64_t n_batch) {
    const vec one = broadcast(1.0f), slope = broadcast(units.slope), share = broadcast(units.share);
    for (int64_t row = mine.begin; row < mine.end; row++) {
        const vec shift = broadcast(units.shift ? units.shift[row] : 0.0f);
        for (int64_t first = 0; first < n_batch; first += random_block) {
            alignas(64) uint32_t random[random_block];
            if (Drawn) {
                for (int lane = 0; lane < random_block / 4; lane += word_lanes) {
                    words c[4];
                    random_words(units.random, row, first, lane, c);
                    for (int q = 0; q < 4; q++) store_words(random + q * (random_block / 4) + lane, c[q]);
                }
            }
            const int64_t count = n_batch - first < random_block ? n_batch - first : random_block;
            const float* from = units.z.row(row) + first;
            float* p = units.p.data ? units.p.row(row) + first : nullptr;
            float* drawn = Drawn ? units.drawn.row(row) + first : nullptr;
            for_vectors(count, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
                const vec a = fma(slope, take(from + b, whole, tail), shift);
                const vec probability = div(one, add(one, exponential(sub(zero(), a))));
                if (p) put(p + b, mul(share, probability), whole, tail);
                if (Drawn) put(drawn + b, where_less(uniform(random + b), probability, one), whole, tail);
            });
        }
    }
}

}  // namespace

void units(const Units& units, Range mine, int64_t n_batch) {
    (units.drawn.data ? units_of<true> : units_of<false>)(units, mine, n_batch);
}

// Of log(1 + e^z) = max(z, 0) + log(1 + e^-|z|) the logarithms are taken of products over rows: each factor is at most
// 2, so that those of a block stay finite.

double cross_entropy_of_units(Range mine, Columns z, Columns v, int64_t n_batch) {
    double total = 0;
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        vec product = broadcast(1.0f), rest = zero();
        for (int64_t row = mine.begin; row < mine.end; row++) {
            const vec a = take(z.row(row) + b, whole, tail);
            product = fma(product, exponential(sub(zero(), size_of(a))), product);
            rest = add(rest, sub(max(zero(), a), mul(take(v.row(row) + b, whole, tail), a)));
        }
        float products[width], rests[width];
        store(products, product);
        store(rests, rest);
        for (int64_t i = 0; i < width && b + i < n_batch; i++)
            total += static_cast<double>(rests[i]) + static_cast<double>(logf(products[i]));
    });
    return total;
}

void anneal(Range mine, float from, float to, Columns z, double* sums, int64_t n_batch) {
    const vec from_slope = broadcast(-from), to_slope = broadcast(-to);
    const double step = static_cast<double>(to) - static_cast<double>(from);
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        vec before = broadcast(1.0f), after = broadcast(1.0f), positive = zero();
        for (int64_t row = mine.begin; row < mine.end; row++) {
            const vec a = take(z.row(row) + b, whole, tail), size = size_of(a);
            before = fma(before, exponential(mul(from_slope, size)), before);
            after = fma(after, exponential(mul(to_slope, size)), after);
            positive = add(positive, max(zero(), a));
        }
        float ratios[width], positives[width];
        store(ratios, div(after, before));
        store(positives, positive);
        for (int64_t i = 0; i < width && b + i < n_batch; i++)
            sums[b + i] += step * static_cast<double>(positives[i]) + static_cast<double>(logf(ratios[i]));
    });
}

void weigh(Range mine, const float* weights, double factor, Columns v, double* sums, int64_t n_batch) {
    for_vectors(n_batch, [&](int64_t b, bool whole, tail_mask tail) __attribute__((always_inline)) {
        vec total = zero();
        for (int64_t row = mine.begin; row < mine.end; row++)
            total = fma(broadcast(weights[row]), take(v.row(row) + b, whole, tail), total);
        float totals[width];
        store(totals, total);
        for (int64_t i = 0; i < width && b + i < n_batch; i++) sums[b + i] += factor * static_cast<double>(totals[i]);
    });
}

}  // namespace set_native::SET_NAMESPACE
