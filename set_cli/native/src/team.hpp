// A team of threads: dividing the work, waiting for each other, and the floating-point mode of a worker.
#pragma once
#include <cstdint>

#include "kernels.hpp"
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace set_native {

inline int thread_number() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

inline int team_size() {
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

// This thread's share of `count` equal pieces of work.
inline Range my_share(int64_t count) {
    const int64_t team = team_size(), me = thread_number();
    return {count * me / team, count * (me + 1) / team};
}

// The first row at which `share` of `shares` of the work lie before it, a row costing its connections and 2 more.
inline int64_t row_at(const int32_t* indptr, int64_t rows, int64_t share, int64_t shares) {
    const int64_t target = (indptr[rows] + 2 * rows) * share / shares;
    int64_t low = 0, high = rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (indptr[middle] + 2 * middle < target) low = middle + 1;
        else high = middle;
    }
    return low;
}

// This thread's rows, divided by connections.
inline Range my_rows(const int32_t* indptr, int64_t rows) {
    const int64_t team = team_size(), me = thread_number();
    return {row_at(indptr, rows, me, team), row_at(indptr, rows, me + 1, team)};
}

// The same in whole blocks of sum_block rows.
inline Range my_blocks(const int32_t* indptr, int64_t rows) {
    const int64_t team = team_size(), me = thread_number();
    const auto at = [=](int64_t share) {
        return share == team ? rows : row_at(indptr, rows, share, team) / sum_block * sum_block;
    };
    return {at(me), at(me + 1)};
}

inline Range my_blocks(int64_t rows) {
    const Range blocks = my_share((rows + sum_block - 1) / sum_block);
    return {blocks.begin * sum_block, blocks.end * sum_block < rows ? blocks.end * sum_block : rows};
}

// Momenta of silent connections decay into subnormal numbers, which some processors compute a hundred times slower.
class FlushToZero {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();

  public:
    FlushToZero() { _mm_setcsr(before | 0x8040); }
    ~FlushToZero() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    uint64_t before;

  public:
    FlushToZero() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
    }
    ~FlushToZero() { asm volatile("msr fpcr, %0" : : "r"(before)); }
#else
  public:
    FlushToZero() {}
    ~FlushToZero() {}
#endif
};

// Runs work() in every thread of a team.
template <typename Work>
void in_team(int64_t threads, Work work) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        const FlushToZero mode;
        work();
    }
}

// Every thread of the team has come here before any goes on.
inline void wait_for_team() {
#pragma omp barrier
}

}  // namespace set_native
