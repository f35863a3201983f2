#include "mlx_lm/ops/backend.h"

#include <cstdio>
#include <cstdlib>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm::ops {
namespace {

TEST(Backend, can_be_chosen) {
  set_backend(Backend::mlx);
  EXPECT_EQ(backend(), Backend::mlx);
  EXPECT_EQ(activation_type(mx::bfloat16), mx::bfloat16);
  set_backend(Backend::kernels);
  EXPECT_EQ(backend(), Backend::kernels);
  EXPECT_EQ(activation_type(mx::bfloat16), mx::float32);
}

TEST(Backend, counts_memory) {
  const auto before = peak_memory();
  EXPECT_GT(before, size_t{1} << 20);
  std::vector<char> much(64 << 20, 'x');
  EXPECT_GE(peak_memory(), std::max(before, much.size()));
}

// The environment is read once, so each of these runs in a process of its own.
[[noreturn]] void tell(const char* wanted) {
  ::setenv("MLX_LM_OPS", wanted, 1);
  try {
    std::fputs(backend() == Backend::kernels ? "our kernels" : "MLX itself", stderr);
  } catch (const RequestError& error) {
    std::fputs(error.what(), stderr);
  }
  std::exit(0);
}

TEST(BackendDeathTest, follows_the_environment) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto done = testing::ExitedWithCode(0);
  EXPECT_EXIT(tell("mlx"), done, "MLX itself");
  EXPECT_EXIT(tell("kernels"), done, "our kernels");
  EXPECT_EXIT(tell("else"), done, "\\[ops\\] MLX_LM_OPS: expected kernels or mlx, found else");
}

}  // namespace
}  // namespace mlx_lm::ops
