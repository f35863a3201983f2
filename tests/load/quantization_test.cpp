#include "mlx_lm/load/quantization.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

nn::QuantizationConfig read(const char* text) {
  return read_quantization(ConfigReader(nlohmann::json::parse(text), "config.json"));
}

void expect_is(const std::optional<ops::Quantization>& q, int group_size, int bits, const char* mode = "affine") {
  ASSERT_TRUE(q);
  EXPECT_EQ(q->group_size, group_size);
  EXPECT_EQ(q->bits, bits);
  EXPECT_EQ(q->mode, mode);
}

TEST(Quantization, IsEmptyWithoutAnEntry) {
  for (const char* text :
       {"{}", R"({"quantization": null})", R"({"quantization": null, "quantization_config": null})"}) {
    auto q = read(text);
    EXPECT_FALSE(q.common);
    EXPECT_TRUE(q.overrides.empty());
  }
}

TEST(Quantization, HasACommonFormAndOverrides) {
  auto q = read(R"({"quantization": {"group_size": 64, "bits": 4,
    "model.embed_tokens": {"group_size": 32, "bits": 8}, "lm_head": false, "model.layers.0.mlp.up_proj": true,
    "a.gate": {}, "b.gate": {"mode": "mxfp4"}}})");
  expect_is(q.common, 64, 4);
  EXPECT_EQ(q.overrides.size(), 4u);
  expect_is(q.overrides.at("model.embed_tokens"), 32, 8);
  EXPECT_FALSE(q.overrides.at("lm_head"));
  expect_is(q.overrides.at("a.gate"), 64, 4);
  expect_is(q.overrides.at("b.gate"), 32, 4, "mxfp4");
}

TEST(Quantization, OverridesAreAffineUnlessTheySayOtherwise) {
  auto q = read(
      R"({"quantization": {"mode": "mxfp4", "group_size": 32, "bits": 4, "router": {"group_size": 64, "bits": 8}}})");
  expect_is(q.common, 32, 4, "mxfp4");
  expect_is(q.overrides.at("router"), 64, 8);
}

TEST(Quantization, KnowsEveryModesDefaults) {
  expect_is(read(R"({"quantization": {}})").common, 64, 4);
  expect_is(read(R"({"quantization": {"mode": "mxfp4"}})").common, 32, 4, "mxfp4");
  expect_is(read(R"({"quantization": {"mode": "mxfp8"}})").common, 32, 8, "mxfp8");
  expect_is(read(R"({"quantization": {"mode": "nvfp4"}})").common, 16, 4, "nvfp4");
  for (int group : {32, 64, 128}) {
    for (int bits : {2, 3, 4, 5, 6, 8}) {
      auto text = fmt::format(R"({{"quantization": {{"group_size": {}, "bits": {}}}}})", group, bits);
      expect_is(read(text.c_str()).common, group, bits);
    }
  }
}

TEST(Quantization, FindsTheOtherPlaces) {
  expect_is(read(R"({"quantization_config": {"group_size": 32, "bits": 8}})").common, 32, 8);
  expect_is(read(R"({"text_config": {"quantization": {"bits": 3}}})").common, 64, 3);
  expect_is(read(R"({"text_config": {"quantization_config": {"bits": 3}}})").common, 64, 3);
  // MLX's own entry goes before a leftover of the source model.
  expect_is(read(R"({"quantization": {"bits": 6}, "quantization_config": {"quant_method": "fp8"}})").common, 64, 6);
}

TEST(Quantization, NamesForeignMethods) {
  for (const char* method : {"bitsandbytes", "bitnet", "hqq"}) {
    try {
      read(fmt::format(R"({{"quantization_config": {{"quant_method": "{}", "bits": 4}}}})", method).c_str());
      ADD_FAILURE() << method;
    } catch (const UnsupportedModel& error) {
      EXPECT_NE(std::string(error.what()).find(method), std::string::npos);
    }
  }
  EXPECT_THROW(read(R"({"quantization_config": {"load_in_8bit": true}})"), UnsupportedModel);
}

TEST(Quantization, RefusesHostileValues) {
  for (const char* entry : {R"("affine")",
                            "[]",
                            "4",
                            "true",
                            R"({"bits": 0})",
                            R"({"bits": 1})",
                            R"({"bits": 7})",
                            R"({"bits": 9})",
                            R"({"bits": -4})",
                            R"({"bits": 4.5})",
                            R"({"bits": "4"})",
                            R"({"bits": 18446744073709551615})",
                            R"({"bits": [4]})",
                            R"({"group_size": 0})",
                            R"({"group_size": 16})",
                            R"({"group_size": 256})",
                            R"({"group_size": -64})",
                            R"({"group_size": 2147483648})",
                            R"({"mode": 4})",
                            R"({"mode": "int4"})",
                            R"({"mode": "mxfp4", "bits": 8})",
                            R"({"mode": "mxfp4", "group_size": 64})",
                            R"({"mode": "nvfp4", "group_size": 32})",
                            R"({"mode": "mxfp8", "bits": 4})",
                            R"({"model.norm": "no"})",
                            R"({"model.norm": 4})",
                            R"({"model.norm": []})",
                            R"({"model.norm": {"bits": 7}})",
                            R"({"lm_head": {"mode": "no"}})"}) {
    EXPECT_THROW(read(fmt::format(R"({{"quantization": {}}})", entry).c_str()), ConfigError) << entry;
  }
}

}  // namespace
}  // namespace mlx_lm
