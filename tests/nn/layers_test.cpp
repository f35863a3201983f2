#include "mlx_lm/nn/layers.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/nn/plain.h"

namespace mlx_lm::nn {
namespace {

class Layers : public BothBackends {};

TEST_P(Layers, linear_with_and_without_bias) {
  const auto w = random({6, 10}), b = random({6}, mx::float32, 1), x = random({2, 3, 10}, mx::float32, 2);
  const Arrays arrays{{"p.weight", w}, {"p.bias", b}};
  const auto both = store(arrays);
  EXPECT_LT(difference(Linear(both / "p", 10, 6, true)(x), times(x, w) + b), 1e-5);
  both.expect_all_taken();
  const auto without = store(arrays);
  EXPECT_LT(difference(Linear(without / "p", 10, 6)(x), times(x, w)), 1e-5);
  EXPECT_THROW(without.expect_all_taken(), WeightError) << "a bias that the model does not use";
  EXPECT_THROW(Linear(store({{"p.weight", w}}) / "p", 10, 6, true), WeightError);
  EXPECT_THROW(Linear(store(arrays) / "p", 6, 10), WeightError) << "in and out exchanged";
}

TEST_P(Layers, embedding_both_ways) {
  const auto w = random({9, 8});
  const auto all = store({{"e.weight", w}});
  const Embedding embedding(all / "e", 9, 8);
  const mx::array tokens({0, 8, 3, 3}, {2, 2});
  EXPECT_EQ(difference(embedding(tokens), mx::take(w, tokens, 0)), 0);
  EXPECT_EQ(embedding(tokens).shape(), (mx::Shape{2, 2, 8}));
  const auto x = random({1, 2, 8}, mx::float32, 3);
  EXPECT_LT(difference(embedding.as_linear(x), times(x, w)), 1e-5);
}

TEST_P(Layers, rms_norm) {
  const auto w = random({10}), x = random({2, 3, 10}, mx::float32, 1) * mx::array(0.01f);
  for (float eps : {1e-6f, 0.1f}) {
    EXPECT_LT(difference(RMSNorm(store({{"n.weight", w}}) / "n", 10, eps)(x), norm(x, w, eps)), 1e-4) << eps;
  }
  EXPECT_THROW(RMSNorm(store({{"n.weight", w}}) / "n", 11, 1e-6f), WeightError);
}

MLX_LM_FOR_BOTH_BACKENDS(Layers);

}  // namespace
}  // namespace mlx_lm::nn
