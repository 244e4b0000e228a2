// Work in phases that a team of threads shares.
//
// A phase is a number of pieces, to be done in any order; the next phase begins when all of them are done. Threads claim
// pieces, so the caller does whatever nobody else has begun, and waits only for pieces that another thread is doing: one
// that has not woken up yet holds nobody up, and one that the system has put aside only until it has ended its piece.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels.hpp"
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace set_native {

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

// One of the pieces of a phase.
//   round   how often all phases have been done before
//   worker  of this job, below its number of threads: for memory of one's own
struct Piece {
    int64_t number, of, round, worker;

    // The piece's share of `count` equal parts of the work.
    Range share(int64_t count) const { return {count * number / of, count * (number + 1) / of}; }

    // Its rows, divided by connections.
    Range rows(const Rows& all) const {
        return {row_at(all.indptr, all.count, number, of), row_at(all.indptr, all.count, number + 1, of)};
    }

    // The same in whole blocks of sum_block rows.
    Range blocks(const Rows& all) const {
        const auto at = [&](int64_t share) {
            return share == of ? all.count : row_at(all.indptr, all.count, share, of) / sum_block * sum_block;
        };
        return {at(number), at(number + 1)};
    }
    Range blocks(int64_t count) const {
        const Range whole = share((count + sum_block - 1) / sum_block);
        return {whole.begin * sum_block, whole.end * sum_block < count ? whole.end * sum_block : count};
    }
};

// Phases one after the other, for a number of threads.
class Phases {
  public:
    using Run = std::function<void(const Piece&)>;

    explicit Phases(int64_t threads) : threads(threads < 1 ? 1 : threads > most_threads ? most_threads : threads) {}

    // A phase in as many pieces as suit the threads: run(piece) for each, in any thread.
    void add(Run run) { all.push_back({threads == 1 ? 1 : pieces_of_thread * threads, std::move(run)}); }

    // A phase that cannot be divided.
    void add_whole(Run run) { all.push_back({1, std::move(run)}); }

    // Does everything, `rounds` times over; returns when it is done. Throws std::bad_alloc before anything is done.
    void run(int64_t rounds = 1) const;

  private:
    friend class Job;
    struct Phase {
        int64_t pieces;
        Run run;
    };
    static constexpr int64_t most_threads = 1024;
    // Smaller pieces would make up for a slow core; four for each thread took 5 % longer than one, which keeps more of
    // what it reads in its cache.
    static constexpr int64_t pieces_of_thread = 1;
    int64_t threads;
    std::vector<Phase> all;
};

// A phase alone.
inline void in_pieces(int64_t threads, Phases::Run run) {
    Phases phases(threads);
    phases.add(std::move(run));
    phases.run();
}

// Memory that each worker of a job has for itself. Throws std::bad_alloc.
class Scratch {
    int64_t floats;
    std::unique_ptr<float[]> all;

  public:
    Scratch(int64_t floats, int64_t threads) : floats(floats), all(new float[size_t(floats * std::max<int64_t>(1, threads))]) {}
    float* of(const Piece& piece) const { return all.get() + floats * piece.worker; }
};

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

}  // namespace set_native
