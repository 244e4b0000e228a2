#include "team.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace set_native {
namespace {

// Longer than most phases take to end, shorter than what others on the machine would notice.
constexpr std::chrono::microseconds patience{50};

inline void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Waits a little for a condition without giving the core away; whether it holds.
template <typename Condition>
bool soon(Condition holds) {
    const auto end = std::chrono::steady_clock::now() + patience;
    do {
        for (int i = 0; i < 16; i++) {
            if (holds()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

struct alignas(64) Counter {
    std::atomic<uint64_t> value{0};
};

}  // namespace

// Phases that are being done by the thread that asked for them and by helpers of the pool.
//
// A counter has the number of a phase, from 1 on through all rounds, in its upper half, and in its lower half how many
// of its pieces are claimed or done. It belongs to an earlier phase until somebody counts for the next one: nobody has
// to set it to 0, and a thread that comes late sees that its phase is over.
//
// Helpers outlive the call, which returns as soon as all is done. So they touch the phases only between `enter` and
// `leave`, and are outside while they wait.
class Job {
  public:
    Job(const Phases& phases, int64_t rounds) : phases(phases), rounds(rounds), claims(size_t(phases.threads)) {}

    // For the pool, with its lock: the number of another worker, who has entered; 0 where none is wanted.
    int64_t admit() {
        if (joined == phases.threads) return 0;
        enter();
        return joined++;
    }

    int64_t helpers() const { return phases.threads - 1; }

    // What the caller does of the work; all of it is done afterwards.
    void lead() { work(0); }

    // What a helper does of it, who has entered.
    void help(int64_t worker) {
        if (work(worker)) leave();
    }

    // Nobody touches the phases any more afterwards.
    void close() {
        over.store(true);
        wake_if(asleep.load() > 0);
        const auto empty = [this] { return inside.load() == 0; };
        if (!soon(empty)) sleep_until(empty);
    }

  private:
    const Phases& phases;
    const int64_t rounds;
    std::vector<Counter> claims;  // of the pieces that each worker begins with
    Counter done;
    int64_t joined = 1;
    std::atomic<int64_t> inside{0};
    std::atomic<bool> over{false};
    std::atomic<int64_t> asleep{0};
    std::mutex mutex;
    std::condition_variable changed;

    static uint64_t phase_of(uint64_t counter) { return counter >> 32; }
    static uint64_t count_of(uint64_t counter) { return counter & 0xffffffff; }

    void enter() { inside.fetch_add(1); }
    void leave() {
        const bool was_last = inside.fetch_sub(1) == 1;
        wake_if(was_last && over.load());
    }

    void wake_if(bool needed) {
        if (!needed) return;
        const std::lock_guard<std::mutex> lock(mutex);
        changed.notify_all();
    }

    template <typename Condition>
    void sleep_until(Condition holds) {
        std::unique_lock<std::mutex> lock(mutex);
        asleep.fetch_add(1);
        changed.wait(lock, holds);
        asleep.fetch_sub(1);
    }

    // The next piece of a group of `size`, -1 where none is left.
    int64_t claim(std::atomic<uint64_t>& group, uint64_t phase, uint64_t size) {
        uint64_t seen = group.load();
        for (;;) {
            if (phase_of(seen) > phase) return -1;
            const uint64_t taken = phase_of(seen) == phase ? count_of(seen) : 0;
            if (taken >= size) return -1;
            if (group.compare_exchange_weak(seen, phase << 32 | (taken + 1))) return static_cast<int64_t>(taken);
        }
    }

    // So many more pieces are done; of what is left all are claimed, so nobody could have gone on before.
    void count_done(uint64_t phase, uint64_t more, uint64_t pieces) {
        if (!more) return;
        uint64_t seen = done.value.load(), counted;
        do {
            counted = phase_of(seen) == phase ? count_of(seen) + more : more;
        } while (!done.value.compare_exchange_weak(seen, phase << 32 | counted));
        wake_if(counted == pieces && asleep.load() > 0);
    }

    bool is_done(uint64_t phase, uint64_t pieces) const {
        const uint64_t seen = done.value.load();
        return phase_of(seen) > phase || (phase_of(seen) == phase && count_of(seen) == pieces);
    }

    // Each worker begins with its own group of neighbouring pieces, the same in every phase: what it wrote is in its
    // caches. Then it takes from the others.
    void do_pieces(uint64_t phase, int64_t worker) {
        const int64_t count = static_cast<int64_t>(phases.all.size()), index = static_cast<int64_t>(phase) - 1;
        const Phases::Phase& each = phases.all[static_cast<size_t>(index % count)];
        const int64_t workers = phases.threads;
        uint64_t mine = 0;
        for (int64_t i = 0; i < workers; i++) {
            const int64_t group = (worker + i) % workers;
            const int64_t first = each.pieces * group / workers, end = each.pieces * (group + 1) / workers;
            for (int64_t piece; (piece = claim(claims[size_t(group)].value, phase, uint64_t(end - first))) >= 0;) {
                each.run(Piece{first + piece, each.pieces, index / count, worker});
                mine++;
            }
        }
        count_done(phase, mine, uint64_t(each.pieces));
    }

    // Whether the phase is done; false where the job is over for a helper, who is then outside.
    bool wait(uint64_t phase, uint64_t pieces, bool is_helper) {
        const auto ended = [&] { return is_done(phase, pieces) || (is_helper && over.load()); };
        if (ended()) {
            if (!is_helper || !over.load()) return true;
        }
        if (is_helper) leave();
        if (!soon(ended)) sleep_until(ended);
        if (!is_helper) return true;
        enter();
        if (!over.load()) return true;
        leave();
        return false;
    }

    // False for a helper who has left already.
    bool work(int64_t worker) {
        const uint64_t count = phases.all.size(), last = count * static_cast<uint64_t>(rounds);
        uint64_t phase = std::max<uint64_t>(1, phase_of(done.value.load()));
        for (; phase <= last; phase++) {
            const uint64_t pieces = static_cast<uint64_t>(phases.all[(phase - 1) % count].pieces);
            do_pieces(phase, worker);
            if (!wait(phase, pieces, worker != 0)) return false;
        }
        return true;
    }
};

namespace {

// The threads of this process that help. They are never ended: the process may end around them.
class Pool {
  public:
    void post(const std::shared_ptr<Job>& job) {
        std::unique_lock<std::mutex> lock(mutex);
        jobs.push_back(job);
        int64_t wanted = 0;
        for (const std::shared_ptr<Job>& each : jobs) wanted += each->helpers();
        while (helpers < wanted && start_helper()) {  // with fewer it takes longer, no more
        }
        posted.fetch_add(1);
        int64_t needed = std::min(asleep, job->helpers());
        lock.unlock();
        for (; needed > 0; needed--) is_posted.notify_one();
    }

    void remove(const std::shared_ptr<Job>& job) {
        const std::lock_guard<std::mutex> lock(mutex);
        jobs.erase(std::find(jobs.begin(), jobs.end(), job));
    }

  private:
    std::mutex mutex;
    std::condition_variable is_posted;
    std::vector<std::shared_ptr<Job>> jobs;
    int64_t helpers = 0, asleep = 0;
    std::atomic<uint64_t> posted{0};

    bool start_helper() {
        sigset_t all, before;  // signals are for the threads of the program
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        bool is_started = true;
        try {
            std::thread([this] { serve(); }).detach();
        } catch (const std::exception&) {  // no thread, or no memory for one
            is_started = false;
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        helpers += is_started;
        return is_started;
    }

    void serve() {
        const FlushToZero mode;
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            std::shared_ptr<Job> job;
            int64_t worker = 0;
            for (const std::shared_ptr<Job>& each : jobs)
                if ((worker = each->admit())) {
                    job = each;
                    break;
                }
            if (!job) {
                rest(lock);
                continue;
            }
            lock.unlock();
            job->help(worker);
            job.reset();
            lock.lock();
        }
    }

    void rest(std::unique_lock<std::mutex>& lock) {
        const uint64_t seen = posted.load();
        const auto is_new = [&] { return posted.load() != seen; };
        lock.unlock();
        const bool found = soon(is_new);
        lock.lock();
        if (!found) {
            asleep++;
            is_posted.wait(lock, is_new);
            asleep--;
        }
    }
};

Pool* pool;

// In a child process there is only the thread that forked; whatever the others held is held forever.
void start_anew() { pool = new Pool; }

Pool& the_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        start_anew();
        pthread_atfork(nullptr, nullptr, start_anew);
    });
    return *pool;
}

}  // namespace

void Phases::run(int64_t rounds) const {
    const FlushToZero mode;
    if (all.empty() || rounds < 1) return;
    if (threads == 1) {
        for (int64_t round = 0; round < rounds; round++)
            for (const Phase& each : all)
                for (int64_t piece = 0; piece < each.pieces; piece++) each.run(Piece{piece, each.pieces, round, 0});
        return;
    }
    const auto job = std::make_shared<Job>(*this, rounds);
    Pool& helpers = the_pool();
    helpers.post(job);
    job->lead();
    helpers.remove(job);
    job->close();
}

}  // namespace set_native
