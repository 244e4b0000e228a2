#include "topology.hpp"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace set_native {

const char* find_fault(const int32_t* indptr, const int32_t* indices, int64_t rows, int64_t others, int64_t nnz) {
    if (indptr[0] != 0 || indptr[rows] != nnz) return "expected indptr from 0 to the number of connections";
    for (int64_t r = 0; r < rows; r++)
        if (indptr[r] > indptr[r + 1]) return "expected a non-decreasing indptr";
    for (int64_t r = 0; r < rows; r++)
        for (int64_t before = -1, k = indptr[r]; k < indptr[r + 1]; k++) {
            if (indices[k] < 0 || indices[k] >= others) return "an index is out of range";
            if (indices[k] <= before) return "expected indices sorted within each row, without duplicates";
            before = indices[k];
        }
    return nullptr;
}

bool stays_within(const int32_t* indptr, const int32_t* indices, int64_t rows, int64_t others, int64_t nnz) {
    if (indptr[0] != 0 || indptr[rows] != nnz) return false;
    // Signs instead of comparisons: every compiler makes vectors of these loops.
    const uint32_t largest = static_cast<uint32_t>(others - 1);
    uint32_t odd = 0;
    for (int64_t r = 0; r < rows; r++) {
        const uint32_t begin = static_cast<uint32_t>(indptr[r]);
        odd |= begin | (static_cast<uint32_t>(indptr[r + 1]) - begin);
    }
    for (int64_t k = 0; k < nnz; k++) {
        const uint32_t index = static_cast<uint32_t>(indices[k]);
        odd |= index | (largest - index);
    }
    return odd >> 31 == 0;
}

void transpose(const int32_t* indptr, const int32_t* indices, int64_t n_in, int64_t n_out, int32_t* out_indptr,
               int32_t* out_indices, int32_t* out_order) {
    memset(out_indptr, 0, static_cast<size_t>(n_out + 1) * sizeof(int32_t));
    const int64_t nnz = indptr[n_in];
    for (int64_t k = 0; k < nnz; k++) out_indptr[indices[k] + 1]++;
    for (int64_t o = 0; o < n_out; o++) out_indptr[o + 1] += out_indptr[o];
    // out_indptr[o] is where o's next connection goes; at the end it is where the next row begins, so shift it back.
    for (int64_t i = 0; i < n_in; i++)
        for (int64_t k = indptr[i]; k < indptr[i + 1]; k++) {
            const int32_t at = out_indptr[indices[k]]++;
            out_indices[at] = static_cast<int32_t>(i);
            out_order[at] = static_cast<int32_t>(k);
        }
    memmove(out_indptr + 1, out_indptr, static_cast<size_t>(n_out) * sizeof(int32_t));
    out_indptr[0] = 0;
}

namespace {

constexpr int halves = 1 << 16;

// Of one sign: how many weights go, and the magnitude (as bits, which order like the floats) below which all go and at
// which the first `ties` go.
struct Side {
    int64_t counts[halves];
    int64_t total, remove;
    uint32_t limit;
    int64_t ties;
};

uint32_t bits_of(float weight) {
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return bits;
}

// The bucket in which the n-th smallest lies; n becomes its rank within the bucket.
uint32_t bucket_of(const int64_t* counts, int64_t& n) {
    uint32_t bucket = 0;
    while (n > counts[bucket]) n -= counts[bucket++];
    return bucket;
}

}  // namespace

bool prune(const float* weights, int64_t nnz, double zeta, bool* keep) {
    Side* sides = static_cast<Side*>(calloc(2, sizeof(Side)));  // [1] is the negative side
    if (!sides) return false;
    for (int64_t k = 0; k < nnz; k++) {
        const uint32_t bits = bits_of(weights[k]), magnitude = bits & 0x7FFFFFFFu;
        if (magnitude) sides[bits >> 31].counts[magnitude >> 16]++;
    }
    uint32_t high[2];
    for (int s = 0; s < 2; s++) {
        Side& side = sides[s];
        for (int64_t count : side.counts) side.total += count;
        side.remove = static_cast<int64_t>(std::floor(zeta * static_cast<double>(side.total)));
        side.ties = side.remove;
        high[s] = side.remove ? bucket_of(side.counts, side.ties) : halves;
        memset(side.counts, 0, sizeof side.counts);
    }
    for (int64_t k = 0; k < nnz; k++) {
        const uint32_t bits = bits_of(weights[k]), magnitude = bits & 0x7FFFFFFFu;
        if (magnitude && magnitude >> 16 == high[bits >> 31]) sides[bits >> 31].counts[magnitude & 0xFFFFu]++;
    }
    for (int s = 0; s < 2; s++)
        if (sides[s].remove) sides[s].limit = high[s] << 16 | bucket_of(sides[s].counts, sides[s].ties);
    for (int64_t k = 0; k < nnz; k++) {
        const uint32_t bits = bits_of(weights[k]), magnitude = bits & 0x7FFFFFFFu;
        Side& side = sides[bits >> 31];
        keep[k] = magnitude > side.limit || (magnitude && magnitude == side.limit && side.ties-- <= 0);
    }
    free(sides);
    return true;
}

void refill(const int32_t* indptr, const int32_t* indices, const bool* keep, int64_t n_in, int64_t n_out,
            const int64_t* ranks, int64_t count, int32_t* new_indptr, int32_t* new_indices, int32_t* source) {
    int64_t at = 0, next = 0, empty_before = 0;  // empty cells in the rows above
    for (int64_t i = 0; i < n_in; i++) {
        new_indptr[i] = static_cast<int32_t>(at);
        int64_t kept = 0;
        for (int64_t k = indptr[i]; k < indptr[i + 1]; k++) {
            if (!keep[k]) continue;
            const int64_t empty_here = empty_before + indices[k] - kept;
            for (; next < count && ranks[next] < empty_here; next++, at++) {
                new_indices[at] = static_cast<int32_t>(ranks[next] - empty_before + kept);
                source[at] = -1;
            }
            new_indices[at] = indices[k];
            source[at++] = static_cast<int32_t>(k);
            kept++;
        }
        const int64_t empty_after = empty_before + n_out - kept;
        for (; next < count && ranks[next] < empty_after; next++, at++) {
            new_indices[at] = static_cast<int32_t>(ranks[next] - empty_before + kept);
            source[at] = -1;
        }
        empty_before = empty_after;
    }
    new_indptr[n_in] = static_cast<int32_t>(at);
}

}  // namespace set_native
