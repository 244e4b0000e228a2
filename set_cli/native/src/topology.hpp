// SET's integer work in linear time: the checks of a pattern, its transpose, which connections go, where new ones come.
#pragma once
#include <cstdint>

namespace set_native {

// What is wrong with compressed rows of `rows` rows and indices below `others`, in words, or null.
const char* find_fault(const int32_t* indptr, const int32_t* indices, int64_t rows, int64_t others, int64_t nnz);

// Whether the kernels stay within their arrays with this pattern. It was checked once; but its arrays are the caller's, who
// may write into them where nobody sees it, so this is asked before every call: one read of them, in order.
bool stays_within(const int32_t* indptr, const int32_t* indices, int64_t rows, int64_t others, int64_t nnz);

// The same connections by output: a counting sort. `out_indptr` (n_out + 1), the others (nnz).
void transpose(const int32_t* indptr, const int32_t* indices, int64_t n_in, int64_t n_out, int32_t* out_indptr,
               int32_t* out_indices, int32_t* out_order);

// keep[k] = 0 for the floor(zeta * n) positive weights closest to zero, likewise of the negative ones, and for every
// weight that is exactly 0; among equal weights the first go. False where there is no memory.
bool prune(const float* weights, int64_t nnz, double zeta, bool* keep);

// The kept connections and `count` new ones: new connection number j lies in the ranks[j]-th cell, in order, of those
// without a kept connection (ranks ascending). source[k] is where a connection lay before, -1 for a new one.
void refill(const int32_t* indptr, const int32_t* indices, const bool* keep, int64_t n_in, int64_t n_out,
            const int64_t* ranks, int64_t count, int32_t* new_indptr, int32_t* new_indices, int32_t* source);

}  // namespace set_native
