// What the tests of samplers and processors share: the golden cases, and runs by the kernels and by MLX's operations.
#pragma once

#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <mlx/mlx.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/ops/backend.h"

namespace mlx_lm::sample {
namespace mx = mlx::core;

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

inline nlohmann::json golden_samplers() {
  return nlohmann::json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/samplers.json"));
}

inline mx::array row_of(const std::vector<float>& values) {
  return mx::array(values.begin(), {1, int(values.size())}, mx::float32);
}

// A row from the description in samplers.json. (1, V).
inline mx::array drawn_row(const nlohmann::json& logits) {
  const int size = logits[0], seed = logits[1];
  const float scale = logits[2], step = logits[3];
  auto x = mx::random::normal({size}, mx::float32, mx::random::key(seed)) * mx::array(scale);
  if (step > 0) x = mx::round(x / mx::array(step)) * mx::array(step);
  return mx::reshape(x, {1, size});
}

template <class T = float>
std::vector<T> numbers(const mx::array& x) {
  auto plain = mx::contiguous(x);
  plain.eval();
  return {plain.data<T>(), plain.data<T>() + plain.size()};
}

template <class F>
void by_every_backend(F test) {
  for (const auto backend : {ops::Backend::mlx, ops::Backend::kernels}) {
    SCOPED_TRACE(backend == ops::Backend::mlx ? "MLX" : "kernels");
    ops::set_backend(backend);
    test();
  }
}

// The sum of (found - expected)^2 / expected is above the limit once in a million: by Wilson and Hilferty's
// approximation, 4.75 standard deviations above the mean. Rare tokens are counted together.
inline void expect_chi_square(const std::vector<double>& found, const std::vector<double>& expected) {
  double sum = 0, rare_found = 0, rare_expected = 0;
  int groups = 0;
  const auto add = [&](double f, double e) { sum += (f - e) * (f - e) / e, ++groups; };
  for (size_t i = 0; i < found.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(found[i], 0) << i;
    } else if (expected[i] < 10) {
      rare_found += found[i], rare_expected += expected[i];
    } else {
      add(found[i], expected[i]);
    }
  }
  if (rare_expected > 0) add(rare_found, rare_expected);
  const double freedom = std::max(1, groups - 1), spread = 2 / (9 * freedom);
  EXPECT_LT(sum, freedom * std::pow(1 - spread + 4.75 * std::sqrt(spread), 3)) << groups << " groups";
}

}  // namespace mlx_lm::sample
