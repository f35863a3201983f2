// Layers written out in plain MLX operations, and a test that runs by both backends.
#pragma once

#include <gtest/gtest.h>

#include "mlx_lm/ops/backend.h"

#include "tests/nn/store.h"

namespace mlx_lm::nn {

inline mx::array silu(const mx::array& x) { return x * mx::sigmoid(x); }
inline mx::array times(const mx::array& x, const mx::array& w) { return mx::matmul(x, mx::transpose(w)); }
inline mx::array norm(const mx::array& x, const mx::array& w, float eps) {
  return x * mx::rsqrt(mx::mean(mx::square(x), -1, true) + mx::array(eps)) * w;
}

class BothBackends : public testing::TestWithParam<ops::Backend> {
 protected:
  void SetUp() override { ops::set_backend(GetParam()); }
  void TearDown() override { ops::set_backend(ops::Backend::kernels); }
};

#define MLX_LM_FOR_BOTH_BACKENDS(Suite)                                                                \
  INSTANTIATE_TEST_SUITE_P(Backends, Suite, testing::Values(ops::Backend::kernels, ops::Backend::mlx), \
                           [](const auto& info) { return info.param == ops::Backend::kernels ? "kernels" : "mlx"; })

}  // namespace mlx_lm::nn
