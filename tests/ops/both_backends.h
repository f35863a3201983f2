// Steps by our kernels and by MLX's own operations.
#pragma once

#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include "mlx_lm/ops/backend.h"

namespace mlx_lm::ops {

class BothBackends : public testing::Test {
 protected:
  void TearDown() override { set_backend(Backend::kernels); }

  template <class F>
  mx::array by(Backend backend, F&& f) {
    set_backend(backend);
    mx::array result = f();
    result.eval();
    return result;
  }
  // f under both backends, MLX in float32.
  template <class F>
  void expect_same(F&& f, float tolerance, const std::string& what) {
    const auto ours = by(Backend::kernels, f), theirs = by(Backend::mlx, f);
    EXPECT_EQ(ours.dtype(), mx::float32);
    ASSERT_EQ(ours.shape(), theirs.shape()) << what;
    EXPECT_LT(difference(ours, theirs), tolerance) << what;
  }
  static float difference(const mx::array& a, const mx::array& b) {
    return mx::max(mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32))).item<float>();
  }
  int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  mx::array random(const mx::Shape& shape, mx::Dtype dtype = mx::float32) {
    return mx::astype(mx::random::normal(shape, mx::float32, mx::random::key(engine_())), dtype);
  }
  // The same numbers laid out otherwise: every second column, a transpose, a slice.
  mx::array elsewhere(const mx::array& x, int way) {
    if (way == 0) return x;
    if (way == 1) {
      auto wide = mx::repeat(x, 2, -1);
      auto stop = wide.shape();
      mx::Shape strides(x.ndim(), 1);
      strides.back() = 2;
      return mx::slice(wide, mx::Shape(x.ndim(), 0), stop, strides);
    }
    if (way == 2) return mx::swapaxes(mx::contiguous(mx::swapaxes(x, 0, -1)), 0, -1);
    auto more = mx::concatenate({x, x}, 1);
    mx::Shape start(x.ndim(), 0), stop = more.shape();
    start[1] = x.shape(1);
    return mx::slice(more, start, stop);
  }

  std::minstd_rand engine_{1};
};

inline constexpr mx::Dtype kTypes[] = {mx::float32, mx::float16, mx::bfloat16};

}  // namespace mlx_lm::ops
