// Random numbers as a function of where they are used: Philox4x32-7 (Salmon et al., SC 2011: seven rounds pass
// BigCrush).
#pragma once
#include "kernels.hpp"
#include "simd.hpp"

namespace set_native::SET_NAMESPACE {

constexpr int random_block = 64;  // columns whose words 16 counters give

// Four words for each lane: word q of lane l is that of column `first` + 16 q + `lane` + l of the row, `first` a
// multiple of random_block, whatever the instruction set and the threads. The counter is (first / 4 + lane, row, step).
INLINE void random_words(const Random& random, int64_t row, int64_t first, int lane, words (&c)[4]) {
    const words m0 = all_words(0xD2511F53u), m1 = all_words(0xCD9E8D57u);
    uint32_t k0 = static_cast<uint32_t>(random.seed), k1 = static_cast<uint32_t>(random.seed >> 32);
    c[0] = count_words(static_cast<uint32_t>(first / 4 + lane));
    c[1] = all_words(static_cast<uint32_t>(row));
    c[2] = all_words(static_cast<uint32_t>(random.step));
    c[3] = all_words(static_cast<uint32_t>(random.step >> 32));
    for (int round = 0; round < 7; round++) {
        const words p0 = multiply(c[0], m0), p1 = multiply(c[2], m1);
        c[0] = exclusive_or(exclusive_or(upper_half(p1), c[1]), all_words(k0));
        c[2] = exclusive_or(exclusive_or(upper_half(p0), c[3]), all_words(k1));
        c[1] = p1;
        c[3] = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

}  // namespace set_native::SET_NAMESPACE
