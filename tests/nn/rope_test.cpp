// Rotations against mlx-lm's (tests/golden/dump_rope.py), on both backends.
#include "mlx_lm/nn/rope.h"

#include <cmath>
#include <fstream>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/nn/plain.h"

namespace mlx_lm::nn {
namespace {

using nlohmann::json;

mx::array to_array(const json& rows) {
  std::vector<float> flat;
  for (const auto& row : rows)
    for (float v : row) flat.push_back(v);
  return mx::array(flat.data(), {1, int(rows.size()), 1, int(rows[0].size())}, mx::float32);
}

std::optional<ConfigReader> scaling(const json& object) {
  return object.is_null() ? std::nullopt : std::optional(ConfigReader(object, "config.json: rope_scaling"));
}

class RopeScaling : public BothBackends {};

TEST_P(RopeScaling, rotates_as_mlx_lm_does) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/rope.json"));
  const auto x = to_array(golden.at("x"));
  ASSERT_GE(golden.at("cases").size(), 20u);
  for (auto c : golden.at("cases")) {
    const Rope rope({.dims = c.at("dims"),
                     .base = c.at("base"),
                     .traditional = c.at("traditional"),
                     .max_position_embeddings = c.at("max_position_embeddings")},
                    scaling(c.at("scaling")));
    for (size_t i = 0; i < golden.at("offsets").size(); ++i) {
      const int offset = golden.at("offsets")[i];
      const auto wanted = to_array(c.at("rotated")[i]);
      // Angles of up to a thousand are off by their own rounding.
      EXPECT_LT(difference(rope(x, offset), wanted), offset > 100 ? 4e-4 : 4e-6)
          << c.at("scaling") << ", dims " << c.at("dims") << ", offset " << offset;
    }
  }
}

// Heads and batch rows are rotated alike, and what lies past `dims` is left alone.
TEST_P(RopeScaling, rotates_each_head_and_row) {
  const Rope rope({.dims = 6}, std::nullopt);
  const auto x = random({2, 4, 3, 8});
  const auto whole = rope(x, 3);
  for (int b = 0; b < 2; ++b)
    for (int l = 0; l < 4; ++l)
      for (int h = 0; h < 3; ++h) {
        const auto part = [&](const mx::array& a) { return mx::slice(a, {b, l, h, 0}, {b + 1, l + 1, h + 1, 8}); };
        EXPECT_LT(difference(part(whole), rope(part(x), 3 + l)), 1e-6);
      }
  EXPECT_EQ(difference(mx::slice(whole, {0, 0, 0, 6}, {2, 4, 3, 8}), mx::slice(x, {0, 0, 0, 6}, {2, 4, 3, 8})), 0);
}

// GGUF files give llama3's factors one by one.
TEST_P(RopeScaling, takes_explicit_factors) {
  const auto x = random({1, 3, 2, 8});
  const Rope rope({.dims = 8}, scaling({{"rope_type", "factors"}, {"factors", {1, 2, 4, 8}}}));
  ops::Rope::Options wanted{.dims = 8};
  for (int i = 0; i < 4; ++i) wanted.freqs.push_back(float(std::pow(10000.0, i / 4.0) * (1 << i)));
  EXPECT_LT(difference(rope(x, 7), ops::rope(x, ops::Rope(wanted), 7)), 1e-6);
  const Rope linear({.dims = 8}, scaling({{"rope_type", "linear"}, {"factor", 2}}));
  const Rope same({.dims = 8}, scaling({{"rope_type", "factors"}, {"factors", 2}}));
  EXPECT_LT(difference(linear(x, 7), same(x, 7)), 1e-6) << "one factor for all";
}

MLX_LM_FOR_BOTH_BACKENDS(RopeScaling);

template <class E = ConfigError>
std::string refusal(const json& object, Rope::Options options = {.dims = 8, .max_position_embeddings = 64}) {
  try {
    Rope(options, scaling(object));
  } catch (const E& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(Rope, refuses_options_that_make_no_sense) {
  EXPECT_EQ(refusal(nullptr, {.dims = 7}), "[config] rope: expected an even head size, found 7");
  for (int dims : {0, -2, 1}) EXPECT_NE(refusal(nullptr, {.dims = dims}), "nothing thrown") << dims;
  for (float base : {1.f, 0.f, -5.f, std::nanf("")}) {
    EXPECT_NE(refusal(nullptr, {.dims = 8, .base = base}), "nothing thrown") << base;
  }
}

TEST(Rope, refuses_scalings_that_make_no_sense) {
  EXPECT_EQ(refusal({{"type", "linear"}}),
            "[config] config.json: rope_scaling: factor: expected a finite number, found nothing");
  EXPECT_EQ(refusal({{"type", "linear"}, {"factor", 0}}),
            "[config] config.json: rope_scaling: factor: expected a number above 0, found 0");
  const std::vector<json> hostile = {
      {{"type", 5}},
      {{"rope_type", json::array()}},
      {{"type", "linear"}, {"factor", -1}},
      {{"type", "linear"}, {"factor", "2"}},
      {{"type", "dynamic"}},
      {{"type", "llama3"}},
      {{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 0}},
      {{"type", "llama3"}, {"factor", 8}, {"original_max_position_embeddings", -8}},
      {{"type", "yarn"}},
      {{"type", "yarn"}, {"factor", 4}, {"beta_fast", 0}},
      {{"type", "yarn"}, {"factor", 4}, {"mscale", "1"}},
      {{"type", "longrope"}, {"long_factor", {1, 1, 1, 1}}},
      {{"type", "longrope"}, {"original_max_position_embeddings", 32}},
      {{"type", "longrope"}, {"original_max_position_embeddings", 32}, {"long_factor", {1, 2, 3}}},
      {{"type", "longrope"}, {"original_max_position_embeddings", 32}, {"long_factor", {1, 2, "3", 4}}},
      {{"type", "proportional"}, {"partial_rotary_factor", 1.5}},
      {{"type", "proportional"}, {"partial_rotary_factor", -0.5}},
      {{"type", "factors"}},
      {{"type", "factors"}, {"factors", json::array()}},
  };
  for (const auto& object : hostile) EXPECT_TRUE(refusal(object).starts_with("[config] ")) << object;
  for (const char* type : {"dynamic", "longrope"}) {
    const json object = {{"type", type}, {"factor", 2}, {"original_max_position_embeddings", 32}, {"long_factor", 1}};
    EXPECT_NE(refusal(object, {.dims = 8}).find("expected max_position_embeddings"), std::string::npos) << type;
  }
}

TEST(Rope, names_a_type_that_it_does_not_know) {
  const auto text = refusal<UnsupportedModel>({{"type", "spiral"}});
  EXPECT_TRUE(text.ends_with("proportional or mrope, found spiral")) << text;
  EXPECT_LT(refusal<UnsupportedModel>({{"type", std::string(100000, 'x')}}).size(), 300u);
}

}  // namespace
}  // namespace mlx_lm::nn
