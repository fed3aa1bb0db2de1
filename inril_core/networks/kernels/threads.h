// Work shared by several threads.

#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>

#include "registers.h"

namespace {

constexpr int MOST_THREADS = 16, MOST_TASKS = 64;  // the latter: bits of a mask

inline void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The caller of a kernel and ``threads - 1`` helpers, which are started with the first work.
//
// Which of them does a task is left open, so that a core that is busy with something else delays one task at most. A
// task writes what no other one does, and what is summed over tasks is summed afterwards, in their order: numbers do
// not depend on the threads.
class Team {
  public:
    explicit Team(int threads) : threads(threads) {}

    const int threads;

    // work(task, worker) for each task below ``tasks``; two that run at once have different workers below ``threads``.
    template <typename Work> void split(int tasks, const Work& work) {
        std::unique_lock<std::mutex> alone(busy_, std::defer_lock);
        // not locked: another thread of the program has the helpers
        if (threads == 1 || tasks <= 1 || !alone.try_lock() || ended_) {
            for (int task = 0; task < tasks; task++) work(task, 0);
            return;
        }
        for (int from = 0; from < tasks; from += MOST_TASKS)
            share(std::min(MOST_TASKS, tasks - from), [&](int task, int worker) { work(from + task, worker); });
    }

    // End the helpers; what is split afterwards is done by its caller.
    void end() {
        const std::lock_guard<std::mutex> alone(busy_);
        {
            const std::lock_guard<std::mutex> lock(sleep_);
            ended_ = true;
        }
        called_.notify_all();
        for (std::thread& helper : helpers_) helper.join();
        helpers_.clear();
    }

  private:
    // Longer than the part of an update in which the kernels rest, or each would begin with waking the helpers.
    static constexpr std::chrono::microseconds WATCHFUL{1000};
    static constexpr int LOOKS = 64;  // between two glances at the clock, at which others may have the core

    std::mutex busy_, sleep_;
    std::condition_variable called_;
    std::vector<std::thread> helpers_;
    std::atomic<bool> ended_{false};
    std::atomic<int> asleep_{0};
    // Written before tasks are opened, read after one was taken.
    const void* work_ = nullptr;
    void (*call_)(const void* work, int task, int worker) = nullptr;
    std::atomic<int> tasks_{0};
    alignas(64) std::atomic<std::uint64_t> open_{0};  // tasks that nobody has taken
    alignas(64) std::atomic<int> undone_{0};

    template <typename Work> void share(int tasks, const Work& work) {
        if (helpers_.empty()) start();
        work_ = &work;
        call_ = [](const void* at, int task, int worker) { (*static_cast<const Work*>(at))(task, worker); };
        tasks_.store(tasks, std::memory_order_relaxed);
        undone_.store(tasks, std::memory_order_relaxed);
        open_ = ~std::uint64_t{0} >> (MOST_TASKS - tasks);
        if (asleep_) {
            const std::lock_guard<std::mutex> lock(sleep_);
            called_.notify_all();
        }
        take(0);
        for (int looks = 1; undone_.load(std::memory_order_acquire); looks++)
            looks % LOOKS ? relax() : std::this_thread::yield();  // a helper may wait for this core
    }

    // Do open tasks, those of the worker's own share first: what it had last time may still be in its core's cache.
    void take(int worker) {
        const int first = worker * tasks_.load(std::memory_order_relaxed) / threads;
        while (const std::uint64_t open = open_.load(std::memory_order_relaxed)) {
            const std::uint64_t ahead = open >> first << first;
            const int task = __builtin_ctzll(ahead ? ahead : open);
            const std::uint64_t bit = std::uint64_t{1} << task;
            if (!(open_.fetch_and(~bit, std::memory_order_acq_rel) & bit)) continue;
            call_(work_, task, worker);
            undone_.fetch_sub(1, std::memory_order_release);
        }
    }

    void start() {
        static const char NAME[] = "inril-kernels";  // in top -H and /proc
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
        try {
            for (int worker = 1; worker < threads; worker++) {
                helpers_.emplace_back([this, worker] { help(worker); });
                pthread_setname_np(helpers_.back().native_handle(), NAME);
            }
        } catch (const std::system_error&) {  // the machine allows no more: fewer helpers, or none
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    void help(int worker) {
        const NoDenormals guard;
        typedef std::chrono::steady_clock Clock;
        Clock::time_point rest = Clock::now() + WATCHFUL;
        for (int looks = 1; !ended_; looks++) {
            if (open_.load(std::memory_order_relaxed)) {
                take(worker);
                rest = Clock::now() + WATCHFUL;
            } else if (looks % LOOKS) {
                relax();
            } else if (Clock::now() < rest) {
                std::this_thread::yield();
            } else {
                std::unique_lock<std::mutex> lock(sleep_);
                asleep_++;
                called_.wait(lock, [this] { return ended_ || open_; });
                asleep_--;
                rest = Clock::now() + WATCHFUL;
            }
        }
    }
};

// The program's. One that was replaced is never freed: somebody may be in it.
std::atomic<Team*> team{new Team(1)};

const struct AtEnd {
    // a child of fork() has none of the helpers, and its copies of locks may be held by threads that it does not have
    AtEnd() { pthread_atfork(nullptr, nullptr, [] { team = new Team(team.load()->threads); }); }
    ~AtEnd() { team.load()->end(); }
} at_end;

}  // namespace
