// What one core reads of an array that is in its caches: GB/s with one and with two multiply-adds for each vector.
//
//     cc -O3 -mavx512f -DLANES=16 ceilings.c -o ceilings && ./ceilings 448000      (bytes of the array)
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef float vec __attribute__((vector_size(4 * LANES)));
enum { TOTALS = 8 };  // as many chains of additions as hide their latency, and as fit into 16 registers

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Reads `vectors` of them, each into `uses` sums.
static inline __attribute__((always_inline)) void walk(const vec* p, long vectors, int uses, vec w, vec (*totals)[TOTALS]) {
    for (long i = 0; i + TOTALS <= vectors; i += TOTALS / uses)
#pragma GCC unroll 8
        for (int j = 0; j < TOTALS / uses; j++) {
            vec x = p[i + j];
            // Without this the compiler would read a vector twice instead of keeping it in a register.
            __asm__("" : "+x"(x));
#pragma GCC unroll 2
            for (int use = 0; use < uses; use++) (*totals)[uses * j + use] += w * x;
        }
}

static double rate(const vec* p, long bytes, int uses) {
    const long vectors = bytes / (long)sizeof(vec), times = 200000000 / bytes + 1;
    vec w = {0}, totals[TOTALS] = {{0}};
    w += 0.5f;
    double best = 0;
    for (int repeat = 0; repeat < 15; repeat++) {
        const double begin = seconds();
        for (long n = 0; n < times; n++) {
            if (uses == 1) walk(p, vectors, 1, w, &totals);
            else walk(p, vectors, 2, w, &totals);
            __asm__ volatile("" ::: "memory");
        }
        const double each = (double)bytes * (double)times / (seconds() - begin) / 1e9;
        if (each > best) best = each;
    }
    volatile float sink = 0;
    for (int j = 0; j < TOTALS; j++) sink += totals[j][0];
    return best;
}

int main(int count, char** words) {
    const long bytes = count > 1 ? atol(words[1]) / 512 * 512 : 0;
    vec* p = bytes > 0 ? aligned_alloc(64, (size_t)bytes + 512) : NULL;
    if (!p) return 1;
    for (long i = 0; i < (bytes + 512) / 4; i++) ((float*)p)[i] = 1e-9f * (float)(i % 1000);
    printf("%.1f %.1f\n", rate(p, bytes, 1), rate(p, bytes, 2));
    return 0;
}
