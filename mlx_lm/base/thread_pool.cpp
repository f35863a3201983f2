// Implementation details: one 64-bit word holds the number of the current job (high half) and its tasks that nobody
// has claimed yet (low half). A claim is a compare-and-swap of that word, so a worker that wakes up late can never take
// a task of a job that is over, and the caller waits for claimed tasks only, not for sleeping workers.
#include "mlx_lm/base/thread_pool.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "mlx_lm/base/error.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace mlx_lm {
namespace {

// Longer than the gap between two kernels of one token (a few µs), shorter than anything a user would notice on a
// machine that others use too.
constexpr std::chrono::microseconds kSpin{50};

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#else
  std::this_thread::yield();
#endif
}

// Whether ready() came true within kSpin.
template <class F>
bool spin_until(F ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// Physical cores among the processors that this process may use: two hyperthreads share one core's arithmetic.
int physical_cores() {
#ifdef __linux__
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings", cpu));
      std::string siblings;
      if (!(file >> siblings)) siblings = fmt::format("cpu {}", cpu);  // no /sys, as in some containers
      cores.insert(siblings);
    }
    if (!cores.empty()) return static_cast<int>(cores.size());
  }
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? 1 : static_cast<int>(count);
}

constexpr int kMost = 256;
std::atomic<int> wanted_threads{0};  // 0: the environment says, or the processor

int default_threads() {
  if (const int wanted = wanted_threads.load(); wanted > 0) return wanted;
  const char* text = std::getenv("MLX_LM_THREADS");
  if (text == nullptr || *text == '\0') {
    // The thread that builds the next step's graph wants a core too. Of many, one is its own: on 16 cores 15 threads
    // made 500 tokens a second, 16 made 320. Of few, the arithmetic needs every one.
    const int cores = std::min(physical_cores(), kMost);
    return cores < 8 ? cores : cores - 1;
  }
  const std::string_view view(text);
  int threads = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), threads);
  if (error != std::errc() || end != view.data() + view.size() || threads < 1 || threads > kMost) {
    fail<RequestError>("[cpu] MLX_LM_THREADS: expected a whole number from 1 to {}, found '{}'", kMost, view);
  }
  return threads;
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::mutex turn;  // held by the caller whose job runs

  std::atomic<uint64_t> word{0};  // job number << 32 | unclaimed tasks
  // The current job. Written only while nothing is unclaimed, so a claim that succeeds has read them whole; atomic
  // because a late worker may read them in vain.
  std::atomic<void (*)(void*, int)> call{nullptr};
  std::atomic<void*> work{nullptr};
  std::atomic<int> tasks{0};
  std::atomic<int> unfinished{0};

  std::mutex sleep;
  std::condition_variable wake;  // workers: there is work, or the end
  std::condition_variable done;  // the caller: unfinished is 0
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_sleeps{false};
  std::atomic<bool> stop{false};

  bool idle() const { return static_cast<uint32_t>(word.load()) == 0; }

  // Claims and runs tasks until none is left.
  void help() {
    uint64_t seen = word.load();
    while (static_cast<uint32_t>(seen) != 0) {
      const int task = tasks.load(std::memory_order_relaxed) - static_cast<int>(static_cast<uint32_t>(seen));
      const auto function = call.load(std::memory_order_relaxed);
      void* const argument = work.load(std::memory_order_relaxed);
      if (!word.compare_exchange_weak(seen, seen - 1)) continue;
      function(argument, task);
      if (unfinished.fetch_sub(1) == 1 && caller_sleeps.load()) {
        std::lock_guard lock(sleep);
        done.notify_one();
      }
      seen = word.load();
    }
  }

  void worker() {
    for (;;) {
      if (!spin_until([&] { return !idle() || stop.load(); })) {
        std::unique_lock lock(sleep);
        sleepers.fetch_add(1);  // before the look at `word` in wait(): run() does the two the other way round
        wake.wait(lock, [&] { return !idle() || stop.load(); });
        sleepers.fetch_sub(1);
      }
      if (stop.load()) return;
      help();
    }
  }
};

ThreadPool& ThreadPool::global() {
  static ThreadPool pool(default_threads());
  return pool;
}

void ThreadPool::set_global_size(int threads) {
  if (threads < 1 || threads > kMost) {
    fail<RequestError>("[cpu] threads: expected a whole number from 1 to {}, found {}", kMost, threads);
  }
  wanted_threads.store(threads);
  if (const int size = global().size(); size != threads) {
    fail<RequestError>("[cpu] threads: expected {} before the first use of the pool, found {} at work", threads, size);
  }
}

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  for (int i = 1; i < threads; ++i) state_->workers.emplace_back([state = state_.get()] { state->worker(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->sleep);
    state_->stop.store(true);
  }
  state_->wake.notify_all();
  for (auto& worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(int tasks, void (*call)(void*, int), void* work) {
  State& s = *state_;
  if (tasks <= 1 || s.workers.empty()) {
    for (int i = 0; i < tasks; ++i) call(work, i);
    return;
  }
  std::lock_guard turn(s.turn);
  s.call.store(call, std::memory_order_relaxed);
  s.work.store(work, std::memory_order_relaxed);
  s.tasks.store(tasks, std::memory_order_relaxed);
  s.unfinished.store(tasks, std::memory_order_relaxed);
  s.word.store(((s.word.load() >> 32) + 1) << 32 | static_cast<uint32_t>(tasks));
  if (s.sleepers.load() > 0) {
    { std::lock_guard lock(s.sleep); }  // whoever found no work is asleep by now and hears the call
    if (tasks - 1 >= static_cast<int>(s.workers.size())) {
      s.wake.notify_all();
    } else {
      for (int i = 1; i < tasks; ++i) s.wake.notify_one();
    }
  }
  s.help();
  if (spin_until([&] { return s.unfinished.load() == 0; })) return;
  std::unique_lock lock(s.sleep);  // a worker was interrupted in its task: leave it this core
  s.caller_sleeps.store(true);
  s.done.wait(lock, [&] { return s.unfinished.load() == 0; });
  s.caller_sleeps.store(false);
}

}  // namespace mlx_lm
