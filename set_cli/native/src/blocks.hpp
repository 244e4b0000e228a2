// A walk over connections in blocks of neighbours; compiled once per instruction set, so nothing of it is shared.
#pragma once
#include <cstdlib>

#include "kernels.hpp"
#include "simd.hpp"

namespace set_native::SET_NAMESPACE {
namespace {

// A matrix larger than this leaves no room in L2: walk it in blocks, where a row has so many connections in each that
// taking up its sum again costs little.
constexpr int64_t block_bytes = 1 << 20, fewest_in_block = 8;

// Where the connections of each row of a walk begin and end; the first row is the walk's first.
struct Spans {
    const int32_t *begins, *ends;
};

// The neighbours in blocks whose rows stay in L2 while a thread walks all its rows once for every block. A row's sum
// goes on where the block before has left it, so results are those of a single walk.
class Blocks {
    const Rows& rows;
    const Range mine;
    int64_t size;  // neighbours
    int32_t* bounds = nullptr;  // begins, ends

    static int64_t first_from(const int32_t* indices, int64_t begin, int64_t end, int64_t limit) {
        while (begin < end) {  // by halves, without a branch to guess
            const int64_t middle = begin + (end - begin) / 2;
            const bool below = indices[middle] < limit;
            begin = below ? middle + 1 : begin;
            end = below ? end : middle;
        }
        return begin;
    }

  public:
    int64_t count = 1;

    // row_bytes: what a walk reads of each neighbour's row; 0 for a single walk
    Blocks(const Rows& rows, Range mine, int64_t row_bytes) : rows(rows), mine(mine), size(rows.others) {
        const int64_t walked = mine.end - mine.begin, connections = rows.indptr[mine.end] - rows.indptr[mine.begin];
        const int64_t wanted = (rows.others * row_bytes + block_bytes - 1) / block_bytes;
        if (wanted < 2 || connections < walked * wanted * fewest_in_block) return;
        bounds = static_cast<int32_t*>(malloc(static_cast<size_t>(2 * walked) * sizeof(int32_t)));
        if (!bounds) return;  // a single walk will do
        count = wanted;
        size = (rows.others + wanted - 1) / wanted;
    }
    Blocks(const Blocks&) = delete;
    ~Blocks() { free(bounds); }

    // To be asked for block after block.
    Spans spans(int64_t block) {
        const int32_t* starts = rows.indptr + mine.begin;
        if (!bounds) return {starts, starts + 1};
        const int64_t walked = mine.end - mine.begin, limit = (block + 1) * size;
        for (int64_t r = 0; r < walked; r++) {
            const int32_t begin = block ? bounds[walked + r] : starts[r];
            bounds[r] = begin;
            bounds[walked + r] = static_cast<int32_t>(first_from(rows.indices, begin, starts[r + 1], limit));
        }
        return {bounds, bounds + walked};
    }
};

}  // namespace
}  // namespace set_native::SET_NAMESPACE
