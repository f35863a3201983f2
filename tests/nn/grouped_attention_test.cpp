#include "mlx_lm/nn/grouped_attention.h"

#include <gtest/gtest.h>

#include "mlx_lm/cache/growing.h"

#include "tests/nn/plain.h"

namespace mlx_lm::nn {
namespace {

class GroupedAttentions : public BothBackends {};

DecoderConfig config() {
  return DecoderConfig(ConfigReader({{"hidden_size", 16},
                                     {"num_hidden_layers", 1},
                                     {"intermediate_size", 8},
                                     {"num_attention_heads", 4},
                                     {"num_key_value_heads", 2},
                                     {"rms_norm_eps", 1e-5},
                                     {"vocab_size", 9}},
                                    "config.json"),
                       {});
}

TEST_P(GroupedAttentions, norms_of_heads) {
  const auto x = random({1, 3, 8}), heads = mx::reshape(x, {1, 3, 2, 4});
  const auto w4 = random({4}, mx::float32, 1), w8 = random({8}, mx::float32, 2), w24 = random({2, 4}, mx::float32, 3);
  const auto normed = [&](HeadNorm::Kind kind, const mx::array& w) {
    return HeadNorm(store({{"weight", w}}), kind, 2, 4, 1e-5f)(x);
  };
  EXPECT_EQ(difference(HeadNorm(store({}), HeadNorm::Kind::none, 2, 4, 1e-5f)(x), heads), 0);
  EXPECT_LT(difference(normed(HeadNorm::Kind::head, w4), norm(heads, w4, 1e-5f)), 1e-5);
  EXPECT_LT(difference(HeadNorm(store({}), HeadNorm::Kind::plain, 2, 4, 1e-5f)(x), norm(heads, mx::ones({4}), 1e-5f)),
            1e-5);
  EXPECT_LT(difference(normed(HeadNorm::Kind::full, w8), mx::reshape(norm(x, w8, 1e-5f), {1, 3, 2, 4})), 1e-5);
  const auto centred = heads - mx::mean(heads, -1, true);
  EXPECT_LT(difference(normed(HeadNorm::Kind::layer, w24), norm(centred, w24, 1e-5f)), 1e-4);
}

TEST_P(GroupedAttentions, projections_may_be_fused_and_positions_absent) {
  const auto fused = random({32, 16}), out = random({16, 16}, mx::float32, 1), x = random({1, 5, 16}, mx::float32, 2);
  const auto rows = [&](int begin, int end) { return mx::slice(fused, {begin, 0}, {end, 16}); };
  GroupedAttention::Options options(config());
  options.rope.reset();
  options.out = "dense";
  const auto one = store({{"qkv_proj.weight", fused}, {"dense.weight", out}});
  const auto three = store({{"q_proj.weight", rows(0, 16)},
                            {"k_proj.weight", rows(16, 24)},
                            {"v_proj.weight", rows(24, 32)},
                            {"dense.weight", out}});
  cache::GrowingKVCache a(mx::float32), b(mx::float32);
  const auto found = GroupedAttention(one, options)(x, a);
  EXPECT_EQ(difference(found, GroupedAttention(three, options)(x, b)), 0);
  one.expect_all_taken();
  // The first token sees itself alone: each pair of heads gets its value.
  const auto value = mx::reshape(times(mx::slice(x, {0, 0, 0}, {1, 1, 16}), rows(24, 32)), {1, 1, 2, 1, 4});
  const auto merged = mx::reshape(mx::repeat(value, 2, 3), {1, 1, 16});
  EXPECT_LT(difference(mx::slice(found, {0, 0, 0}, {1, 1, 16}), times(merged, out)), 1e-4);
}

MLX_LM_FOR_BOTH_BACKENDS(GroupedAttentions);

}  // namespace
}  // namespace mlx_lm::nn
