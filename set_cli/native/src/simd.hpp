// Vectors of the instruction set that this file is compiled for (setup.py: SET_ISA).
//
// vec            `width` floats
// power_of_two   2 to whole numbers from -126 to 127
// turn_square    turns `width` vectors over: element j of vector i changes places with element i of vector j
// uniform        numbers in [0, 1) from as many words as a vec has lanes
// words          `word_lanes` unsigned 32-bit numbers, each in the lower half of 64 bits; the upper half is anything
// ..._vectors    of a batch tile that the products keep in registers; the backward keeps two such tiles
// tail_mask      which lanes of a row's last vector exist; the lanes beyond are never read or written
#pragma once
#include <cstdint>

#define INLINE inline __attribute__((always_inline))

#if SET_ISA == 512
#include <immintrin.h>
#define SET_NAMESPACE avx512
#define SET_NAME "avx512"
#elif SET_ISA == 2
#include <immintrin.h>
#define SET_NAMESPACE avx2
#define SET_NAME "avx2"
#else
#define SET_NAMESPACE portable
#define SET_NAME "portable"
#endif

namespace set_native::SET_NAMESPACE {

#if SET_ISA == 512
using vec = __m512;
constexpr int width = 16, forward_vectors = 8, backward_vectors = 8;
using tail_mask = __mmask16;
INLINE tail_mask make_tail(int lanes) { return static_cast<tail_mask>((1u << lanes) - 1u); }
INLINE vec zero() { return _mm512_setzero_ps(); }
INLINE vec broadcast(float value) { return _mm512_set1_ps(value); }
INLINE vec load(const float* p) { return _mm512_loadu_ps(p); }
INLINE vec load_tail(const float* p, tail_mask tail) { return _mm512_maskz_loadu_ps(tail, p); }
INLINE void store(float* p, vec a) { _mm512_storeu_ps(p, a); }
INLINE void store_tail(float* p, vec a, tail_mask tail) { _mm512_mask_storeu_ps(p, tail, a); }
INLINE vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
INLINE vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec div(vec a, vec b) { return _mm512_div_ps(a, b); }
INLINE vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec power_of_two(vec n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n); }
INLINE vec min(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec where_less(vec a, vec b, vec x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), x); }
INLINE vec where_at_most(vec a, vec b, vec x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_LE_OQ), x); }
INLINE vec where_bits(unsigned bits, vec x) { return _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), x); }
// Adds the halves, then the quarters, then within them: a fixed order, so equal inputs give equal bits.
INLINE __m128 sum4_lanes(vec a, vec b, vec c, vec d) {
    const vec ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const vec cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const vec abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd),
                                      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(abcd), 1)));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
INLINE void store_sums(float* p, vec a, vec b, vec c, vec d) { _mm_storeu_ps(p, sum4_lanes(a, b, c, d)); }
INLINE void add_sums(float* p, vec a, vec b, vec c, vec d) {
    _mm_storeu_ps(p, _mm_add_ps(_mm_loadu_ps(p), sum4_lanes(a, b, c, d)));
}
INLINE float sum(vec a) { return _mm_cvtss_f32(sum4_lanes(a, zero(), zero(), zero())); }
INLINE vec low_pairs(vec a, vec b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
INLINE vec high_pairs(vec a, vec b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
INLINE void turn_square(vec (&rows)[width]) {
    vec fours[width];  // [4 g + c]: of every lane its column c, of rows 4 g to 4 g + 3
#pragma GCC unroll 4
    for (int g = 0; g < width; g += 4) {
        const vec a = _mm512_unpacklo_ps(rows[g], rows[g + 1]), b = _mm512_unpackhi_ps(rows[g], rows[g + 1]);
        const vec c = _mm512_unpacklo_ps(rows[g + 2], rows[g + 3]), d = _mm512_unpackhi_ps(rows[g + 2], rows[g + 3]);
        fours[g] = low_pairs(a, c), fours[g + 1] = high_pairs(a, c);
        fours[g + 2] = low_pairs(b, d), fours[g + 3] = high_pairs(b, d);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        const vec even = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0x88);
        const vec odd = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0xDD);
        const vec even_below = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0x88);
        const vec odd_below = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0xDD);
        rows[c] = _mm512_shuffle_f32x4(even, even_below, 0x88);
        rows[4 + c] = _mm512_shuffle_f32x4(odd, odd_below, 0x88);
        rows[8 + c] = _mm512_shuffle_f32x4(even, even_below, 0xDD);
        rows[12 + c] = _mm512_shuffle_f32x4(odd, odd_below, 0xDD);
    }
}
using words = __m512i;
constexpr int word_lanes = 8;
INLINE words all_words(uint32_t value) { return _mm512_set1_epi64(value); }
INLINE words count_words(uint32_t from) {
    return _mm512_add_epi64(_mm512_set1_epi64(from), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE words multiply(words a, words b) { return _mm512_mul_epu32(a, b); }  // all 64 bits of the products
INLINE words upper_half(words a) { return _mm512_srli_epi64(a, 32); }
INLINE words exclusive_or(words a, words b) { return _mm512_xor_si512(a, b); }
INLINE void store_words(uint32_t* p, words a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi64_epi32(a));
}
INLINE vec uniform(const uint32_t* p) {
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_loadu_si512(p), 8)), _mm512_set1_ps(0x1p-24f));
}
INLINE unsigned bits_at_least(words a, uint32_t threshold) {
    return _mm512_cmpge_epu64_mask(_mm512_slli_epi64(a, 32), _mm512_set1_epi64(static_cast<int64_t>(uint64_t{threshold} << 32)));
}

