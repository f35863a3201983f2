// Experts as checkpoints have them: stacked, one by one, fused.
#include "mlx_lm/nn/moe.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::nn {
namespace {

constexpr int kExperts = 4, kHidden = 64, kSize = 32;
constexpr ExpertShape kShape{.hidden_size = kHidden, .intermediate_size = kSize, .experts = kExperts, .active = 2};

mx::array random(const mx::Shape& shape, int seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed)) * mx::array(0.1f);
}

using Tensors = std::map<std::string, mx::array>;

Weights store(const Tensors& tensors, std::optional<ops::Quantization> q = std::nullopt) {
  std::map<std::string, StoredTensor> stored;
  for (const auto& [name, x] : tensors) stored.emplace(name, StoredTensor{x.shape(), x.dtype(), [x = x] { return x; }});
  return {std::move(stored), {.common = q, .overrides = {}}, "a test"};
}

const Tensors kStacked = {{"switch_mlp.gate_proj.weight", random({kExperts, kSize, kHidden}, 1)},
                          {"switch_mlp.up_proj.weight", random({kExperts, kSize, kHidden}, 2)},
                          {"switch_mlp.down_proj.weight", random({kExperts, kHidden, kSize}, 3)}};

// {name of one layer, its number, weight} -> tensors of checkpoints that have experts one by one.
Tensors one_by_one(bool quantized) {
  Tensors tensors;
  for (const auto& [name, stack] : kStacked) {
    const auto layer = name.substr(11, name.rfind('.') - 11);
    for (int e = 0; e < kExperts; ++e) {
      const auto w = mx::take(stack, e, 0);
      const auto path = fmt::format("experts.{}.{}.", e, layer);
      if (!quantized) {
        tensors.emplace(path + "weight", w);
        continue;
      }
      const auto parts = mx::quantize(w, 32, 4);
      tensors.emplace(path + "weight", parts[0]);
      tensors.emplace(path + "scales", parts[1]);
      tensors.emplace(path + "biases", parts[2]);
    }
  }
  return tensors;
}

Tensors quantized_stacks() {
  Tensors tensors;
  for (const auto& [name, stack] : kStacked) {
    const auto path = name.substr(0, name.rfind('.') + 1);
    const auto parts = mx::quantize(stack, 32, 4);
    tensors.emplace(path + "weight", parts[0]);
    tensors.emplace(path + "scales", parts[1]);
    tensors.emplace(path + "biases", parts[2]);
  }
  return tensors;
}

mx::array result(const Weights& w) {
  rename_experts(w, kExperts);
  split_fused_experts(w, kShape);
  const SwitchGLU experts(w / "switch_mlp", kShape);
  w.expect_all_taken();
  const auto ids = mx::array({0, 3, 1, 1, 2, 0}, {1, 3, 2});
  return experts(random({1, 3, kHidden}, 9), ids, random({1, 3, 2}, 8));
}

bool same(const mx::array& a, const mx::array& b) { return mx::array_equal(a, b).item<bool>(); }

TEST(MoE, experts_in_any_form_are_the_same) {
  EXPECT_TRUE(same(result(store(kStacked)), result(store(one_by_one(false)))));
  const ops::Quantization q{32, 4, "affine"};
  EXPECT_TRUE(same(result(store(quantized_stacks(), q)), result(store(one_by_one(true), q))));
  const auto turned = [](const mx::array& x) { return mx::swapaxes(x, -1, -2); };
  const auto& gate = kStacked.at("switch_mlp.gate_proj.weight");
  const auto& up = kStacked.at("switch_mlp.up_proj.weight");
  EXPECT_TRUE(same(result(store(kStacked)),
                   result(store({{"experts.gate_up_proj", mx::concatenate({turned(gate), turned(up)}, -1)},
                                 {"experts.down_proj", turned(kStacked.at("switch_mlp.down_proj.weight"))}}))));
}

TEST(MoE, totals_count_what_a_token_reads) {
  const auto w = store(kStacked);
  result(w);
  const double all = 3. * kExperts * kHidden * kSize;
  EXPECT_EQ(w.totals()->parameters(), all);
  EXPECT_EQ(w.totals()->layers.numbers(), all / 2);
  EXPECT_EQ(w.totals()->bytes_per_step(), 4 * all / 2);
}

std::string refusal(Tensors tensors, std::optional<ops::Quantization> q = std::nullopt) {
  try {
    result(store(tensors, q));
  } catch (const WeightError& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(MoE, says_what_is_wrong_with_experts) {
  auto tensors = one_by_one(false);
  tensors.erase("experts.2.up_proj.weight");
  EXPECT_EQ(refusal(tensors), "[weights] switch_mlp.up_proj.2.weight: expected a tensor, found nothing, in a test");
  tensors = one_by_one(false);
  tensors.insert_or_assign("experts.1.gate_proj.weight", random({kSize, kHidden + 1}, 1));
  EXPECT_EQ(refusal(tensors),
            "[weights] switch_mlp.gate_proj.1.weight: expected shape (32, 64), found (32, 65), in a test");
  tensors = one_by_one(false);
  tensors.insert_or_assign("experts.1.gate_proj.weight", mx::astype(random({kSize, kHidden}, 1), mx::float16));
  EXPECT_EQ(refusal(tensors),
            "[weights] switch_mlp.gate_proj.weight: expected experts of one shape and type, found several, in a test");
  EXPECT_EQ(refusal({{"experts.gate_up_proj", random({kExperts, kSize, kHidden}, 1)}}),
            "[weights] experts.gate_up_proj: expected shape (4, 64, 64), found another");
  auto stacks = quantized_stacks();
  stacks.insert_or_assign("switch_mlp.up_proj.weight", mx::zeros({kExperts - 1, kSize, 8}, mx::uint32));
  EXPECT_TRUE(refusal(stacks, ops::Quantization{32, 4, "affine"})
                  .starts_with("[weights] switch_mlp.up_proj.weight: expected shape (4, 32, 64) packed in "));
}

// As many as a configuration claims are not looked for.
TEST(MoE, renames_the_experts_that_there_are) {
  const auto w = store(one_by_one(false));
  rename_experts(w, 1 << 28);
  EXPECT_TRUE(w.has("switch_mlp.down_proj.3.weight"));
  EXPECT_FALSE(w.has("experts.3.down_proj.weight"));
}

TEST(MoE, routing_must_fit_the_experts) {
  EXPECT_NO_THROW(check({.k = 8, .groups = 4, .groups_kept = 4}, 8, "a test"));
  EXPECT_THROW(check({.k = 9}, 8, "a test"), ConfigError);
  EXPECT_THROW(check({.k = 2, .groups = 3}, 8, "a test"), ConfigError);
  EXPECT_THROW(check({.k = 2, .groups = 4, .groups_kept = 5}, 8, "a test"), ConfigError);
}

}  // namespace
}  // namespace mlx_lm::nn
