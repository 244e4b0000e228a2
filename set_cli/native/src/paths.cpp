#include "paths.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "team.hpp"

namespace set_native {
namespace {

// No product is added to anything here: on processors with fused multiply-adds the compiler would join the two, and
// NumPy, which has to find the same cells, would not.

// Of the degrees 0 to `most`: the square roots and their inverses. Degree 0 belongs to cells that are connected, whose
// scores nobody reads.
struct Roots {
    std::vector<double> root, inverse;
    explicit Roots(int64_t most) : root(size_t(most + 1)), inverse(size_t(most + 1)) {
        root[0] = 1, inverse[0] = 0;
        for (size_t d = 1; d < root.size(); d++) root[d] = std::sqrt(double(d)), inverse[d] = 1 / root[d];
    }
};

int64_t most_connections(const Rows& rows) {
    int64_t most = 0;
    for (int64_t r = 0; r < rows.count; r++) most = std::max<int64_t>(most, rows.indptr[r + 1] - rows.indptr[r]);
    return most;
}

// A number in (0, 1) of each cell, by 52 of the bits of Philox4x32-7 with the counter (output, input, 0, 0).
double uniform_of(uint64_t seed, uint32_t input, uint32_t output) {
    uint32_t c[4] = {output, input, 0, 0};
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < 7; round++) {
        const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
        c[0] = uint32_t(p1 >> 32) ^ c[1] ^ k0;
        c[1] = uint32_t(p1);
        c[2] = uint32_t(p0 >> 32) ^ c[3] ^ k1;
        c[3] = uint32_t(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return (double(uint64_t{c[1]} << 20 | c[0] >> 12) + 0.5) / 4503599627370496.0;  // 2^52
}

// -log(u), 0 < u < 1, to a few units of the last place: for u = m 2^e the continued fraction of 2 artanh(f), f =
// (m - 1) / (m + 1). Not std::log, which gives other last bits in other libraries.
double minus_log(double u) {
    int exponent;
    double m = std::frexp(u, &exponent);
    if (m < 0.70710678118654752) m *= 2, exponent--;
    const double f = (m - 1) / (m + 1), z = f * f;
    double below = 19;
    for (int k = 9; k > 0; k--) below = (2 * k - 1) - (k * k) / (below / z);
    return -exponent / 1.4426950408889634 - 2 / (below / f);
}

struct Candidate {
    double key;  // the smallest are chosen
    int64_t cell;
    bool operator<(const Candidate& other) const { return key < other.key || (key == other.key && cell < other.cell); }
};

// The best `count` of all candidates that were offered, whatever their order.
class Best {
    int64_t count;
    double worst = HUGE_VAL;  // key that a candidate must not exceed: that many with at most this key are here

  public:
    std::vector<Candidate> all;
    explicit Best(int64_t count) : count(count) { all.reserve(size_t(2 * count + 64)); }
    double limit() const { return worst; }
    void offer(Candidate candidate) {
        if (candidate.key > worst) return;
        if (all.size() == all.capacity()) reduce();
        all.push_back(candidate);
    }
    void reduce() {
        if (int64_t(all.size()) <= count) return;
        std::nth_element(all.begin(), all.begin() + (count - 1), all.end());
        all.resize(size_t(count));
        worst = all.back().key;
    }
};

// One thread's buffers, and what it does with a row.
class Worker {
    const Rows &inputs, &outputs;
    const Roots& roots;
    const bool is_soft;
    const uint64_t seed;
    // Of each input: how many outputs it shares with u, and g = 1 / sqrt(1 + its external degree); those that share any
    std::vector<int32_t> common, sharing;
    std::vector<double> g;
    // Of each output: the paths through one z1, how many and the sum of their g; its score; whether it is in N(u)
    std::vector<int32_t> paths, reached, scored;
    std::vector<double> sums, scores;
    std::vector<uint8_t> is_connected;

    Range row(const Rows& rows, int64_t r) const { return {rows.indptr[r], rows.indptr[r + 1]}; }
    int64_t degree(const Rows& rows, int64_t r) const { return rows.indptr[r + 1] - rows.indptr[r]; }

    // g of all inputs that share an output with u; how many.
    int64_t weigh(int64_t u) {
        int64_t n = 0;
        const Range mine = row(inputs, u);
        for (int64_t k = mine.begin; k < mine.end; k++) {
            const Range others = row(outputs, inputs.indices[k]);
            for (int64_t j = others.begin; j < others.end; j++) {
                const int32_t z2 = outputs.indices[j];
                sharing[size_t(n)] = z2;
                n += common[size_t(z2)]++ == 0;
            }
        }
        for (int64_t i = 0; i < n; i++) {
            const size_t z2 = size_t(sharing[size_t(i)]);
            g[z2] = roots.inverse[size_t(degree(inputs, int64_t(z2)) - common[z2])];
        }
        return n;
    }

    // Adds the paths u - z1 - z2 - v of one z1, for the g that `weigh` found, to the scores of the row. How many outputs
    // have a score then; `n` had one before.
    int64_t add_paths(int64_t z1, int64_t n) {
        int64_t n_reached = 0;
        const Range between = row(outputs, z1);
        for (int64_t j = between.begin; j < between.end; j++) {
            const int64_t z2 = outputs.indices[j];
            const double each = g[size_t(z2)];
            if (each == 0) continue;  // also of u itself, which shares all its outputs with u
            const Range ends = row(inputs, z2);
            for (int64_t k = ends.begin; k < ends.end; k++) {
                const int32_t v = inputs.indices[k];
                reached[size_t(n_reached)] = v;
                n_reached += paths[size_t(v)]++ == 0;
                sums[size_t(v)] += each;
            }
        }
        const double* root = roots.root.data() + degree(outputs, z1);
        for (int64_t i = 0; i < n_reached; i++) {
            const int32_t v = reached[size_t(i)];
            scored[size_t(n)] = v;
            n += scores[size_t(v)] == 0;
            scores[size_t(v)] += sums[size_t(v)] / root[-paths[size_t(v)]];
            sums[size_t(v)] = 0, paths[size_t(v)] = 0;
        }
        return n;
    }

    void offer(int64_t u, int64_t v, double score) {
        const int64_t cell = u * inputs.others + v;
        if (!is_soft) return best.offer({-score, cell});
        const double uniform = uniform_of(seed, uint32_t(u), uint32_t(v));
        // -log(x) >= 1 - x: most need no logarithm
        if ((1 - uniform) * 0.999 / score > best.limit()) return;
        best.offer({minus_log(uniform) / score, cell});
    }

  public:
    Best best;

    Worker(const Connections& c, const Roots& roots, int64_t count, bool is_soft, uint64_t seed)
        : inputs(c.by_input), outputs(c.by_output), roots(roots), is_soft(is_soft), seed(seed),
          common(size_t(inputs.count)), sharing(size_t(inputs.count) + 1), g(size_t(inputs.count)),
          paths(size_t(outputs.count)), reached(size_t(outputs.count) + 1), scored(size_t(outputs.count) + 1),
          sums(size_t(outputs.count)), scores(size_t(outputs.count)), is_connected(size_t(outputs.count)), best(count) {}

    void do_row(int64_t u) {
        const Range mine = row(inputs, u);
        const int64_t n_sharing = weigh(u);
        int64_t n_scored = 0;
        for (int64_t k = mine.begin; k < mine.end; k++) n_scored = add_paths(inputs.indices[k], n_scored);
        for (int64_t k = mine.begin; k < mine.end; k++) is_connected[size_t(inputs.indices[k])] = 1;
        for (int64_t i = 0; i < n_scored; i++) {
            const size_t v = size_t(scored[size_t(i)]);
            if (!is_connected[v]) offer(u, int64_t(v), scores[v]);
            scores[v] = 0;
        }
        for (int64_t k = mine.begin; k < mine.end; k++) is_connected[size_t(inputs.indices[k])] = 0;
        for (int64_t i = 0; i < n_sharing; i++) common[size_t(sharing[size_t(i)])] = 0;
    }
};

}  // namespace

int64_t grow_by_paths(const Connections& c, int64_t count, bool is_soft, uint64_t seed, int64_t* cells,
                      int64_t threads) {
    if (count < 1) return 0;
    const Roots roots(std::max(most_connections(c.by_input), most_connections(c.by_output)));
    std::vector<Worker> workers;
    workers.reserve(size_t(std::max<int64_t>(1, threads)));
    for (int64_t i = 0; i < std::max<int64_t>(1, threads); i++) workers.emplace_back(c, roots, count, is_soft, seed);
    in_pieces(threads, [&](const Piece& piece) {
        const Range mine = piece.rows(c.by_input);
        for (int64_t u = mine.begin; u < mine.end; u++) workers[size_t(piece.worker)].do_row(u);
    });
    Best& best = workers[0].best;
    for (size_t i = 1; i < workers.size(); i++)
        for (const Candidate& candidate : workers[i].best.all) best.offer(candidate);
    best.reduce();
    for (size_t i = 0; i < best.all.size(); i++) cells[i] = best.all[i].cell;
    std::sort(cells, cells + best.all.size());
    return int64_t(best.all.size());
}

}  // namespace set_native
