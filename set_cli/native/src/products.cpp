// The three products of a sparse layer; compiled once per instruction set.
//
// A thread keeps a tile of the batch in registers while it walks the connections of one row, so each connection costs
// one read of its neighbour's row. The bound is the traffic of those rows out of L2 and L3, not arithmetic.
#include "blocks.hpp"
#include "kernels.hpp"
#include "simd.hpp"

namespace set_native::SET_NAMESPACE {
namespace {

// Rows of a matrix larger than this come from memory: fetch them ahead.
constexpr int64_t prefetch_from_bytes = 16 << 20;
constexpr int64_t ahead = 12;  // connections; the caller's arrays are not read beyond their end

template <int N>
INLINE void load_row(vec (&into)[N], const float* p, tail_mask tail) {
#pragma GCC unroll 16
    for (int v = 0; v < N - 1; v++) into[v] = load(p + v * width);
    into[N - 1] = load_tail(p + (N - 1) * width, tail);
}

template <int N>
INLINE void store_row(float* p, const vec (&from)[N], tail_mask tail) {
#pragma GCC unroll 16
    for (int v = 0; v < N - 1; v++) store(p + v * width, from[v]);
    store_tail(p + (N - 1) * width, from[N - 1], tail);
}

template <int N>
INLINE void fetch_row(const float* p) {
#pragma GCC unroll 16
    for (int v = 0; v < N; v += 64 / (4 * width) ? 64 / (4 * width) : 1) __builtin_prefetch(p + v * width);
}

template <int N, bool Fetch>
void product_tile(const Rows& rows, Range mine, Spans spans, bool is_first, const float* __restrict values,
                  const float* __restrict bias, const float* __restrict in, int64_t in_stride, Columns out,
                  tail_mask tail) {
    const int32_t* __restrict indices = rows.indices;
    const int32_t* __restrict order = rows.order;
    const int64_t last = rows.indptr[rows.count] - 1;
    for (int64_t r = mine.begin; r < mine.end; r++) {
        vec acc[N];
        if (is_first)
#pragma GCC unroll 16
            for (int v = 0; v < N; v++) acc[v] = broadcast(bias ? bias[r] : 0.0f);
        else load_row<N>(acc, out.row(r), tail);
        for (int64_t k = spans.begins[r - mine.begin], end = spans.ends[r - mine.begin]; k < end; k++) {
            if (Fetch) {
                fetch_row<N>(in + indices[k + ahead < last ? k + ahead : last] * in_stride);
                if (order) __builtin_prefetch(values + order[k + 2 * ahead < last ? k + 2 * ahead : last]);
            }
            const float* p = in + indices[k] * in_stride;
            const vec w = broadcast(values[order ? order[k] : k]);
#pragma GCC unroll 16
            for (int v = 0; v < N - 1; v++) acc[v] = fma(w, load(p + v * width), acc[v]);
            acc[N - 1] = fma(w, load_tail(p + (N - 1) * width, tail), acc[N - 1]);
        }
        store_row<N>(out.row(r), acc, tail);
    }
}

// Keeps what was loaded in a register: left alone, GCC reads it once for each of its uses, or spills the tile.
#if SET_ISA == 512
#define KEEP(a) asm("" : "+v"(a))
#elif SET_ISA == 2
#define KEEP(a) asm("" : "+x"(a))
#else
#define KEEP(a) (void)a
#endif

// Q connections of a row side by side: one alone would wait for each of its additions.
template <int Q, int N, bool Dx>
INLINE void connections(const float* const (&d)[Q], const vec (&w)[Q], const vec (&x)[N], vec (&acc)[N], vec (&dot)[Q],
                        tail_mask tail) {
#pragma GCC unroll 16
    for (int v = 0; v < N; v++) {
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++) {
            vec t = v < N - 1 ? load(d[q] + v * width) : load_tail(d[q] + v * width, tail);
            KEEP(t);
            dot[q] = fma(x[v], t, dot[q]);
            if (Dx) acc[v] = fma(w[q], t, acc[v]);
        }
    }
}

// is_first, is_last: of the blocks. Add: this is not the first tile of the batch, dw already holds a part of the sum.
template <int N, bool Dx, bool Add, bool Fetch>
void gradients_tile(const Rows& rows, Range mine, Spans spans, bool is_first, bool is_last,
                    const float* __restrict values, Columns x, const float* __restrict dy, int64_t dy_stride,
                    Columns dx, float* __restrict dw, float relu, tail_mask tail) {
    const int32_t* __restrict indices = rows.indices;
    const int64_t last = rows.indptr[rows.count] - 1;
    for (int64_t i = mine.begin; i < mine.end; i++) {
        vec xs[N], acc[N];
        load_row<N>(xs, x.row(i), tail);
        if (is_first || !Dx)
#pragma GCC unroll 16
            for (int v = 0; v < N; v++) acc[v] = zero();
        else load_row<N>(acc, dx.row(i), tail);
        int64_t k = spans.begins[i - mine.begin];
        const int64_t end = spans.ends[i - mine.begin];
        for (; k + 4 <= end; k += 4) {
            if (Fetch)
                for (int64_t q = k + ahead; q < k + ahead + 4; q++)
                    fetch_row<N>(dy + indices[q < last ? q : last] * dy_stride);
            vec dot[4] = {zero(), zero(), zero(), zero()};
            const float* d[4];
            vec w[4];
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++)
                d[q] = dy + indices[k + q] * dy_stride, w[q] = broadcast(Dx ? values[k + q] : 0.0f);
            connections<4, N, Dx>(d, w, xs, acc, dot, tail);
            if (Add) add_sums(dw + k, dot[0], dot[1], dot[2], dot[3]);
            else store_sums(dw + k, dot[0], dot[1], dot[2], dot[3]);
        }
        for (; k < end; k++) {
            vec dot[1] = {zero()};
            connections<1, N, Dx>({dy + indices[k] * dy_stride}, {broadcast(Dx ? values[k] : 0.0f)}, xs, acc, dot, tail);
            if (Add) dw[k] += sum(dot[0]);
            else dw[k] = sum(dot[0]);
        }
        if (Dx && relu != 0 && is_last) {
#pragma GCC unroll 16
            for (int v = 0; v < N; v++) acc[v] = where_less(zero(), xs[v], mul(acc[v], broadcast(relu)));
        }
        if (Dx) store_row<N>(dx.row(i), acc, tail);
    }
}

