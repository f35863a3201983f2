#include "mlx_lm/load/foreign_weights.h"

#include <functional>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/nn/layers.h"

#include "tests/nn/store.h"

namespace mlx_lm {
namespace {

namespace mx = mlx::core;
using nlohmann::json;
using nn::Arrays;

constexpr int kInputs = 128, kOutputs = 24, kGroup = 64, kGroups = kInputs / kGroup;

// What a layer holds before anybody packs it: codes and zeros as numbers, and the weight that they stand for.
struct Layer {
  explicit Layer(int bits, bool symmetric = false) : bits(bits) {
    for (int o = 0; o < kOutputs; ++o) {
      for (int i = 0; i < kInputs; ++i) codes.push_back((o * 31 + i * 17 + i * o) % (1 << bits));
    }
    for (int g = 0; g < kGroups; ++g) {
      for (int o = 0; o < kOutputs; ++o) {
        scales.push_back(0.01f * float(1 + (g + 3 * o) % 5));
        zeros.push_back(symmetric ? 1 << (bits - 1) : 1 + (o + 5 * g) % ((1 << bits) - 1));
      }
    }
  }
  int code(int o, int i) const { return codes[o * kInputs + i]; }
  float scale(int g, int o) const { return scales[g * kOutputs + o]; }
  int zero(int g, int o) const { return zeros[g * kOutputs + o]; }

  mx::array weight() const {
    std::vector<float> w;
    for (int o = 0; o < kOutputs; ++o) {
      for (int i = 0; i < kInputs; ++i) w.push_back(scale(i / kGroup, o) * float(code(o, i) - zero(i / kGroup, o)));
    }
    return mx::array(w.begin(), {kOutputs, kInputs});
  }
  mx::array scales_by_group() const { return mx::array(scales.begin(), {kGroups, kOutputs}); }