#elif SET_ISA == 2
using vec = __m256;
// 16 registers: a forward tile of 13 vectors leaves room for weight, tail and load; of the backward's two tiles the
// inputs' may be spilled, since an FMA reads it from the nearest cache as fast.
constexpr int width = 8, forward_vectors = 13, backward_vectors = 7;
using tail_mask = __m256i;
INLINE tail_mask make_tail(int lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vec zero() { return _mm256_setzero_ps(); }
INLINE vec broadcast(float value) { return _mm256_set1_ps(value); }
INLINE vec load(const float* p) { return _mm256_loadu_ps(p); }
INLINE vec load_tail(const float* p, tail_mask tail) { return _mm256_maskload_ps(p, tail); }
INLINE void store(float* p, vec a) { _mm256_storeu_ps(p, a); }
INLINE void store_tail(float* p, vec a, tail_mask tail) { _mm256_maskstore_ps(p, tail, a); }
INLINE vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
INLINE vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
INLINE vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
INLINE vec div(vec a, vec b) { return _mm256_div_ps(a, b); }
INLINE vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec power_of_two(vec n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
INLINE vec min(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec where_less(vec a, vec b, vec x) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ), x); }
INLINE vec where_at_most(vec a, vec b, vec x) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ), x); }
INLINE vec where_bits(unsigned bits, vec x) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i chosen = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane), lane);
    return _mm256_and_ps(_mm256_castsi256_ps(chosen), x);
}
INLINE __m128 sum4_lanes(vec a, vec b, vec c, vec d) {
    const vec abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}
INLINE void store_sums(float* p, vec a, vec b, vec c, vec d) { _mm_storeu_ps(p, sum4_lanes(a, b, c, d)); }
INLINE void add_sums(float* p, vec a, vec b, vec c, vec d) {
    _mm_storeu_ps(p, _mm_add_ps(_mm_loadu_ps(p), sum4_lanes(a, b, c, d)));
}
INLINE float sum(vec a) { return _mm_cvtss_f32(sum4_lanes(a, zero(), zero(), zero())); }
INLINE vec low_pairs(vec a, vec b) {
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
INLINE vec high_pairs(vec a, vec b) {
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
INLINE void turn_square(vec (&rows)[width]) {
    vec fours[width];  // [4 g + c]: of every lane its column c, of rows 4 g to 4 g + 3
#pragma GCC unroll 2
    for (int g = 0; g < width; g += 4) {
        const vec a = _mm256_unpacklo_ps(rows[g], rows[g + 1]), b = _mm256_unpackhi_ps(rows[g], rows[g + 1]);
        const vec c = _mm256_unpacklo_ps(rows[g + 2], rows[g + 3]), d = _mm256_unpackhi_ps(rows[g + 2], rows[g + 3]);
        fours[g] = low_pairs(a, c), fours[g + 1] = high_pairs(a, c);
        fours[g + 2] = low_pairs(b, d), fours[g + 3] = high_pairs(b, d);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        rows[c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x20);
        rows[4 + c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x31);
    }
}
using words = __m256i;
constexpr int word_lanes = 4;
INLINE words all_words(uint32_t value) { return _mm256_set1_epi64x(value); }
INLINE words count_words(uint32_t from) {
    return _mm256_add_epi64(_mm256_set1_epi64x(from), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE words multiply(words a, words b) { return _mm256_mul_epu32(a, b); }
INLINE words upper_half(words a) { return _mm256_srli_epi64(a, 32); }
INLINE words exclusive_or(words a, words b) { return _mm256_xor_si256(a, b); }
INLINE void store_words(uint32_t* p, words a) {
    const words low = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(low));
}
INLINE vec uniform(const uint32_t* p) {
    const __m256i bits = _mm256_srli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), 8);
    return _mm256_mul_ps(_mm256_cvtepi32_ps(bits), _mm256_set1_ps(0x1p-24f));
}
INLINE unsigned bits_at_least(words a, uint32_t threshold) {
    // AVX2 compares signed numbers: a number below 2^32 is one.
    const words number = _mm256_and_si256(a, _mm256_set1_epi64x(0xFFFFFFFF));
    const words greater = _mm256_cmpgt_epi64(number, _mm256_set1_epi64x(static_cast<int64_t>(threshold) - 1));
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(greater)));
}