// The batch in tiles of equally many vectors.
struct Tiles {
    int64_t vectors, count, n_batch;
    Tiles(int64_t n_batch, int largest) : n_batch(n_batch) {
        const int64_t all = (n_batch + width - 1) / width;
        count = (all + largest - 1) / largest;
        vectors = count ? (all + count - 1) / count : 0;
    }
    int64_t begin(int64_t tile) const { return tile * vectors * width; }
    // Columns of this tile; 0 where rounding up has left the last one empty.
    int64_t columns(int64_t tile) const {
        const int64_t left = n_batch - begin(tile);
        return left < 0 ? 0 : left < vectors * width ? left : vectors * width;
    }
};

template <bool Fetch>
void product_columns(int vectors, const Rows& rows, Range mine, Blocks& blocks, const float* values, const float* bias,
                     const float* in, int64_t in_stride, Columns out, tail_mask tail) {
    for (int64_t block = 0; block < blocks.count; block++) {
        const Spans spans = blocks.spans(block);
#define CASE(n) \
    case n: product_tile<n, Fetch>(rows, mine, spans, block == 0, values, bias, in, in_stride, out, tail); break
        switch (vectors) {
            CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(8);
#if SET_ISA == 2
            CASE(9); CASE(10); CASE(11); CASE(12); CASE(13);
#endif
        }
#undef CASE
    }
}

template <bool Dx, bool Add, bool Fetch>
void gradients_columns(int vectors, const Rows& rows, Range mine, Blocks& blocks, const float* values, Columns x,
                       const float* dy, int64_t dy_stride, Columns dx, float* dw, float relu, tail_mask tail) {
    for (int64_t block = 0; block < blocks.count; block++) {
        const Spans spans = blocks.spans(block);
        const bool is_first = block == 0, is_last = block + 1 == blocks.count;
#define CASE(n)                                                                                                     \
    case n:                                                                                                         \
        gradients_tile<n, Dx, Add, Fetch>(rows, mine, spans, is_first, is_last, values, x, dy, dy_stride, dx, dw,   \
                                          relu, tail);                                                              \
        break
        switch (vectors) {
            CASE(1); CASE(2); CASE(3); CASE(4);
#if SET_ISA || defined(__aarch64__)
            CASE(5); CASE(6); CASE(7); CASE(8);
#endif
        }
#undef CASE
    }
}

int vectors_of(int64_t columns) { return static_cast<int>((columns + width - 1) / width); }
tail_mask tail_of(int64_t columns) { return make_tail(static_cast<int>(columns - (vectors_of(columns) - 1) * width)); }

