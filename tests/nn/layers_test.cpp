#include "mlx_lm/nn/layers.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/transformer.h"
#include "mlx_lm/ops/backend.h"

#include "tests/nn/store.h"

namespace mlx_lm::nn {
namespace {

// On both backends, against plain MLX operations.
class Layers : public testing::TestWithParam<ops::Backend> {
 protected:
  void SetUp() override { ops::set_backend(GetParam()); }
  void TearDown() override { ops::set_backend(ops::Backend::kernels); }
};

mx::array silu(const mx::array& x) { return x * mx::sigmoid(x); }
mx::array times(const mx::array& x, const mx::array& w) { return mx::matmul(x, mx::transpose(w)); }
mx::array norm(const mx::array& x, const mx::array& w, float eps) {
  return x * mx::rsqrt(mx::mean(mx::square(x), -1, true) + mx::array(eps)) * w;
}

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

TEST_P(Layers, mlp) {
  const Arrays a{{"gate_proj.weight", random({12, 8})},
                 {"up_proj.weight", random({12, 8}, mx::float32, 1)},
                 {"down_proj.weight", random({8, 12}, mx::float32, 2)},
                 {"gate_proj.bias", random({12}, mx::float32, 3)},
                 {"up_proj.bias", random({12}, mx::float32, 4)},
                 {"down_proj.bias", random({8}, mx::float32, 5)}};
  const auto x = random({1, 4, 8}, mx::float32, 6);
  const auto gate = times(x, a.at("gate_proj.weight")), up = times(x, a.at("up_proj.weight"));
  auto plain = a;
  for (const char* name : {"gate_proj.bias", "up_proj.bias", "down_proj.bias"}) plain.erase(name);
  EXPECT_LT(difference(MLP(store(plain), 8, 12)(x), times(silu(gate) * up, a.at("down_proj.weight"))), 1e-4);
  const auto biased = silu(gate + a.at("gate_proj.bias")) * (up + a.at("up_proj.bias"));
  EXPECT_LT(difference(MLP(store(a), 8, 12, true)(x), times(biased, a.at("down_proj.weight")) + a.at("down_proj.bias")),
            1e-4);
}

// Where the residuals go: the attention and the feed-forward are stand-ins.
TEST_P(Layers, transformer_block) {
  struct Halve {
    mx::array operator()(const mx::array& x, cache::KVCache&) const { return x * mx::array(0.5f); }
  };
  struct Double {
    mx::array operator()(const mx::array& x) const { return x * mx::array(2.f); }
  };
  const auto w1 = random({8}), w2 = random({8}, mx::float32, 1), x = random({1, 3, 8}, mx::float32, 2);
  const auto all = store({{"input_layernorm.weight", w1}, {"post_attention_layernorm.weight", w2}});
  const TransformerBlock<Halve, Double> block(all, 8, 1e-5f, Halve{}, Double{});
  cache::GrowingKVCache cache(mx::float32);
  const auto h = x + norm(x, w1, 1e-5f) * mx::array(0.5f);
  EXPECT_LT(difference(block(x, cache), h + norm(h, w2, 1e-5f) * mx::array(2.f)), 1e-5);
}

TEST_P(Layers, output_layer_tied_or_not) {
  const auto table = random({9, 8}), head = random({9, 8}, mx::float32, 1), x = random({1, 2, 8}, mx::float32, 2);
  const Arrays arrays{{"e.weight", table}, {"lm_head.weight", head}};
  for (bool tied : {true, false}) {
    const auto all = store(arrays);
    const Embedding embedding(all / "e", 9, 8);
    const LMHead lm_head(all, tied, 8, 9);
    EXPECT_LT(difference(lm_head(x, embedding), times(x, tied ? table : head)), 1e-5);
    all.expect_all_taken();  // a tied checkpoint may carry a head all the same
  }
  EXPECT_THROW(LMHead(store({{"e.weight", table}}), false, 8, 9), WeightError);
}

TEST_P(Layers, heads_are_split_and_merged) {
  const auto x = mx::reshape(mx::arange(24), {1, 2, 12});
  const auto heads = split_heads(x, 3);
  EXPECT_EQ(heads.shape(), (mx::Shape{1, 2, 3, 4}));
  EXPECT_EQ(mx::take(heads, mx::array({1}), 2).shape(), (mx::Shape{1, 2, 1, 4}));
  EXPECT_EQ(difference(merge_heads(heads), x), 0);
}

// The whole text at once, in pieces and token by token; and against softmax written out.
TEST_P(Layers, attend_remembers) {
  constexpr int kLength = 9;
  const Rope rope({.dims = 8}, std::nullopt);
  const auto q = random({1, kLength, 4, 8}), k = random({1, kLength, 2, 8}, mx::float32, 1),
             v = random({1, kLength, 2, 8}, mx::float32, 2);
  const auto rows = [](const mx::array& x, int begin, int end) {
    auto stop = x.shape();
    stop[1] = end;
    return mx::slice(x, {0, begin, 0, 0}, stop);
  };
  for (int window : {0, 3}) {
    const auto heads = [](const mx::array& x) { return mx::swapaxes(x, 1, 2); };
    const auto keys = mx::repeat(heads(rope(k, 0)), 2, 1), values = mx::repeat(heads(v), 2, 1);
    auto scores = mx::matmul(heads(rope(q, 0)), mx::swapaxes(keys, 2, 3)) * mx::array(0.3f);
    const auto column = mx::arange(kLength), row = mx::expand_dims(mx::arange(kLength), 1);
    auto visible = mx::less_equal(column, row);
    if (window > 0) visible = mx::logical_and(visible, mx::greater(column, row - mx::array(window)));
    scores = mx::where(visible, scores, mx::array(-1e30f));
    const auto wanted = heads(mx::matmul(mx::softmax(scores, -1), values));
    for (const std::vector<int>& pieces : {std::vector{kLength}, {4, 5}, std::vector<int>(kLength, 1)}) {
      cache::GrowingKVCache cache(mx::float32);
      int at = 0;
      for (int n : pieces) {
        const auto out =
            attend(rows(q, at, at + n), rows(k, at, at + n), rows(v, at, at + n), rope, cache, 0.3f, window);
        EXPECT_LT(difference(out, rows(wanted, at, at + n)), 1e-4) << "window " << window << ", at " << at;
        at += n;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Layers, testing::Values(ops::Backend::kernels, ops::Backend::mlx),
                         [](const auto& info) { return info.param == ops::Backend::kernels ? "kernels" : "mlx"; });

}  // namespace
}  // namespace mlx_lm::nn
