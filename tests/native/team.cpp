// Phases of a team under ThreadSanitizer: `make test-sanitized` builds it with set_cli/native/src/team.cpp and runs it.
// Every phase reads what all pieces of the one before wrote, with no other synchronisation than the team's.
#include "team.hpp"

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

using namespace set_native;

namespace {

// Cells that every round moves on by one place and increases; what a piece reads was written by other pieces.
bool moves_all(int64_t threads, int64_t cells, int64_t rounds) {
    std::vector<int64_t> here(static_cast<size_t>(cells)), there(here.size());
    int64_t wholes = 0;
    const Scratch scratch(16, threads);
    Phases phases(threads);
    phases.add([&](const Piece& piece) {
        const Range mine = piece.share(cells);
        float* own = scratch.of(piece);  // of this worker alone
        for (int i = 0; i < 16; i++) own[i] = static_cast<float>(piece.number);
        for (int64_t i = mine.begin; i < mine.end; i++)
            there[static_cast<size_t>(i)] = here[static_cast<size_t>((i + 1) % cells)] + 1;
        for (int i = 0; i < 16; i++)
            if (own[i] != static_cast<float>(piece.number)) abort();
    });
    phases.add_whole([&](const Piece& piece) {
        if (wholes++ != piece.round) abort();
    });
    phases.add([&](const Piece& piece) {
        const Range mine = piece.share(cells);
        for (int64_t i = mine.begin; i < mine.end; i++)
            here[static_cast<size_t>((i + cells / 2) % cells)] = there[static_cast<size_t>((i + cells / 2) % cells)];
    });
    phases.run(rounds);
    for (const int64_t cell : here)
        if (cell != rounds) return false;
    return wholes == rounds;
}

}  // namespace

int main() {
    for (const int64_t threads : {1, 2, 3, 7})
        for (const int64_t cells : {1, 5, 1000})
            for (int repeat = 0; repeat < 40; repeat++)
                if (!moves_all(threads, cells, 1 + repeat % 5)) return 1;
    std::vector<std::thread> callers;
    bool fine[4] = {};
    for (bool& each : fine)
        callers.emplace_back([&each] {
            each = true;
            for (int repeat = 0; repeat < 100; repeat++) each &= moves_all(1 + repeat % 4, 64, 3);
        });
    for (std::thread& caller : callers) caller.join();
    for (const bool each : fine)
        if (!each) return 1;
    puts("every phase saw the one before");
    return 0;
}