  int bits;
  std::vector<int> codes, zeros;
  std::vector<float> scales;
};

// A row of codes bit by bit, from the low bits of the first word up.
std::vector<uint32_t> bit_stream(int n, int bits, const std::function<int(int)>& code) {
  std::vector<uint32_t> words((size_t(n) * bits + 31) / 32);
  for (int i = 0; i < n * bits; ++i) {
    if (code(i / bits) >> (i % bits) & 1) words[i / 32] |= 1u << (i % 32);
  }
  return words;
}

// Rows of them, as int32.
mx::array streams(int rows, int n, int bits, const std::function<int(int, int)>& code) {
  std::vector<int32_t> all;
  for (int r = 0; r < rows; ++r) {
    for (uint32_t word : bit_stream(n, bits, [&](int i) { return code(r, i); })) all.push_back(int32_t(word));
  }
  return mx::array(all.begin(), {rows, int(all.size()) / rows});
}

json config(const json& entry) { return json::object({{"quantization_config", entry}}); }

// y = x W^T of the layer "l" of such a checkpoint.
mx::array product(const json& entry, const Arrays& arrays, const mx::array& x, int outputs = kOutputs) {
  const ConfigReader reader(config(entry), "config.json");
  const nn::Weights w(nn::stored(arrays), foreign_quantization(reader.sub("quantization_config")), "folder");
  adopt_foreign_weights(w, reader);
  auto y = nn::Linear(w / "l", x.shape(-1), outputs)(x);
  w.expect_all_taken();
  return y;
}

void expect_product(const json& entry, const Arrays& arrays, const mx::array& weight) {
  const auto x = nn::random({3, weight.shape(1)});
  const auto wanted = mx::matmul(x, mx::transpose(weight));
  const float size = mx::max(mx::abs(wanted)).item<float>();
  EXPECT_LT(nn::difference(product(entry, arrays, x, weight.shape(0)), wanted), 2e-3f * size) << entry;
}

template <class Call>
std::string message(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

Arrays gptq(const Layer& layer, int less) {
  const auto by_word =
      mx::transpose(streams(kOutputs, kInputs, layer.bits, [&](int o, int i) { return layer.code(o, i); }));
  return {{"l.qweight", mx::contiguous(by_word)},
          {"l.qzeros", streams(kGroups, kOutputs, layer.bits, [&](int g, int o) { return layer.zero(g, o) - less; })},
          {"l.scales", layer.scales_by_group()},
          {"l.g_idx", mx::floor_divide(mx::arange(kInputs, mx::int32), mx::array(kGroup))}};
}

TEST(ForeignWeights, Gptq) {
  for (int bits : {2, 3, 4, 8}) {
    if (kOutputs * bits % 32 != 0) continue;
    const Layer layer(bits);
    const json entry{{"quant_method", "gptq"}, {"bits", bits}, {"group_size", kGroup}, {"desc_act", false}};
    expect_product(entry, gptq(layer, 1), layer.weight());
    auto second = entry;
    second["checkpoint_format"] = "gptq_v2";
    expect_product(second, gptq(layer, 0), layer.weight());
  }
}

TEST(ForeignWeights, GptqWithOneGroupForAllInputs) {
  std::vector<float> scales(kOutputs, 0.02f);
  const auto codes = [](int o, int i) { return (o + 7 * i) % 16; };
  std::vector<float> weight;
  for (int o = 0; o < kOutputs; ++o) {
    for (int i = 0; i < 512; ++i) weight.push_back(0.02f * float(codes(o, i) - 8));
  }
  expect_product({{"quant_method", "gptq"}, {"bits", 4}, {"group_size", -1}},
                 {{"l.qweight", mx::contiguous(mx::transpose(streams(kOutputs, 512, 4, codes)))},
                  {"l.scales", mx::array(scales.begin(), {1, kOutputs})}},
                 mx::array(weight.begin(), {kOutputs, 512}));
}

TEST(ForeignWeights, GptqInAnotherOrderOfInputsIsRefused) {
  auto arrays = gptq(Layer(4), 1);
  arrays.insert_or_assign("l.g_idx", mx::remainder(mx::arange(kInputs, mx::int32), mx::array(kGroups)));
  const json entry{{"quant_method", "gptq"}, {"bits", 4}, {"desc_act", true}};
  EXPECT_EQ(message([&] {
              product(entry, arrays, nn::random({1, kInputs}));
            }),
            "[weights] l.g_idx: expected groups of neighbouring inputs, found others");
}

TEST(ForeignWeights, Awq) {
  const Layer layer(4);
  constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  const auto turned = [&](int o) { return o / 8 * 8 + kOrder[o % 8]; };
  Arrays arrays{{"l.qweight", streams(kInputs, kOutputs, 4, [&](int i, int o) { return layer.code(turned(o), i); })},
                {"l.qzeros", streams(kGroups, kOutputs, 4, [&](int g, int o) { return layer.zero(g, turned(o)); })},
                {"l.scales", layer.scales_by_group()}};
  expect_product({{"quant_method", "awq"}, {"bits", 4}}, arrays, layer.weight());
}

TEST(ForeignWeights, CompressedIntegers) {
  for (int bits : {4, 8}) {
    for (bool symmetric : {false, true}) {
      const Layer layer(bits, symmetric);
      Arrays arrays{
          {"l.weight_packed", streams(kOutputs, kInputs, bits, [&](int o, int i) { return layer.code(o, i); })},
          {"l.weight_scale", mx::contiguous(mx::transpose(layer.scales_by_group()))},
          {"l.weight_shape", mx::array({kOutputs, kInputs})}};
      if (!symmetric) {
        const auto zeros = streams(kGroups, kOutputs, bits, [&](int g, int o) { return layer.zero(g, o); });
        arrays.emplace("l.weight_zero_point", mx::contiguous(mx::transpose(zeros)));
      }
      const json weights{{"num_bits", bits}, {"type", "int"}, {"strategy", "group"}, {"group_size", kGroup}};
      const json groups{{"group_0", json::object({{"weights", weights}})}};
      expect_product({{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}, {"config_groups", groups}},
                     arrays, layer.weight());
    }
  }
}

TEST(ForeignWeights, Fp8OfBlocksOfOutputsAndOfAll) {
  const auto w = nn::random({40, 96});
  const auto codes = mx::to_fp8(w);
  const auto values = mx::from_fp8(codes, mx::float32);
  const auto blocks = mx::abs(nn::random({3, 3}, mx::float32, 1)) + mx::array(0.1f);
  const auto spread = mx::slice(mx::repeat(mx::repeat(blocks, 16, 0), 32, 1), {0, 0}, {40, 96});
  expect_product({{"quant_method", "fp8"}, {"weight_block_size", {16, 32}}},
                 {{"l.weight", codes}, {"l.weight_scale_inv", blocks}}, values * spread);
  expect_product({{"quant_method", "fp8"}},
                 {{"l.weight", codes}, {"l.weight_scale_inv", mx::array(0.5f)}, {"l.activation_scale", mx::array(1.f)}},
                 values * mx::array(0.5f));
  const auto rows = mx::abs(nn::random({40, 1}, mx::float32, 2));
  expect_product({{"quant_method", "compressed-tensors"}, {"format", "float-quantized"}},
                 {{"l.weight", codes}, {"l.weight_scale", rows}, {"l.input_scale", mx::array(1.f)}}, values * rows);
  const auto exponents = mx::astype(mx::remainder(mx::arange(9, mx::int32), mx::array(4)) + mx::array(125), mx::uint8);
  const auto powers =
      mx::power(mx::array(2.f), mx::astype(mx::reshape(exponents, {3, 3}), mx::float32) - mx::array(127.f));
  expect_product({{"quant_method", "fp8"}, {"weight_block_size", {16, 32}}},
                 {{"l.weight", codes}, {"l.weight_scale_inv", mx::reshape(exponents, {3, 3})}},
                 values * mx::slice(mx::repeat(mx::repeat(powers, 16, 0), 32, 1), {0, 0}, {40, 96}));
}

TEST(ForeignWeights, Nvfp4WithASecondScale) {
  const auto parts = mx::quantize(nn::random({16, 64}), 16, 4, "nvfp4");
  const auto values = mx::dequantize(parts[0], parts[1], std::nullopt, 16, 4, "nvfp4", std::nullopt, mx::float32);
  const auto bytes = mx::view(parts[0], mx::uint8);
  expect_product({{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}},
                 {{"l.weight", bytes}, {"l.weight_scale", parts[1]}, {"l.weight_scale_2", mx::array(0.25f)}},
                 values * mx::array(0.25f));
  expect_product(
      {{"quant_method", "compressed-tensors"}, {"format", "nvfp4-pack-quantized"}},
      {{"l.weight_packed", bytes}, {"l.weight_scale", parts[1]}, {"l.weight_global_scale", mx::array({4.f})}},
      values / mx::array(4.f));
}

TEST(ForeignWeights, Mxfp4) {
  const auto parts = mx::quantize(nn::random({16, 64}), 32, 4, "mxfp4");
  const auto values = mx::dequantize(parts[0], parts[1], std::nullopt, 32, 4, "mxfp4", std::nullopt, mx::float32);
  expect_product({{"quant_method", "mxfp4"}}, {{"l.weight", parts[0]}, {"l.scales", parts[1]}}, values);
  expect_product({{"quant_method", "compressed-tensors"}, {"format", "mxfp4-pack-quantized"}},
                 {{"l.weight_packed", mx::view(parts[0], mx::uint8)}, {"l.weight_scale", parts[1]}}, values);
}

TEST(ForeignWeights, LeavesMlxsOwnAlone) {
  const auto w = nn::store({{"l.qweight", nn::random({4})}});
  adopt_foreign_weights(w, ConfigReader(json::object(), "config.json"));
  adopt_foreign_weights(w, ConfigReader(config({{"group_size", 64}, {"bits", 4}}), "config.json"));
  EXPECT_TRUE(w.has("l.qweight"));
}

TEST(ForeignWeights, NamesWhatDoesNotFit) {
  const json entry{{"quant_method", "awq"}, {"bits", 4}};
  const auto x = nn::random({1, 64});
  const auto words = [](mx::Shape shape) { return mx::zeros(shape, mx::int32); };
  EXPECT_EQ(message([&] {
              product(entry, {{"l.qweight", words({64, 3})}}, x);
            }),
            "[weights] l.scales: expected a tensor, found nothing");
  EXPECT_EQ(message([&] {
              product(entry, {{"l.qweight", words({64, 3})}, {"l.scales", nn::random({2, 23})}}, x);
            }),
            "[weights] l.qweight: expected codes for 23 outputs, found shape (64, 3)");
  EXPECT_EQ(message([&] {
              product(entry, {{"l.qweight", words({64, 3})}, {"l.scales", nn::random({7, 24})}}, x);
            }),
            "[weights] l: expected groups of a multiple of 32 inputs, found 7 for 64 inputs");
  EXPECT_EQ(message([&] {
              product(entry, {{"l.qweight", words({64, 3})}, {"l.scales", nn::random({24})}}, x);
            }),
            "[weights] l.scales: expected a matrix, found shape (24)");
  EXPECT_EQ(
      message([&] {
        product({{"quant_method", "awq"}, {"bits", 3}}, {{"l.qweight", words({64, 3})}}, x);
      }),
      "[config] config.json: quantization_config: bits: expected a number of bits that awq weights are read with, "
      "found 3");
  EXPECT_EQ(message([&] {
              product({{"quant_method", "fp8"}},
                      {{"l.weight", mx::zeros({8, 64}, mx::uint8)}, {"l.weight_scale_inv", nn::random({2, 2})}}, x);
            }),
            "[weights] l.weight_scale_inv: expected a number for each 128 x 128 of shape (8, 64), found shape (2, 2)");
}

}  // namespace
}  // namespace mlx_lm
