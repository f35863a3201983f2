#include "mlx_lm/kernels/machine_limits.h"

#include <iostream>

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

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

TEST(MachineLimits, LoopsCountTheirMultiplications) {
  under_every_set([] {
    const auto& peaks = table().peaks;
    for (auto* loop : {peaks.int8, peaks.int16, peaks.float32}) {
      EXPECT_GT(loop(1), 0);
      EXPECT_EQ(loop(2000), 2000 * loop(1));
    }
  });
}

}  // namespace
}  // namespace mlx_lm::kernels
