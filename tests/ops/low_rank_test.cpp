#include "mlx_lm/ops/low_rank.h"

#include <gtest/gtest.h>

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/products.h"

namespace mlx_lm::ops {
namespace {

mx::array random(const mx::Shape& shape, int seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed));
}

mx::array computed(mx::array x) {
  x.eval();
  return x;
}

class LowRank : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override { set_backend(GetParam()); }
  void TearDown() override { set_backend(Backend::kernels); }

  const mx::array y_ = random({2, 3, 20}, 1), low_ = random({2, 3, 4}, 2), up_ = random({4, 20}, 3);
  const std::optional<mx::array> stretch_ = random({20}, 4), bias_ = random({20}, 5), none_;
};

TEST_P(LowRank, adds_stretches_and_adds_the_bias) {
  const auto sum = y_ + mx::matmul(low_, up_);
  const auto near = [](const mx::array& a, const mx::array& b) {
    return a.shape() == b.shape() && mx::allclose(a, b, 1e-5, 1e-5).item<bool>();
  };
  EXPECT_TRUE(near(add_low_rank(y_, low_, up_), sum));
  EXPECT_TRUE(near(add_low_rank(y_, low_, up_, none_, bias_), sum + *bias_));
  EXPECT_TRUE(near(add_low_rank(y_, low_, up_, stretch_), sum * *stretch_));
  EXPECT_TRUE(near(add_low_rank(y_, low_, up_, stretch_, bias_), sum * *stretch_ + *bias_));
  const auto flat = mx::reshape(y_, {6, 20});
  EXPECT_TRUE(near(add_low_rank(mx::reshape(flat, {2, 3, 20}), low_, up_), sum)) << "behind a reshape";
}

TEST_P(LowRank, takes_in_one_residual) {
  const auto residual = random({2, 3, 20}, 6);
  for (const auto& stretch : {none_, stretch_}) {
    const auto plain = computed(add_low_rank(y_, low_, up_, stretch, stretch ? bias_ : none_));
    const auto all = residual_add(residual, add_low_rank(y_, low_, up_, stretch, stretch ? bias_ : none_));
    EXPECT_EQ(all.inputs().size(), GetParam() == Backend::mlx ? 2u : stretch ? 6u : 4u);
    const auto twice = residual_add(residual, all);
    EXPECT_TRUE(mx::array_equal(twice, residual + (plain + residual)).item<bool>());
    EXPECT_TRUE(mx::array_equal(all, plain + residual).item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LowRank, testing::Values(Backend::kernels, Backend::mlx),
                         [](const auto& info) { return info.param == Backend::kernels ? "kernels" : "mlx"; });

}  // namespace
}  // namespace mlx_lm::ops
