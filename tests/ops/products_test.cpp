// A product joined with the steps around it against the same steps one after another: the same bits.
#include "mlx_lm/ops/products.h"

#include <gtest/gtest.h>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/backend.h"

namespace mlx_lm::ops {
namespace {

mx::array random(const mx::Shape& shape, int seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed));
}

Matrix packed(int rows, int cols, int seed, int bits = 4) {
  auto parts = mx::quantize(random({rows, cols}, seed), 32, bits);
  return Matrix::quantized(parts[0], mx::astype(parts[1], mx::float16), mx::astype(parts[2], mx::float16),
                           {.group_size = 32, .bits = bits});
}

Matrix dense(int rows, int cols, int seed) {
  return Matrix::dense(mx::astype(random({rows, cols}, seed), mx::float16));
}

// What has been computed is no longer joined.
mx::array computed(mx::array x) {
  x.eval();
  return x;
}

void expect_same_bits(const mx::array& found, const mx::array& expected, const std::string& what) {
  ASSERT_EQ(found.shape(), expected.shape()) << what;
  EXPECT_TRUE(mx::array_equal(found, expected).item<bool>()) << what;
}

class Products : public testing::TestWithParam<kernels::Activations> {
 protected:
  void SetUp() override { kernels::set_activations(GetParam()); }
  void TearDown() override { kernels::set_activations(before_); }
  const kernels::Activations before_ = kernels::activations();
};

TEST_P(Products, take_in_norm_bias_and_residual) {
  for (const int n : {1, 3, 4, 5, 37, 300}) {
    for (const bool quantized : {true, false}) {
      const int rows = 52, cols = 96;
      const auto w = quantized ? packed(rows, cols, 1) : dense(rows, cols, 1);
      const auto x = random({1, n, cols}, 2), weight = random({cols}, 3), residual = random({1, n, rows}, 5);
      const std::optional<mx::array> bias = random({rows}, 4);
      const auto what = fmt::format("{} rows, {}", n, quantized ? "packed" : "dense");

      const auto normed = computed(rms_norm(x, weight, 1e-5f));
      const auto product = computed(matmul(normed, w));
      expect_same_bits(matmul(rms_norm(x, weight, 1e-5f), w), product, what);
      const auto biased = computed(mx::add(product, *bias));
      expect_same_bits(matmul(normed, w, bias), biased, what);
      const auto all = residual_add(residual, matmul(rms_norm(x, weight, 1e-5f), w, bias));
      EXPECT_EQ(all.inputs().size(), 4u) << "x, weight, bias, residual";
      expect_same_bits(all, mx::add(biased, residual), what);
      // A product that has been added to is not added to again.
      expect_same_bits(residual_add(residual, residual_add(residual, matmul(normed, w))),
                       mx::add(residual, mx::add(product, residual)), what);
    }
  }
}

TEST_P(Products, of_one_input_at_once) {
  for (const int n : {1, 4, 6, 70}) {
    const int cols = 128;
    const std::vector<Matrix> weights{packed(64, cols, 1), packed(24, cols, 2, 8), dense(17, cols, 3),
                                      packed(9, cols, 4, 3)};
    const std::optional<mx::array> none, bias = random({24}, 5);
    const auto x = random({2, n, cols}, 6);
    for (const bool with_dense : {true, false}) {
      std::vector<Projection> projections;
      for (size_t i = 0; i < weights.size(); ++i) {
        if (i != 2 || with_dense) projections.push_back({weights[i], i == 1 ? bias : none});
      }
      const auto together = matmul(x, projections);
      ASSERT_EQ(together.size(), projections.size());
      for (size_t i = 0; i < together.size(); ++i) {
        expect_same_bits(together[i], computed(matmul(x, projections[i].weight, projections[i].bias)),
                         fmt::format("{} rows, {}", n, i));
      }
    }
  }
}

TEST_P(Products, swiglu_joins_gate_and_up) {
  for (const int n : {1, 2, 5, 130}) {
    for (const int kind : {0, 1, 2}) {
      const int cols = 64, rows = 76;
      const auto gate = kind == 1 ? dense(rows, cols, 1) : packed(rows, cols, 1);
      const auto up = kind == 0 ? packed(rows, cols, 2, 6) : dense(rows, cols, 2);
      const std::optional<mx::array> gate_bias = random({rows}, 7), up_bias = random({rows}, 8);
      const auto x = random({1, n, cols}, 3), weight = random({cols}, 4);
      const auto what = fmt::format("{} rows, kind {}", n, kind);
      const auto normed = computed(rms_norm(x, weight, 1e-5f));
      const auto expected =
          computed(swiglu(computed(matmul(normed, gate, gate_bias)), computed(matmul(normed, up, up_bias))));
      const auto h = rms_norm(x, weight, 1e-5f);
      const auto joined = swiglu(matmul(h, gate, gate_bias), matmul(h, up, up_bias));
      EXPECT_EQ(joined.inputs().size(), 4u) << "x, weight, two biases";
      expect_same_bits(joined, expected, what);
      // Of different inputs they stay apart.
      const auto other = random({1, n, cols}, 9);
      const auto apart = swiglu(matmul(normed, gate), matmul(other, up));
      expect_same_bits(apart, computed(swiglu(computed(matmul(normed, gate)), computed(matmul(other, up)))), what);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Activations, Products,
                         testing::Values(kernels::Activations::int8, kernels::Activations::int16,
                                         kernels::Activations::float32),
                         [](const auto& info) {
                           return info.param == kernels::Activations::int8    ? "int8"
                                  : info.param == kernels::Activations::int16 ? "int16"
                                                                              : "float32";
                         });

TEST(Products, a_step_that_others_need_too_is_computed_for_them) {
  const auto w = packed(32, 64, 1);
  const auto x = random({1, 2, 64}, 2), weight = random({64}, 3);
  auto normed = rms_norm(x, weight, 1e-5f);
  auto product = matmul(normed, w);
  auto sum = residual_add(random({1, 2, 32}, 4), product);
  mx::eval(sum, product, normed);
  expect_same_bits(product, computed(matmul(computed(rms_norm(x, weight, 1e-5f)), w)), "product");
  expect_same_bits(sum, mx::add(random({1, 2, 32}, 4), product), "sum");
}

TEST(Products, a_reshape_between_costs_no_step) {
  const auto w = packed(32, 64, 1);
  const auto x = random({1, 6, 64}, 2);
  const auto y = matmul(mx::reshape(mx::reshape(x, {1, 12, 32}), {1, 6, 64}), w);
  EXPECT_EQ(y.inputs()[0].id(), x.id());
  expect_same_bits(y, mx::reshape(matmul(computed(mx::reshape(x, {6, 64})), w), {1, 6, 32}), "reshaped");
}

}  // namespace
}  // namespace mlx_lm::ops
