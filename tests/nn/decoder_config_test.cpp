#include "mlx_lm/nn/decoder_config.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {
namespace {

using nlohmann::json;

json good() {
  return {{"hidden_size", 64}, {"num_hidden_layers", 2}, {"intermediate_size", 96}, {"num_attention_heads", 4},
          {"vocab_size", 100}, {"rms_norm_eps", 1e-5},   {"num_key_value_heads", 2}};
}

DecoderConfig read(const json& config, const DecoderConfig::Defaults& defaults = {}) {
  return DecoderConfig(ConfigReader(config, "config.json"), defaults);
}

std::string refusal(const json& config) {
  try {
    read(config);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(DecoderConfig, reads_the_usual_fields) {
  const auto c = read(good());
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.num_hidden_layers, 2);
  EXPECT_EQ(c.intermediate_size, 96);
  EXPECT_EQ(c.num_attention_heads, 4);
  EXPECT_EQ(c.num_key_value_heads, 2);
  EXPECT_EQ(c.vocab_size, 100);
  EXPECT_EQ(c.rms_norm_eps, 1e-5f);
}

TEST(DecoderConfig, fills_in_what_is_not_given) {
  auto config = good();
  config.erase("num_key_value_heads");
  const auto c = read(config);
  EXPECT_EQ(c.num_key_value_heads, 4) << "as many as heads";
  EXPECT_EQ(c.head_dim, 16) << "hidden size by heads";
  EXPECT_EQ(c.rope.dims, 16);
  EXPECT_EQ(c.rope.base, 10000.f);
  EXPECT_FALSE(c.rope.traditional);
  EXPECT_EQ(c.rope.max_position_embeddings, 0);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_FALSE(c.rope_scaling);
  const auto other = read(config, {.rope_theta = 5e5f, .tie_word_embeddings = false});
  EXPECT_EQ(other.rope.base, 5e5f);
  EXPECT_FALSE(other.tie_word_embeddings);
  EXPECT_THROW(read(config, {.rope_theta = std::nullopt}), ConfigError) << "this architecture has no default";
}

TEST(DecoderConfig, prefers_what_is_given) {
  auto config = good();
  config["head_dim"] = 24;
  config["rope_theta"] = 7;
  config["rope_traditional"] = true;
  config["max_position_embeddings"] = 512;
  config["tie_word_embeddings"] = false;
  const auto c = read(config);
  EXPECT_EQ(c.head_dim, 24);
  EXPECT_EQ(c.rope.dims, 24);
  EXPECT_EQ(c.rope.base, 7.f);
  EXPECT_TRUE(c.rope.traditional);
  EXPECT_EQ(c.rope.max_position_embeddings, 512);
  EXPECT_FALSE(c.tie_word_embeddings);
}

TEST(DecoderConfig, reads_rope_scaling_under_both_names) {
  auto config = good();
  config["rope_theta"] = 3;
  config["rope_scaling"] = {{"type", "linear"}};
  EXPECT_EQ(read(config).rope_scaling->get<std::string>("type"), "linear");
  EXPECT_EQ(read(config).rope.base, 3.f);
  config["rope_scaling"] = nullptr;
  config["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 9}};
  const auto c = read(config);
  EXPECT_EQ(c.rope_scaling->get<std::string>("rope_type"), "yarn");
  EXPECT_EQ(c.rope.base, 9.f) << "the newer place of rope_theta";
  EXPECT_EQ(read(config, {.rope_theta = std::nullopt}).rope.base, 9.f);
}

TEST(DecoderConfig, names_the_field_that_is_missing) {
  for (const char* key :
       {"hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size", "rms_norm_eps"}) {
    auto config = good();
    config.erase(key);
    EXPECT_TRUE(refusal(config).starts_with(std::string("[config] config.json: ") + key + ": expected ")) << key;
  }
}

TEST(DecoderConfig, refuses_hostile_sizes) {
  const json values = {0,     -1,  1.5,  2147483648u,   -2147483649ll, 268435457,
                       1e300, "4", true, json::array(), json::object()};
  for (const char* key : {"hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size",
                          "num_key_value_heads", "head_dim"}) {
    for (const auto& value : values) {
      auto config = good();
      config[key] = value;
      EXPECT_TRUE(refusal(config).starts_with(std::string("[config] config.json: ") + key + ": expected "))
          << key << ": " << value << ": " << refusal(config);
    }
  }
}

TEST(DecoderConfig, refuses_sizes_that_do_not_go_together) {
  auto config = good();
  config["num_key_value_heads"] = 3;
  EXPECT_EQ(refusal(config), "[config] config.json: num_key_value_heads: expected a divisor of 4 heads, found 3");
  config["num_key_value_heads"] = 8;
  EXPECT_EQ(refusal(config), "[config] config.json: num_key_value_heads: expected a whole number from 1 to 4, found 8");
  config = good();
  config["hidden_size"] = 3;
  EXPECT_EQ(refusal(config), "[config] config.json: head_dim: expected from 1 to 67108864 for 4 heads, found 0");
  config = good();
  config["num_attention_heads"] = config["head_dim"] = 65536;  // 2^32 together
  EXPECT_EQ(refusal(config), "[config] config.json: head_dim: expected from 1 to 4096 for 65536 heads, found 65536");
  config = good();
  config["num_hidden_layers"] = 5000;
  EXPECT_NE(refusal(config), "nothing thrown");
}

TEST(DecoderConfig, refuses_other_hostile_fields) {
  const std::vector<std::pair<const char*, json>> hostile = {{"rms_norm_eps", -1e-5},
                                                             {"rms_norm_eps", "1e-5"},
                                                             {"rms_norm_eps", 1e300},
                                                             {"tie_word_embeddings", 1},
                                                             {"rope_theta", "10000"},
                                                             {"rope_theta", json::array()},
                                                             {"rope_traditional", "yes"},
                                                             {"rope_scaling", 5},
                                                             {"rope_scaling", "linear"},
                                                             {"rope_parameters", {1}},
                                                             {"rope_scaling", {{"rope_theta", "x"}}},
                                                             {"max_position_embeddings", -1},
                                                             {"max_position_embeddings", 1e10}};
  for (const auto& [key, value] : hostile) {
    auto config = good();
    config[key] = value;
    EXPECT_TRUE(refusal(config).starts_with(std::string("[config] config.json: ") + key)) << key << ": " << value;
  }
}

TEST(DecoderConfig, layer_types_give_windows) {
  auto config = good();
  auto c = read(config);
  c.read_layer_types(ConfigReader(config, "config.json"));
  EXPECT_EQ(c.window(1), 0);
  config["layer_types"] = {"sliding_attention", "full_attention"};
  config["sliding_window"] = 8;
  c.read_layer_types(ConfigReader(config, "config.json"));
  EXPECT_EQ(c.window(0), 8);
  EXPECT_EQ(c.window(1), 0);
  config["layer_types"] = {"full_attention"};
  EXPECT_THROW(c.read_layer_types(ConfigReader(config, "config.json")), ConfigError);
}

TEST(DecoderConfig, a_part_of_each_head_rotates) {
  auto config = good();
  auto c = read(config);
  c.read_partial_rotary(ConfigReader(config, "config.json"), "part", 0.5f);
  EXPECT_EQ(c.rope.dims, 8);
  config["part"] = 0.25;
  c.read_partial_rotary(ConfigReader(config, "config.json"), "part");
  EXPECT_EQ(c.rope.dims, 4);
  for (double part : {0.0, -1.0, 1.5, 1e300}) {
    config["part"] = part;
    EXPECT_THROW(c.read_partial_rotary(ConfigReader(config, "config.json"), "part"), ConfigError) << part;
  }
}

TEST(DecoderConfig, norms_may_go_by_another_name) {
  auto config = good();
  config.erase("rms_norm_eps");
  EXPECT_EQ(read(config, {.norm_eps = "layer_norm_eps", .norm_eps_value = 1e-3f}).rms_norm_eps, 1e-3f);
  config["layer_norm_eps"] = 1e-4;
  EXPECT_EQ(read(config, {.norm_eps = "layer_norm_eps"}).rms_norm_eps, 1e-4f);
}

// A stream that is smaller by the factor looks the same to a norm with the eps that goes with it.
TEST(DecoderConfig, residuals_are_scaled_by_the_stream) {
  const ConfigReader reader(good(), "config.json");
  auto c = read(good());
  c.embedding_multiplier = 3;
  c.scale_residuals(reader, "residual_multiplier", 0.5f);
  EXPECT_EQ(c.embedding_multiplier, 6);
  EXPECT_FLOAT_EQ(c.rms_norm_eps, 4e-5f);
  EXPECT_THROW(c.scale_residuals(reader, "residual_multiplier", 0), ConfigError);
}

}  // namespace
}  // namespace mlx_lm::nn
