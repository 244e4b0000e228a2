// Which empty cells of a layer lie at the ends of many paths of length three: the score CH3-L3 of Cannistraci-Hebb
// training (Zhang et al., ICLR 2024). set_cli/sparse/rules/paths.py says what it is, and computes the same in NumPy.
#pragma once
#include <cstdint>

#include "kernels.hpp"

namespace set_native {

// Writes the cells (input * n_out + output, ascending) of the `count` highest scores, among equals those of the lowest
// cells; only positive ones. How many there were.
//   is_soft  by score / E instead, E an exponential number of each cell: drawn in proportion to the scores, without
//            replacement
//   seed     of these numbers
// The cells do not depend on the threads. Memory: O(neurons + count) for each thread. Throws std::bad_alloc before
// anything is done.
int64_t grow_by_paths(const Connections&, int64_t count, bool is_soft, uint64_t seed, int64_t* cells, int64_t threads);

}  // namespace set_native
