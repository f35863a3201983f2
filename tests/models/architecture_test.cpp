#include "mlx_lm/models/architecture.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"

#include "tests/models/golden_case.h"

namespace mlx_lm::models {
namespace {

std::string refusal(const std::string& model_type) {
  try {
    find_architecture(model_type);
  } catch (const UnsupportedModel& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(Architectures, are_found_by_each_of_their_types) {
  ASSERT_FALSE(architectures().empty());
  for (const auto* architecture : architectures()) {
    EXPECT_FALSE(architecture->types.empty());
    for (auto type : architecture->types) EXPECT_EQ(&find_architecture(std::string(type)), architecture) << type;
  }
}

TEST(Architectures, serve_no_type_twice) {
  std::set<std::string_view> seen;
  for (const auto* architecture : architectures()) {
    for (auto type : architecture->types) EXPECT_TRUE(seen.insert(type).second) << type;
  }
}

TEST(Architectures, unknown_type_is_told_the_nearest_first) {
  EXPECT_TRUE(refusal("lama").starts_with("[models] model_type: expected one of llama, ")) << refusal("lama");
  EXPECT_TRUE(refusal("qwen4").starts_with("[models] model_type: expected one of qwen")) << refusal("qwen4");
  EXPECT_TRUE(refusal("xvers").starts_with("[models] model_type: expected one of xverse, "));
  for (const auto* architecture : architectures()) {
    for (auto type : architecture->types) EXPECT_NE(refusal("?").find(type), std::string::npos) << type;
  }
  EXPECT_TRUE(refusal("lama").ends_with("; found lama"));
}

TEST(Architectures, names_must_be_exact) {
  for (const char* type : {"", "Llama", "llama ", "llama\n", "llam"})
    EXPECT_NE(refusal(type), "nothing thrown") << type;
  EXPECT_TRUE(refusal(std::string(1 << 20, 'x')).ends_with("found " + std::string(60, 'x')));
}

TEST(LanguageModel, makes_the_caches_that_its_layers_need) {
  const auto model = GoldenCase("llama_mqa").make();
  EXPECT_EQ(model->num_layers(), 3);
  EXPECT_EQ(model->vocab_size(), 96);
  const auto plain = model->make_cache();
  ASSERT_EQ(plain.size(), 3u);
  for (const auto& cache : plain) EXPECT_TRUE(dynamic_cast<const cache::GrowingKVCache*>(cache.get()));
  for (const auto& cache : model->make_cache(32)) {
    const auto* rotating = dynamic_cast<const cache::RotatingKVCache*>(cache.get());
    ASSERT_TRUE(rotating);
    EXPECT_EQ(rotating->max_size(), 32);
  }
  EXPECT_THROW(model->make_cache(4), RequestError) << "the four tokens that are always kept";
}

TEST(LanguageModel, sliding_layers_keep_their_window) {
  const auto model = GoldenCase("llama_sliding").make();
  const auto caches = model->make_cache(0);
  std::string kinds;
  for (const auto& cache : caches) {
    const auto* rotating = dynamic_cast<const cache::RotatingKVCache*>(cache.get());
    kinds += rotating ? std::to_string(rotating->max_size()) : "-";
  }
  EXPECT_EQ(kinds, "-88-");
  const auto bounded = model->make_cache(20);
  EXPECT_EQ(dynamic_cast<const cache::RotatingKVCache&>(*bounded[0]).max_size(), 20);
  EXPECT_EQ(dynamic_cast<const cache::RotatingKVCache&>(*bounded[1]).max_size(), 8);
}

TEST(LanguageModel, knows_the_checkpoints_type) {
  EXPECT_EQ(GoldenCase("llama_basic").make()->dtype(), mx::float32);
  EXPECT_EQ(GoldenCase("llama_f16").make()->dtype(), mx::float16);
  EXPECT_EQ(GoldenCase("llama_bf16").make()->dtype(), mx::bfloat16);
}

TEST(TextPart, brings_names_into_form_whatever_they_are) {
  const auto named = [](const std::vector<std::string>& names) {
    std::map<std::string, nn::StoredTensor> tensors;
    for (const auto& name : names)
      tensors.emplace(name, nn::StoredTensor{{1}, mx::float32, [] { return mx::array({1.f}); }});
    const nn::Weights w(std::move(tensors), {}, "folder");
    TextPart part(ConfigReader({{"text_config", {{"a", 1}}}}, "config.json"), w);
    part.weights.take_vector("model.norm.weight", 1);
    part.weights.take_vector("lm_head.weight", 1);
    w.expect_all_taken();
  };
  named({"language_model.model.norm.weight", "language_model.lm_head.weight", "vision_tower.a", "audio_tower.b"});
  named({"model.language_model.norm.weight", "lm_head.weight", "model.visual.a", "model.multi_modal_projector.b"});
  named({"model.norm.weight", "lm_head.weight", "visual.a"});
  EXPECT_THROW(named({"model.norm.weight", "lm_head.weight", "other.a"}), WeightError);
  EXPECT_THROW(named({"model.norm.weight", "lm_head.weight", "language_model.lm_head.weight"}), WeightError);
}

TEST(TextPart, its_configuration_is_the_inner_one) {
  const nn::Weights w({}, {}, "folder");
  TextPart part(ConfigReader({{"text_config", {{"a", 1}, {"b", 2}}}, {"c", 3}}, "config.json"), w);
  part.set_default("a", 5);
  part.set_default("d", 4);
  part.set("b", 6);
  EXPECT_EQ(part.config.json(), nlohmann::json({{"a", 1}, {"b", 6}, {"d", 4}}));
  EXPECT_EQ(TextPart(ConfigReader({{"c", 3}}, "config.json"), w).config.get<int>("c"), 3) << "all of it";
  EXPECT_THROW(TextPart(ConfigReader({{"text_config", 1}}, "config.json"), w), ConfigError);
}

// Every field, those of nested objects and the first of every list.
void list_fields(const nlohmann::json& value, const nlohmann::json::json_pointer& at,
                 std::vector<nlohmann::json::json_pointer>& fields) {
  if (!at.empty()) fields.push_back(at);
  if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) list_fields(inner, at / key, fields);
  } else if (value.is_array() && !value.empty()) {
    list_fields(value[0], at / size_t(0), fields);
  }
}

// Each architecture, with each field that one of its cases has damaged in turn, gives an Error or a model, and nothing
// else.
TEST(LanguageModel, survives_any_wrong_field) {
  const nlohmann::json values = {
      nullptr, 0, -1, 1, 3, 0.5, 1e300, 2147483648u, "x", true, nlohmann::json::array(), nlohmann::json::object()};
  std::set<std::pair<std::string, std::string>> done;  // model type and field
  std::set<std::string> types;
  std::vector<std::filesystem::path> cases;
  for (const auto& entry : std::filesystem::directory_iterator(golden_cases()))
    cases.push_back(entry.path().filename());
  std::sort(cases.begin(), cases.end());
  for (const auto& name : cases) {
    GoldenCase damaged(name);
    const auto config = damaged.config;
    const std::string type = config.at("model_type");
    types.insert(type);
    std::vector<nlohmann::json::json_pointer> fields;
    list_fields(config, nlohmann::json::json_pointer(), fields);
    for (const auto& field : fields) {
      if (field.to_string() == "/model_type" || !done.emplace(type, field.to_string()).second) continue;
      for (const auto& wrong : values) {
        damaged.config[field] = wrong;
        try {
          damaged.make();
        } catch (const Error& error) {
          const std::string_view text = error.what();
          EXPECT_TRUE(text.starts_with("[") && text.find('\n') == text.npos) << text;
        } catch (const std::exception& error) {
          ADD_FAILURE() << name << ": " << field << ": " << wrong << ": " << error.what();
        }
        damaged.config = config;
      }
    }
  }
  EXPECT_GE(types.size(), 3u);
}

}  // namespace
}  // namespace mlx_lm::models