#else  // four floats, which every processor of today has in one register (SSE, NEON)
typedef float vec __attribute__((vector_size(16)));
#if defined(__aarch64__)
constexpr int width = 4, forward_vectors = 8, backward_vectors = 8;
#else
constexpr int width = 4, forward_vectors = 8, backward_vectors = 4;
#endif
using tail_mask = int;
typedef float unaligned_vec __attribute__((vector_size(16), aligned(4), may_alias));
INLINE tail_mask make_tail(int lanes) { return lanes; }
INLINE vec zero() { return vec{0, 0, 0, 0}; }
INLINE vec broadcast(float value) { return vec{value, value, value, value}; }
INLINE vec load(const float* p) { return *reinterpret_cast<const unaligned_vec*>(p); }
INLINE vec load_tail(const float* p, tail_mask tail) {
    if (tail == width) return load(p);
    return vec{p[0], tail > 1 ? p[1] : 0, tail > 2 ? p[2] : 0, 0};
}
INLINE void store(float* p, vec a) { *reinterpret_cast<unaligned_vec*>(p) = a; }
INLINE void store_tail(float* p, vec a, tail_mask tail) {
    for (int lane = 0; lane < tail; lane++) p[lane] = a[lane];
}
INLINE vec add(vec a, vec b) { return a + b; }
INLINE vec sub(vec a, vec b) { return a - b; }
INLINE vec mul(vec a, vec b) { return a * b; }
INLINE vec div(vec a, vec b) { return a / b; }
INLINE vec fma(vec a, vec b, vec c) { return a * b + c; }
typedef int32_t lanes __attribute__((vector_size(16)));
INLINE vec power_of_two(vec n) {
    lanes whole;
    for (int lane = 0; lane < width; lane++) whole[lane] = n[lane] > -127 ? static_cast<int32_t>(n[lane]) : -127;
    return reinterpret_cast<vec>((whole + 127) << 23);
}
INLINE vec where(lanes chosen, vec x) { return reinterpret_cast<vec>(chosen & reinterpret_cast<lanes>(x)); }
INLINE vec where_less(vec a, vec b, vec x) { return where(a < b, x); }
INLINE vec where_at_most(vec a, vec b, vec x) { return where(a <= b, x); }
INLINE vec where_bits(unsigned bits, vec x) {
    const lanes lane{1, 2, 4, 8}, all{int(bits), int(bits), int(bits), int(bits)};
    return where((all & lane) == lane, x);
}
INLINE vec min(vec a, vec b) { return a < b ? a : b; }  // b where either is NaN, as x86 has it
INLINE vec max(vec a, vec b) { return a > b ? a : b; }
INLINE float sum(vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
INLINE void store_sums(float* p, vec a, vec b, vec c, vec d) {
    p[0] = sum(a), p[1] = sum(b), p[2] = sum(c), p[3] = sum(d);
}
INLINE void add_sums(float* p, vec a, vec b, vec c, vec d) {
    p[0] += sum(a), p[1] += sum(b), p[2] += sum(c), p[3] += sum(d);
}
INLINE void turn_square(vec (&rows)[width]) {
    const vec a = rows[0], b = rows[1], c = rows[2], d = rows[3];
    for (int j = 0; j < width; j++) rows[j] = vec{a[j], b[j], c[j], d[j]};
}
typedef uint64_t words __attribute__((vector_size(16)));
constexpr int word_lanes = 2;
INLINE words all_words(uint32_t value) { return words{value, value}; }
INLINE words count_words(uint32_t from) { return words{from, from + uint64_t{1}}; }
INLINE words multiply(words a, words b) { return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu); }
INLINE words upper_half(words a) { return a >> 32; }
INLINE words exclusive_or(words a, words b) { return a ^ b; }
INLINE void store_words(uint32_t* p, words a) {
    p[0] = static_cast<uint32_t>(a[0]), p[1] = static_cast<uint32_t>(a[1]);
}
INLINE vec uniform(const uint32_t* p) {
    vec u;
    for (int lane = 0; lane < width; lane++)
        u[lane] = static_cast<float>(static_cast<int32_t>(p[lane] >> 8)) * 0x1p-24f;
    return u;
}
INLINE unsigned bits_at_least(words a, uint32_t threshold) {
    return static_cast<unsigned>(static_cast<uint32_t>(a[0]) >= threshold) |
           static_cast<unsigned>(static_cast<uint32_t>(a[1]) >= threshold) << 1;
}
#endif

// Calls step(b, whole, tail) for every vector of a row.
template <typename Step>
INLINE void for_vectors(int64_t n_batch, Step step) {
    int64_t b = 0;
    const tail_mask all = make_tail(width);
    for (; b + width <= n_batch; b += width) step(b, true, all);
    if (b < n_batch) step(b, false, make_tail(static_cast<int>(n_batch - b)));
}
INLINE vec take(const float* p, bool whole, tail_mask tail) { return whole ? load(p) : load_tail(p, tail); }
INLINE void put(float* p, vec a, bool whole, tail_mask tail) {
    if (whole) store(p, a);
    else store_tail(p, a, tail);
}

}  // namespace set_native::SET_NAMESPACE