void product(const Rows& rows, Range mine, const float* values, const float* bias, Columns in, Columns out,
             int64_t n_batch) {
    const Tiles tiles(n_batch, forward_vectors);
    Blocks blocks(rows, mine, tiles.vectors * width * 4);
    const bool fetch = blocks.count == 1 && in.stride * rows.others * 4 > prefetch_from_bytes;
    for (int64_t tile = 0; tile < tiles.count; tile++) {
        const int64_t at = tiles.begin(tile), columns = tiles.columns(tile);
        if (!columns) continue;
        (fetch ? product_columns<true> : product_columns<false>)(vectors_of(columns), rows, mine, blocks, values, bias,
                                                                 in.data + at, in.stride, {out.data + at, out.stride},
                                                                 tail_of(columns));
    }
}

template <bool Dx, bool Fetch>
void gradients_of(const Rows& rows, Range mine, Blocks& blocks, const float* values, Columns x, Columns dy, Columns dx,
                  float* dw, bool add, float relu, const Tiles& tiles) {
    for (int64_t tile = 0; tile < tiles.count; tile++) {
        const int64_t at = tiles.begin(tile), columns = tiles.columns(tile);
        if (!columns) continue;
        (add || tile ? gradients_columns<Dx, true, Fetch> : gradients_columns<Dx, false, Fetch>)(
            vectors_of(columns), rows, mine, blocks, values, {x.data + at, x.stride}, dy.data + at, dy.stride,
            {dx.data ? dx.data + at : nullptr, dx.stride}, dw, relu, tail_of(columns));
    }
}

void gradients(const Rows& rows, Range mine, const float* values, Columns x, Columns dy, Columns dx, float* dw,
               bool add, float relu, int64_t n_batch) {
    const Tiles tiles(n_batch, backward_vectors);
    // A dx that overwrites x must be whole when it is written.
    Blocks blocks(rows, mine, dx.data == x.data ? 0 : tiles.vectors * width * 4);
    const bool fetch = blocks.count == 1 && dy.stride * rows.others * 4 > prefetch_from_bytes;
    const auto walk = dx.data ? (fetch ? gradients_of<true, true> : gradients_of<true, false>)
                              : (fetch ? gradients_of<false, true> : gradients_of<false, false>);
    walk(rows, mine, blocks, values, x, dy, dx, dw, add, relu, tiles);
    if (!n_batch && !add)
        for (int64_t k = rows.indptr[mine.begin]; k < rows.indptr[mine.end]; k++) dw[k] = 0;
}

void sum_rows(Range mine, Columns in, float* out, int64_t n_batch) {
    for (int64_t r = mine.begin; r < mine.end; r++) {
        const float* p = in.row(r);
        vec total = zero();
        int64_t b = 0;
        for (; b + width <= n_batch; b += width) total = add(total, load(p + b));
        if (b < n_batch) total = add(total, load_tail(p + b, make_tail(static_cast<int>(n_batch - b))));
        out[r] = sum(total);
    }
}

}  // namespace

void activate(Shape, Range, Affine, Slopes, Dropout, Columns, Columns, int64_t);
void activate_backward(Shape, Range, Affine, Slopes, Slopes, Dropout, Columns, Columns, Columns, int64_t);
void normalize(const Normalization&, Range, const float*, Columns, int64_t);
void layer_moments(const Normalization&, Range, Columns, int64_t);
void merge_moments(const Normalization&, int64_t, float*, int64_t);
void normalize_backward(const Normalization&, NormGradients, Range, Columns, Columns, Columns, int64_t);
void layer_sums(const Normalization&, NormGradients, float*, Range, Columns, Columns, int64_t);
void merge_sums(const float*, int64_t, float*, int64_t);
void layer_backward(const Normalization&, Range, const float*, const float*, Columns, Columns, Columns, int64_t);
double cross_entropy(Columns, const Targets&, int64_t, int64_t, Columns, float);
void descend(Range, float*, const float*, float*, float, float, float, bool);
void units(const Units&, Range, int64_t);
double cross_entropy_of_units(Range, Columns, Columns, int64_t);
void anneal(Range, float, float, Columns, double*, int64_t);
void weigh(Range, const float*, double, Columns, double*, int64_t);
void gather(const Source&, Range, const int64_t*, Columns, int64_t);
void gather_changed(const Source&, Range, Image, const int64_t*, const Changes&, Columns, float*);
void mix(Range, Columns, const int64_t*, const float*, int64_t, float*);
void to_columns(const float*, Range, int64_t, int64_t, Columns, int64_t);

extern const Kernels kernels;
const Kernels kernels{SET_NAME,      product,       gradients,     sum_rows,           activate,   activate_backward,
                      normalize,     layer_moments, merge_moments, normalize_backward, layer_sums, merge_sums,
                      layer_backward, cross_entropy, descend,       units,              cross_entropy_of_units,
                      anneal,        weigh,         gather,        gather_changed,     mix,        to_columns};

}  // namespace set_native::SET_NAMESPACE
