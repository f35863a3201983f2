#include "mlx_lm/nn/transformer.h"

#include <cmath>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"

#include "tests/nn/plain.h"

namespace mlx_lm::nn {
namespace {

class Transformer : public BothBackends {};

TEST_P(Transformer, mlp) {
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
TEST_P(Transformer, transformer_block) {
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

TEST_P(Transformer, mlp_of_a_fused_layer) {
  const auto fused = random({24, 8}), down = random({8, 12}, mx::float32, 2), x = random({1, 4, 8}, mx::float32, 6);
  const auto halves = mx::split(times(x, fused), 2, -1);
  const auto w = store({{"gate_up_proj.weight", fused}, {"down_proj.weight", down}});
  EXPECT_LT(difference(MLP(w, 8, 12)(x), times(silu(halves[0]) * halves[1], down)), 1e-4);
  w.expect_all_taken();
}

TEST_P(Transformer, gelu_mlp) {
  const Arrays a{{"a.weight", random({12, 8})},
                 {"a.bias", random({12}, mx::float32, 1)},
                 {"b.weight", random({8, 12}, mx::float32, 2)},
                 {"b.bias", random({8}, mx::float32, 3)}};
  const auto w = store(a);
  const auto x = random({1, 4, 8}, mx::float32, 6), up = times(x, a.at("a.weight")) + a.at("a.bias");
  const auto gelu = up * (mx::array(1.f) + mx::erf(up * mx::array(std::sqrt(0.5f)))) * mx::array(0.5f);
  const GeluMLP mlp(w / "a", w / "b", 8, 12, ops::Gelu::erf);
  EXPECT_LT(difference(mlp(x), times(gelu, a.at("b.weight")) + a.at("b.bias")), 1e-4);
}

struct Half {
  mx::array operator()(const mx::array& x, cache::KVCache&) const { return x * mx::array(0.5f); }
};
struct Twice {
  mx::array operator()(const mx::array& x) const { return x * mx::array(2.f); }
};

TEST_P(Transformer, parallel_block) {
  const auto w = random({8}), x = random({1, 3, 8}, mx::float32, 2), normed = norm(x, w, 1e-5f);
  const ParallelBlock<Half, Twice, RMSNorm> block(RMSNorm(store({{"weight", w}}), 8, 1e-5f), Half{}, Twice{});
  cache::GrowingKVCache cache(mx::float32);
  EXPECT_LT(difference(block(x, cache), x + normed * mx::array(2.5f)), 1e-5);
}

TEST_P(Transformer, sandwich_block) {
  const auto w = random({8}), x = random({1, 3, 8}, mx::float32, 2);
  const RMSNorm all(store({{"weight", w}}), 8, 1e-5f);
  cache::GrowingKVCache cache(mx::float32);
  const SandwichBlock<Half, Twice> before({all, {}, all, {}}, Half{}, Twice{});
  const auto h = x + norm(x, w, 1e-5f) * mx::array(0.5f);
  EXPECT_LT(difference(before(x, cache), h + norm(h, w, 1e-5f) * mx::array(2.f)), 1e-5);
  const SandwichBlock<Half, Twice> after({{}, all, {}, all}, Half{}, Twice{});
  const auto g = x + norm(x * mx::array(0.5f), w, 1e-5f);
  EXPECT_LT(difference(after(x, cache), g + norm(g * mx::array(2.f), w, 1e-5f)), 1e-5);
}

TEST(Positions, positions_of_a_step) {
  const auto positions = positions_of({{2, 5}, {1, 0}}, 7);
  EXPECT_EQ(positions.shape(), (mx::Shape{1, 3}));
  EXPECT_TRUE(mx::array_equal(positions, mx::array({5, 6, 0}, {1, 3})).item<bool>());
  EXPECT_THROW(positions_of({{1, 0}, {2, 6}}, 7), RequestError);
}

TEST_P(Transformer, output_layer_tied_or_not) {
  const auto table = random({9, 8}), head = random({9, 8}, mx::float32, 1), x = random({1, 2, 8}, mx::float32, 2);
  const Arrays arrays{{"e.weight", table}, {"lm_head.weight", head}};
  for (bool tied : {true, false}) {
    const auto all = store(arrays);
    const Embedding embedding(all / "e", 9, 8);
    const LMHead lm_head(all, tied, 8, 9);
    EXPECT_LT(difference(lm_head(x, embedding), times(x, tied ? table : head)), 1e-5);
    all.expect_all_taken();  // a tied checkpoint may carry a head all the same
    EXPECT_EQ(all.totals()->bytes_per_step(), 9 * 8 * 4);
    EXPECT_EQ(all.totals()->parameters(), tied ? 9 * 8 : 2 * 9 * 8);
  }
  EXPECT_THROW(LMHead(store({{"e.weight", table}}), false, 8, 9), WeightError);
}

MLX_LM_FOR_BOTH_BACKENDS(Transformer);

}  // namespace
}  // namespace mlx_lm::nn
