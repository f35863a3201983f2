#include "mlx_lm/kernels/machine_limits.h"

#include <algorithm>
#include <chrono>
#include <iostream>

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

double seconds_of(double (*loop)(int64_t), int64_t rounds) {
  const auto start = std::chrono::steady_clock::now();
  loop(rounds);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(MachineLimits, AreMeasured) {
  under_every_set([] {
    const auto limits = measure_machine_limits();
    EXPECT_EQ(limits.threads, pool().size());
    // From an emulated machine to more than any has.
    EXPECT_GT(limits.read, 1e6);
    EXPECT_LT(limits.read, 2e13);
    for (double operations : {limits.int8, limits.int16, limits.float32}) {
      EXPECT_GT(operations, 1e5 * limits.threads);
      EXPECT_LT(operations, 2e12 * limits.threads);
    }
    std::cout << table().name << ", " << limits.threads << " threads: " << limits.read / 1e9 << " GB/s, int8 "
              << limits.int8 / 1e9 << ", int16 " << limits.int16 / 1e9 << ", float32 " << limits.float32 / 1e9
              << " GOP/s" << std::endl;
  });
}

TEST(MachineLimits, GiveThePeakOfAKind) {
  const MachineLimits limits{.threads = 1, .read = 1, .int8 = 2, .int16 = 3, .float32 = 4};
  EXPECT_EQ(limits.operations(Activations::int8), 2);
  EXPECT_EQ(limits.operations(Activations::int16), 3);
  EXPECT_EQ(limits.operations(Activations::float32), 4);
}

// A loop that a compiler has shortened would take no longer for more rounds.
TEST(MachineLimits, LoopsDoAllTheirRounds) {
  under_every_set([] {
    const auto& peaks = table().peaks;
    for (auto* loop : {peaks.int8, peaks.int16, peaks.float32}) {
      EXPECT_EQ(loop(2000), 2 * loop(1000));
      double few = 1, many = 1;
      for (int i = 0; i < 5; ++i) {
        few = std::min(few, seconds_of(loop, 2000));
        many = std::min(many, seconds_of(loop, 32000));
      }
      EXPECT_GT(many, 8 * few);
      EXPECT_LT(loop(32000) / many, 1e12);  // multiplications per second of one thread
    }
  });
}

// The vector sets are there because they are faster.
TEST(MachineLimits, VectorsBeatPlainCode) {
  if (table_for("avx2") == nullptr) GTEST_SKIP();
  use_table(table_for("scalar"));
  const auto plain = measure_machine_limits();
  use_table(table_for("avx2"));
  const auto vectors = measure_machine_limits();
  use_table(nullptr);
  EXPECT_GT(vectors.int8, plain.int8);
  EXPECT_GT(vectors.int16, plain.int16);
  EXPECT_GT(vectors.float32, plain.float32);
}

}  // namespace
}  // namespace mlx_lm::kernels
