#include "mlx_lm/nn/low_rank.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/nn/transformer.h"

#include "tests/nn/plain.h"

namespace mlx_lm::nn {
namespace {

// Tensors of the model, and of an adapter in `adapter.file`.
Weights adapted(const Arrays& model, const Arrays& adapter, QuantizationConfig quantization = {}) {
  auto tensors = stored(model);
  for (auto& [name, tensor] : stored(adapter)) {
    tensors.emplace(name, tensor).first->second.adapter = "adapter.file";
  }
  return Weights(std::move(tensors), std::move(quantization), "folder");
}

template <class F>
std::string refused(F&& f) {
  try {
    f();
  } catch (const WeightError& error) {
    return error.what();
  }
  return "nothing thrown";
}

mx::array seeded(const mx::Shape& shape, int seed) { return random(shape, mx::float32, seed); }
mx::array lengths(const mx::array& w) { return mx::sqrt(mx::sum(mx::square(w), -1)); }

class LowRankLayers : public BothBackends {
 protected:
  const mx::array w_ = seeded({6, 10}, 1), bias_ = seeded({6}, 2), a_ = seeded({10, 3}, 3), b_ = seeded({3, 6}, 4),
                  m_ = mx::abs(seeded({6}, 5)), x_ = seeded({2, 3, 10}, 6);
  const mx::array delta_ = mx::transpose(mx::matmul(a_, b_));
  const Arrays linear_{{"p.weight", w_}, {"p.bias", bias_}};
};

TEST_P(LowRankLayers, linear) {
  const auto w = adapted(linear_, {{"p.lora_a", a_}, {"p.lora_b", b_}});
  const Linear layer(w / "p", 10, 6, true);
  w.expect_all_taken();
  EXPECT_LT(difference(layer(x_), times(x_, w_ + delta_) + bias_), 1e-4);
  EXPECT_EQ(w.totals()->layers.floating, 6 * 10 + 3 * 10 + 3 * 6);
  EXPECT_EQ(w.totals()->layers.bytes, 4 * (6 * 10 + 3 * 10 + 3 * 6));
}

TEST_P(LowRankLayers, linear_with_magnitudes) {
  const auto w = adapted(linear_, {{"p.lora_a", a_}, {"p.lora_b", b_}, {"p.m", m_}});
  const Linear layer(w / "p", 10, 6, true);
  w.expect_all_taken();
  const auto merged = w_ + delta_;
  const auto expected = times(x_, merged * mx::expand_dims(m_ / lengths(merged), -1)) + bias_;
  EXPECT_LT(difference(layer(x_), expected), 1e-4);
  EXPECT_EQ(w.totals()->vectors, 6 + 6);
}

TEST_P(LowRankLayers, lengths_of_more_rows_than_are_unpacked_at_a_time) {
  const int rows = 3, cols = 1 << 21;
  const auto wide = seeded({rows, cols}, 1), a = seeded({cols, 1}, 2), b = seeded({1, rows}, 3);
  const auto w = adapted({{"p.weight", wide}}, {{"p.lora_a", a}, {"p.lora_b", b}, {"p.m", mx::ones({rows})}});
  const Linear layer(w / "p", cols, rows);
  const auto merged = wide + mx::transpose(mx::matmul(a, b));
  const auto x = mx::ones({1, cols});
  EXPECT_LT(difference(layer(x), times(x, merged) / lengths(merged)), 1e-2);
}

TEST_P(LowRankLayers, linear_over_a_quantized_base) {
  const ops::Quantization q{32, 4, "affine"};
  const auto weight = seeded({64, 64}, 1), a = seeded({64, 4}, 2), b = seeded({4, 64}, 3), m = seeded({64}, 4),
             x = seeded({1, 5, 64}, 5);
  Arrays arrays;
  add_quantized(arrays, "p", weight, q);
  const auto base = mx::dequantize(arrays.at("p.weight"), arrays.at("p.scales"), arrays.at("p.biases"), 32, 4);
  const auto merged = base + mx::transpose(mx::matmul(a, b));
  const QuantizationConfig config{.common = q, .overrides = {}};
  const Linear lora(adapted(arrays, {{"p.lora_a", a}, {"p.lora_b", b}}, config) / "p", 64, 64);
  EXPECT_LT(difference(lora(x), times(x, merged)), 1e-2);
  const Linear dora(adapted(arrays, {{"p.lora_a", a}, {"p.lora_b", b}, {"p.m", m}}, config) / "p", 64, 64);
  EXPECT_LT(difference(dora(x), times(x, merged) * (m / lengths(merged))), 1e-2);
}

TEST_P(LowRankLayers, several_of_one_input_of_which_some_are_adapted) {
  const auto other = seeded({4, 10}, 7), norm_weight = seeded({10}, 8);
  Arrays arrays = linear_;
  arrays.emplace("o.weight", other);
  const auto w = adapted(arrays, {{"p.lora_a", a_}, {"p.lora_b", b_}});
  const Linear first(w / "p", 10, 6, true), second(w / "o", 10, 4);
  const RMSNorm rms(store({{"n.weight", norm_weight}}) / "n", 10, 1e-5f);
  const auto plain = norm(x_, norm_weight, 1e-5f);
  for (const bool adapted_first : {true, false}) {
    const auto both = adapted_first ? project(rms(x_), first, second) : project(rms(x_), second, first);
    EXPECT_LT(difference(both[adapted_first ? 0 : 1], times(plain, w_ + delta_) + bias_), 1e-4);
    EXPECT_LT(difference(both[adapted_first ? 1 : 0], times(plain, other)), 1e-4);
  }
}

TEST_P(LowRankLayers, mlp_and_its_residual) {
  Arrays arrays, adapter;
  std::map<std::string, mx::array> merged;
  int seed = 10;
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    const bool down = name == std::string("down_proj");
    const int in = down ? 12 : 8, out = down ? 8 : 12;
    const auto weight = seeded({out, in}, ++seed), a = seeded({in, 2}, ++seed), b = seeded({2, out}, ++seed);
    const auto path = std::string(name);
    arrays.emplace(path + ".weight", weight);
    adapter.emplace(path + ".lora_a", a);
    adapter.emplace(path + ".lora_b", b);
    merged.emplace(path, weight + mx::transpose(mx::matmul(a, b)));
  }
  const MLP mlp(adapted(arrays, adapter), 8, 12);
  const auto x = seeded({1, 3, 8}, 1) * mx::array(0.2f);
  const auto inside = silu(times(x, merged.at("gate_proj"))) * times(x, merged.at("up_proj"));
  EXPECT_LT(difference(ops::residual_add(x, mlp(x)), x + times(inside, merged.at("down_proj"))), 1e-4);
}

TEST_P(LowRankLayers, embedding_both_ways) {
  const auto table = seeded({9, 8}, 1), a = seeded({9, 3}, 2), b = seeded({3, 8}, 3), m = mx::abs(seeded({9}, 4)),
             x = seeded({1, 2, 8}, 5);
  const mx::array tokens({0, 8, 3, 3}, {2, 2});
  const auto merged = table + mx::matmul(a, b);
  for (const bool dora : {false, true}) {
    Arrays adapter{{"e.lora_a", a}, {"e.lora_b", b}};
    if (dora) adapter.emplace("e.m", m);
    const auto w = adapted({{"e.weight", table}}, adapter);
    const Embedding embedding(w / "e", 9, 8);
    w.expect_all_taken();
    const auto whole = dora ? merged * mx::expand_dims(m / lengths(merged), -1) : merged;
    EXPECT_EQ(embedding(tokens).shape(), (mx::Shape{2, 2, 8}));
    EXPECT_LT(difference(embedding(tokens), mx::take(whole, tokens, 0)), 1e-4);
    EXPECT_LT(difference(embedding.as_linear(x), times(x, whole)), 1e-4);
  }
}

TEST_P(LowRankLayers, output_layer) {
  const auto table = seeded({9, 8}, 1), head = seeded({9, 8}, 2), a = seeded({8, 3}, 3), b = seeded({3, 9}, 4),
             x = seeded({1, 2, 8}, 5);
  const Arrays adapter{{"lm_head.lora_a", a}, {"lm_head.lora_b", b}};
  const auto w = adapted({{"e.weight", table}, {"lm_head.weight", head}}, adapter);
  const Embedding embedding(w / "e", 9, 8);
  const LMHead lm_head(w, false, 8, 9);
  EXPECT_LT(difference(lm_head(x, embedding), times(x, head + mx::transpose(mx::matmul(a, b)))), 1e-4);
  EXPECT_EQ(w.totals()->output.floating, 9 * 8 + 8 * 3 + 3 * 9);

  // A tied model has no such layer, whatever its checkpoint carries.
  const auto tied = adapted({{"e.weight", table}, {"lm_head.weight", head}}, adapter);
  const Embedding own(tied / "e", 9, 8);
  const LMHead none(tied, true, 8, 9);
  EXPECT_EQ(refused([&] { tied.expect_all_taken(); }),
            "[weights] lm_head.lora_a: expected a layer of the model that takes it, found none, in adapter.file");
}

TEST_P(LowRankLayers, names_a_tensor_of_another_shape) {
  const auto error = [&](const mx::array& a, const mx::array& b, const mx::array& m) {
    return refused([&] {
      Linear(adapted(linear_, {{"p.lora_a", a}, {"p.lora_b", b}, {"p.m", m}}) / "p", 10, 6, true);
    });
  };
  EXPECT_EQ(error(seeded({9, 3}, 1), b_, m_),
            "[weights] p.lora_a: expected shape (10, a rank of at least 1), found (9, 3), in adapter.file");
  for (const mx::Shape& bad : {mx::Shape{10}, {10, 0}, {1, 10, 3}, {}, {3, 10}}) {
    EXPECT_NE(error(seeded(bad, 1), b_, m_).find("p.lora_a: expected shape (10, "), std::string::npos);
  }
  EXPECT_EQ(error(a_, seeded({3, 7}, 1), m_),
            "[weights] p.lora_b: expected shape (3, 6), found (3, 7), in adapter.file");
  EXPECT_EQ(error(a_, seeded({2, 6}, 1), m_),
            "[weights] p.lora_b: expected shape (3, 6), found (2, 6), in adapter.file");
  EXPECT_EQ(error(a_, b_, seeded({10}, 1)), "[weights] p.m: expected shape (6), found (10), in adapter.file");
  EXPECT_EQ(refused([&] {
              Linear(adapted(linear_, {{"p.lora_a", a_}}) / "p", 10, 6, true);
            }),
            "[weights] p.lora_b: expected a tensor, found nothing, in folder");
}

// A model's own file has no adapters: mlx-lm would not take them either.
TEST_P(LowRankLayers, takes_only_what_an_adapter_brings) {
  auto arrays = linear_;
  arrays.emplace("p.lora_a", a_), arrays.emplace("p.lora_b", b_);
  const auto w = store(arrays);
  EXPECT_LT(difference(Linear(w / "p", 10, 6, true)(x_), times(x_, w_) + bias_), 1e-4);
  EXPECT_EQ(refused([&] { w.expect_all_taken(); }),
            "[weights] folder: expected only the model's own tensors, found 2 more: p.lora_a, p.lora_b");
}

MLX_LM_FOR_BOTH_BACKENDS(LowRankLayers);

}  // namespace
}  // namespace mlx_lm::nn
