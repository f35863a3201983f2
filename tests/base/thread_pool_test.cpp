#include "mlx_lm/base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (int tasks : {0, 1, 2, 3, 17, 1000}) {
      std::vector<std::atomic<int>> counts(tasks);
      pool.run(tasks, [&](int i) { ++counts[i]; });
      for (const auto& count : counts) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadPool, ManyJobsBackToBack) {
  ThreadPool pool(3);
  int64_t sum = 0;
  std::vector<int> results(7);
  for (int job = 0; job < 20000; ++job) {
    const int tasks = 2 + job % 6;
    pool.run(tasks, [&](int i) { results[i] = job + i; });
    for (int i = 0; i < tasks; ++i) sum += results[i] - job - i;
  }
  EXPECT_EQ(sum, 0);
}

TEST(ThreadPool, WakesAfterSleep) {
  ThreadPool pool(4);
  for (int job = 0; job < 30; ++job) {
    std::this_thread::sleep_for(std::chrono::microseconds(job * 20));
    std::atomic<int> count = 0;
    pool.run(8, [&](int) { ++count; });
    EXPECT_EQ(count, 8);
  }
}

TEST(ThreadPool, WaitsForALongTask) {
  ThreadPool pool(2);
  std::atomic<int> count = 0;
  pool.run(4, [&](int i) {
    if (i == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++count;
  });
  EXPECT_EQ(count, 4);
}

TEST(ThreadPool, CallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<int> count = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int job = 0; job < 500; ++job) pool.run(5, [&](int) { ++count; });
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(count, 4 * 500 * 5);
}

// In a process of its own, because the global pool is made only once.
TEST(ThreadPoolDeathTest, ThreadsFromTheEnvironment) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto size_with = [](const char* value) {
    setenv("MLX_LM_THREADS", value, 1);
    try {
      std::exit(ThreadPool::global().size());
    } catch (const RequestError& error) {
      fmt::print(stderr, "{}\n", error.what());
      std::exit(99);
    }
  };
  EXPECT_EXIT(size_with("3"), testing::ExitedWithCode(3), "");
  for (const char* bad : {"0", "257", "two", "3x", "-1"}) {
    EXPECT_EXIT(size_with(bad), testing::ExitedWithCode(99), "MLX_LM_THREADS: expected .* found '");
  }
}

TEST(ThreadPoolDeathTest, ThreadsFromTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  setenv("MLX_LM_THREADS", "nonsense", 1);  // not even looked at
  const auto size_after = [](std::initializer_list<int> sizes) {
    try {
      for (int size : sizes) ThreadPool::set_global_size(size);
      std::exit(ThreadPool::global().size());
    } catch (const RequestError& error) {
      fmt::print(stderr, "{}\n", error.what());
      std::exit(99);
    }
  };
  EXPECT_EXIT(size_after({3}), testing::ExitedWithCode(3), "");
  EXPECT_EXIT(size_after({3, 3}), testing::ExitedWithCode(3), "");
  EXPECT_EXIT(size_after({3, 4}), testing::ExitedWithCode(99), "threads: expected 4 before .*, found 3 at work");
  for (int bad : {0, 257, -1}) {
    EXPECT_EXIT(size_after({bad}), testing::ExitedWithCode(99), "threads: expected .* from 1 to 256, found ");
  }
}

}  // namespace
}  // namespace mlx_lm
