#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/nn/weights.h"

#include "store.h"

namespace mlx_lm::nn {
namespace {

template <class Call>
std::string message(Call call) {
  try {
    call();
  } catch (const WeightError& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(WeightsRewrite, makes_new_tensors_of_old_ones_when_they_are_taken) {
  int reads = 0;
  auto tensors = stored({{"m.a", random({2, 3})}, {"m.b", random({2, 3}, mx::float32, 1)}});
  for (auto& [name, tensor] : tensors) {
    tensor.read = [&reads, read = tensor.read] {
      ++reads;
      return read();
    };
  }
  const Weights w(std::move(tensors), {}, "folder");
  const auto m = w / "m";
  m.rewrite({"a", "b"}, {{"sum", {2, 3}, [](const auto& from) { return from[0] + from[1]; }},
                         {"turned", {3, 2}, [](const auto& from) { return mx::transpose(from[0]); }}});
  EXPECT_EQ(reads, 0);
  EXPECT_FALSE(m.has("a"));
  EXPECT_EQ(m.shape_of("turned"), mx::Shape({3, 2}));
  EXPECT_EQ(m.shape_of("a"), std::nullopt);
  EXPECT_EQ(difference(m.take_array("sum", {2, 3}), random({2, 3}) + random({2, 3}, mx::float32, 1)), 0);
  EXPECT_EQ(difference(m.take_array("turned", {3, 2}), mx::transpose(random({2, 3}))), 0);
  EXPECT_EQ(reads, 2);
  w.expect_all_taken();
}

TEST(WeightsRewrite, names_what_is_missing_or_twice_there) {
  const auto w = store({{"a", random({2})}, {"b", random({2})}});
  const auto same = [](const auto& from) { return from[0]; };
  EXPECT_EQ(message([&] { w.rewrite({"c"}, {}); }), "[weights] c: expected a tensor, found nothing, in folder");
  EXPECT_EQ(message([&] {
              w.rewrite({"a"}, {{"b", {2}, same}});
            }),
            "[weights] b: expected once, found in two forms, in folder");
  EXPECT_EQ(message([&] {
              store({{"a", random({2})}, {"b", random({2})}}).rename("a", "b");
            }),
            "[weights] b: expected once, found in two forms, in folder");
}

TEST(WeightsRewrite, renames_scopes_with_their_quantization) {
  Arrays arrays{{"old.norm.weight", random({64})}, {"older.weight", random({4})}};
  add_quantized(arrays, "old.proj", random({8, 64}), {32, 8, "affine"});
  const auto w = store(arrays, {.common = ops::Quantization{64, 4, "affine"},
                                .overrides = {{"old.proj", ops::Quantization{32, 8, "affine"}}}});
  w.rename("old", "new");
  const auto x = random({1, 1, 64});
  EXPECT_LT(difference(Linear(w / "new" / "proj", 64, 8)(x), mx::matmul(x, mx::transpose(random({8, 64})))), 0.2);
  (w / "new" / "norm").take_vector("weight", 64);
  w.take_array("older.weight", {4});
  w.expect_all_taken();
}

TEST(WeightsRewrite, splits_fused_layers) {
  const auto weight = random({12, 64}), bias = random({12}), x = random({1, 3, 64}, mx::float32, 5);
  const auto wanted = mx::matmul(x, mx::transpose(weight)) + bias;
  for (bool quantized : {false, true}) {
    Arrays arrays{{"l.qkv.bias", bias}};
    if (quantized) {
      add_quantized(arrays, "l.qkv", weight, {32, 8, "affine"});
    } else {
      arrays.insert_or_assign("l.qkv.weight", weight);
    }
    QuantizationConfig config{.common = ops::Quantization{64, 4, "affine"}, .overrides = {}};
    if (quantized) config.overrides["l.qkv"] = ops::Quantization{32, 8, "affine"};
    const auto w = store(arrays, config);
    const auto l = w / "l";
    l.split("qkv", {{"q", 8}, {"k", 3}, {"v", 1}});
    const Linear q(l / "q", 64, 8, true), k(l / "k", 64, 3, true), v(l / "v", 64, 1, true);
    const auto found = mx::concatenate({q(x), k(x), v(x)}, 2);
    EXPECT_LT(difference(found, wanted), quantized ? 0.1 : 1e-4);
    w.expect_all_taken();
  }
}

// Two groups, each of which has two rows of q, then one of k.
TEST(WeightsRewrite, splits_fused_layers_by_groups) {
  const auto weight = random({6, 64}), bias = random({6}), x = random({1, 3, 64}, mx::float32, 5);
  const auto whole = mx::matmul(x, mx::transpose(weight)) + bias;
  const auto wanted = mx::take(whole, mx::array({0, 1, 3, 4, 2, 5}), 2);
  for (bool quantized : {false, true}) {
    Arrays arrays{{"qk.bias", bias}};
    if (quantized) {
      add_quantized(arrays, "qk", weight, {32, 8, "affine"});
    } else {
      arrays.insert_or_assign("qk.weight", weight);
    }
    const auto w = store(arrays, {.common = ops::Quantization{32, 8, "affine"}, .overrides = {}});
    w.split("qk", {{"q", 4}, {"k", 2}}, /* groups */ 2);
    const Linear q(w / "q", 64, 4, true), k(w / "k", 64, 2, true);
    EXPECT_LT(difference(mx::concatenate({q(x), k(x)}, 2), wanted), quantized ? 0.1 : 1e-4);
    w.expect_all_taken();
  }
}

TEST(WeightsRewrite, splits_the_adapter_of_a_fused_layer) {
  auto tensors = stored({{"qkv.weight", random({12, 64})}});
  for (const auto& [name, x] : {std::pair("qkv.lora_a", random({64, 2}, mx::float32, 1)),
                                std::pair("qkv.lora_b", random({2, 12}, mx::float32, 2))}) {
    tensors.emplace(name, StoredTensor{x.shape(), x.dtype(), [x = x] { return x; }, {}, "adapter"});
  }
  const Weights w(std::move(tensors), {}, "folder");
  w.split("qkv", {{"q", 8}, {"kv", 4}});
  const auto x = random({1, 3, 64}, mx::float32, 5);
  const Linear q(w / "q", 64, 8), kv(w / "kv", 64, 4);
  const auto low = mx::matmul(mx::matmul(x, random({64, 2}, mx::float32, 1)), random({2, 12}, mx::float32, 2));
  const auto wanted = mx::matmul(x, mx::transpose(random({12, 64}))) + low;
  EXPECT_LT(difference(mx::concatenate({q(x), kv(x)}, 2), wanted), 1e-3);
  w.expect_all_taken();
}

TEST(WeightsRewrite, leaves_alone_what_is_not_fused_and_refuses_rows_that_do_not_add_up) {
  const auto w = store({{"q.weight", random({8, 64})}, {"qkv.weight", random({12, 64})}});
  w.split("gate_up", {{"gate", 1}, {"up", 1}});
  EXPECT_TRUE(w.has("q.weight"));
  EXPECT_EQ(message([&] {
              w.split("qkv", {{"k", 8}, {"v", 8}});
            }),
            "[weights] qkv.weight: expected 16 outputs on axis 0, found shape (12, 64), in folder");
}

}  // namespace
}  // namespace mlx_lm::nn
