#include "mlx_lm/load/load.h"

#include <functional>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/load/temp_folder.h"
#include "tests/load/tiny_gguf.h"
#include "tests/load/tiny_model.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;
namespace mx = mlx::core;
using nlohmann::json;
using Change = std::function<void(TinyModel&)>;

// Logits of the last of some tokens.
std::vector<float> run(const models::LanguageModel& model) {
  auto caches = model.make_cache();
  auto logits = model(mx::array({1, 2, 3}, {1, 3}, mx::int32), caches);
  logits = mx::astype(mx::reshape(logits, {-1}), mx::float32);
  logits.eval();
  return {logits.data<float>(), logits.data<float>() + logits.size()};
}

class LoadTest : public testing::Test {
 protected:
  LoadTest() { mx::set_default_device(mx::Device::cpu); }

  Loaded load() { return mlx_lm::load(folder_.path().string()); }

  // The text of the error with which the changed folder is refused.
  template <class E>
  std::string refused(const Change& change) {
    TinyModel model;
    change(model);
    model.write(folder_);
    return refused<E>();
  }
  template <class E>
  std::string refused() {
    try {
      load();
    } catch (const E& error) {
      EXPECT_EQ(error.what()[0], '[') << error.what();
      return error.what();
    }
    ADD_FAILURE() << "expected an error";
    return "";
  }
  // The same for one field of the configuration; the error must name it.
  void refuses_field(const std::string& field, const std::vector<json>& values) {
    for (const auto& value : values) {
      const auto text = refused<ConfigError>([&](TinyModel& m) { m.config[field] = value; });
      EXPECT_NE(text.find(field), std::string::npos) << field << " = " << value << ": " << text;
    }
  }

  TempFolder folder_;
};

const std::vector<json> kNotSizes = {0,   -1,  -2147483648,      2147483648, 1e18,
                                     1.5, "8", json::array({8}), true,       json::object()};

TEST_F(LoadTest, LoadsAFolder) {
  TinyModel().write(folder_);
  auto loaded = load();
  EXPECT_EQ(loaded.model->num_layers(), 2);
  EXPECT_EQ(loaded.model->vocab_size(), 258);
  EXPECT_EQ(loaded.config.get<std::string>("model_type"), "llama");
  EXPECT_EQ(loaded.tokenizer.encode("hi"), (std::vector<int>{'h', 'i'}));
  EXPECT_EQ(loaded.tokenizer.eos_token_ids(), std::set<int>{TinyModel::kEnd});
  EXPECT_TRUE(loaded.tokenizer.has_chat_template());
  EXPECT_EQ(run(*loaded.model).size(), 3u * 258);
}

TEST_F(LoadTest, ReadsTheSameWeightsFromShards) {
  TinyModel whole;
  whole.write(folder_);
  const auto expected = run(*load().model);
  fs::remove(folder_.path() / "model.safetensors");
  TinyModel first = whole, second = whole;
  json map;
  for (const auto& [name, tensor] : whole.tensors) {
    const bool left = name < "model.layers.1";
    (left ? second : first).tensors.erase(name);
    map[name] = left ? "model-1.safetensors" : "model-2.safetensors";
  }
  folder_.write("model-1.safetensors", first.safetensors());
  folder_.write("model-2.safetensors", second.safetensors());
  EXPECT_EQ(run(*load().model), expected);
  folder_.write("model.safetensors.index.json", json{{"weight_map", map}}.dump());
  EXPECT_EQ(run(*load().model), expected);
}

TEST_F(LoadTest, TakesEndTokensFromBothFiles) {
  auto end_tokens = [&](const json& config, const std::string& generation) {
    TinyModel model;
    model.config["eos_token_id"] = config;
    model.write(folder_);
    folder_.write("generation_config.json", generation);
    const auto files = open_model(folder_.path());
    return load_tokenizer(files, load_config(files)).eos_token_ids();
  };
  const int end = TinyModel::kEnd;  // the tokenizer's own is always one
  EXPECT_EQ(end_tokens(3, "{}"), (std::set<int>{3, end}));
  EXPECT_EQ(end_tokens(3, R"({"eos_token_id": 4})"), (std::set<int>{4, end}));
  EXPECT_EQ(end_tokens({3, 4}, R"({"eos_token_id": [5, 6]})"), (std::set<int>{5, 6, end}));
  EXPECT_EQ(end_tokens(nullptr, R"({"eos_token_id": 0})"), (std::set<int>{0, end}));
  for (const char* silent : {R"({"eos_token_id": null})", R"({"eos_token_id": []})", "[]", "null", "", "{", "\xff"}) {
    EXPECT_EQ(end_tokens(3, silent), (std::set<int>{3, end})) << silent;
  }
  EXPECT_THROW(end_tokens(3, R"({"eos_token_id": "</s>"})"), ConfigError);
  EXPECT_THROW(end_tokens(3, R"({"eos_token_id": [1, null]})"), ConfigError);
  EXPECT_THROW(end_tokens(int64_t(1) << 40, "{}"), ConfigError);
}

TEST_F(LoadTest, RefusesConfigurationsThatAreNotObjects) {
  TinyModel().write(folder_);
  for (const char* text : {"", "{", "[]", "null", "1", "\"text\"", "{\"model_type\": }", "\xff", "{} {}"}) {
    folder_.write("config.json", text);
    EXPECT_NE(refused<ConfigError>().find("config.json"), std::string::npos) << text;
  }
  folder_.write("config.json", std::string(200000, '[') + std::string(200000, ']'));
  EXPECT_NE(refused<ConfigError>().find("nested"), std::string::npos);
  fs::remove(folder_.path() / "config.json");
  EXPECT_NE(refused<Error>().find("config.json"), std::string::npos);
  const auto nowhere = open_model(folder_.path());
  EXPECT_THROW(load_config(nowhere), ConfigError);
}

TEST_F(LoadTest, RefusesModelTypesThatItDoesNotKnowNearestFirst) {
  auto text = refused<UnsupportedModel>([](TinyModel& m) { m.config["model_type"] = "lama"; });
  EXPECT_NE(text.find("expected one of llama, "), std::string::npos) << text;
  text = refused<UnsupportedModel>([](TinyModel& m) { m.config["model_type"] = "qwen33"; });
  EXPECT_NE(text.find("expected one of qwen3, "), std::string::npos) << text;
  text = refused<UnsupportedModel>([](TinyModel& m) { m.config["model_type"] = std::string(100000, 'x'); });
  EXPECT_LT(text.size(), 2000u);
  refused<UnsupportedModel>([](TinyModel& m) { m.config["model_type"] = ""; });
  refuses_field("model_type", {nullptr, 1, json::array({"llama"}), true});
}

TEST_F(LoadTest, RefusesSizesThatMakeNoSense) {
  for (const char* field : {"hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads",
                            "num_key_value_heads", "vocab_size", "head_dim"}) {
    refuses_field(field, kNotSizes);
  }
  for (const char* field :
       {"hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size", "rms_norm_eps"}) {
    refuses_field(field, {nullptr});
  }
  refuses_field("num_key_value_heads", {3, 5, 8});
  refuses_field("num_hidden_layers", {1 << 28});
  refuses_field("rms_norm_eps", {"small", json::array(), true});
  refuses_field("rope_theta", {0, -10000, 1, "10000"});
  refuses_field("tie_word_embeddings", {1, "true", json::array()});
  refuses_field("attention_bias", {1, "no"});
  // Each of the two is in range; their product is not.
  EXPECT_NE(refused<ConfigError>([](TinyModel& m) {
              m.config["num_attention_heads"] = m.config["num_key_value_heads"] = m.config["head_dim"] = 65536;
            }).find("head_dim"),
            std::string::npos);
}

TEST_F(LoadTest, NamesTheTensorThatASizeDoesNotFit) {
  for (auto [field, value, tensor] : std::vector<std::tuple<const char*, int, const char*>>{
           {"hidden_size", 64, "model.embed_tokens.weight"},
           {"hidden_size", 1 << 28, "model.embed_tokens.weight"},
           {"num_hidden_layers", 3, "model.layers.2."},
           {"intermediate_size", 47, "model.layers.0.mlp.gate_proj.weight"},
           {"vocab_size", 259, "model.embed_tokens.weight"},
           {"vocab_size", 1 << 28, "model.embed_tokens.weight"},
           {"head_dim", 16, "model.layers.0.self_attn.q_proj.weight"},
           {"num_key_value_heads", 4, "model.layers.0.self_attn.k_proj.weight"}}) {
    const auto text = refused<WeightError>([&](TinyModel& m) { m.config[field] = value; });
    EXPECT_NE(text.find(tensor), std::string::npos) << field << ": " << text;
    EXPECT_NE(text.find(folder_.path().string()), std::string::npos) << text;
  }
  EXPECT_NE(refused<WeightError>([](TinyModel& m) { m.config["num_hidden_layers"] = 1; }).find("model.layers.1."),
            std::string::npos);
}

TEST_F(LoadTest, NamesMissingAndLeftOverTensors) {
  for (const auto& [name, tensor] : TinyModel().tensors) {
    const auto text = refused<WeightError>([&](TinyModel& m) { m.tensors.erase(name); });
    EXPECT_NE(text.find(name), std::string::npos) << text;
  }
  auto text = refused<WeightError>([](TinyModel& m) {
    for (int i = 0; i < 9; ++i) m.add_norm("model.extra." + std::to_string(i), 4);
  });
  EXPECT_NE(text.find("found 9 more: model.extra.0, model.extra.1"), std::string::npos) << text;
  text = refused<WeightError>([](TinyModel& m) { m.add_norm("model.layers.0.self_attn.q_proj.bias", 32); });
  EXPECT_NE(text.find("model.layers.0.self_attn.q_proj.bias"), std::string::npos) << text;
  text = refused<WeightError>([](TinyModel& m) { m.config["attention_bias"] = true; });
  EXPECT_NE(text.find("model.layers.0.self_attn.q_proj.bias"), std::string::npos) << text;
  text = refused<WeightError>([](TinyModel& m) { m.config["tie_word_embeddings"] = false; });
  EXPECT_NE(text.find("lm_head.weight"), std::string::npos) << text;
}

TEST_F(LoadTest, RefusesTensorsOfAnotherShapeOrType) {
  const std::string matrix = "model.layers.1.self_attn.v_proj.weight", norm = "model.norm.weight";
  for (auto shape : {std::vector<int64_t>{32, 16}, {512}, {16, 32, 1}, {1, 16, 32}, {}}) {
    for (const auto& name : {matrix, norm}) {
      const auto text = refused<WeightError>([&](TinyModel& m) {
        size_t size = 4;
        for (auto n : shape) size *= size_t(n);
        m.tensors[name] = {"F32", shape, std::string(size, '\0')};
      });
      EXPECT_NE(text.find(name), std::string::npos) << text;
    }
  }
  for (const char* dtype : {"I32", "U32"}) {
    for (const auto& name : {matrix, norm}) {
      const auto text = refused<WeightError>([&](TinyModel& m) { m.tensors[name].dtype = dtype; });
      EXPECT_NE(text.find(name), std::string::npos) << text;
    }
  }
  refused<UnsupportedModel>([&](TinyModel& m) {
    auto& t = m.tensors[matrix];
    t = {"F64", t.shape, t.data + t.data};
  });
}

TEST_F(LoadTest, RefusesQuantizationsThatMakeNoSense) {
  auto quantization = [&](const json& value) { return [value](TinyModel& m) { m.config["quantization"] = value; }; };
  for (const json& bad : std::vector<json>{{{"group_size", 0}, {"bits", 4}},
                                           {{"group_size", -64}, {"bits", 4}},
                                           {{"group_size", 64}, {"bits", 0}},
                                           {{"group_size", 64}, {"bits", 7}},
                                           {{"group_size", 64}, {"bits", 33}},
                                           {{"group_size", 1 << 30}, {"bits", 4}},
                                           {{"group_size", "64"}, {"bits", 4}},
                                           {{"group_size", 64}, {"bits", 4}, {"mode", "magic"}},
                                           {{"group_size", 64}, {"bits", 4}, {"mode", 4}},
                                           {{"group_size", 64}, {"bits", 4}, {"mode", "mxfp4"}},
                                           {{"group_size", 64}, {"bits", 4}, {"model.norm", {{"bits", 9}}}},
                                           json::array(),
                                           4,
                                           "q4"}) {
    EXPECT_NE(refused<ConfigError>(quantization(bad)).find("quantization"), std::string::npos) << bad;
  }
  // Scales without a configuration, and a configuration for a path without scales.
  const std::string path = "model.layers.0.mlp.up_proj";
  refused<UnsupportedModel>([&](TinyModel& m) { m.add_matrix(path + ".scales", 48, 1); });
  EXPECT_NE(refused<WeightError>([&](TinyModel& m) {
              m.config["quantization"] = {{"group_size", 32}, {"bits", 4}, {path, {{"group_size", 32}, {"bits", 4}}}};
            }).find(path + ".scales"),
            std::string::npos);
  // Scales, packed words and biases that do not fit each other; 4 words are right, 2 to 6 and 8 other bits.
  for (int64_t words : {0, 1, 4, 7, 9, 32}) {
    for (int64_t groups : {0, 1, 2, 32}) {
      for (const char* dtype : {"F32", "F16", "U8", "I32"}) {
        if (words == 4 && groups == 1 && dtype == std::string("F32")) continue;  // this one is right
        refused<WeightError>([&](TinyModel& m) {
          m.config["quantization"] = {{"group_size", 32}, {"bits", 4}};
          m.tensors[path + ".weight"] = {"U32", {48, words}, std::string(size_t(48 * words * 4), '\x11')};
          const size_t width = dtype[1] == '8' ? 1 : dtype[1] == '1' ? 2 : 4;
          m.tensors[path + ".scales"] = {dtype, {48, groups}, std::string(size_t(48 * groups) * width, '\0')};
          m.tensors[path + ".biases"] = {"F32", {48, 1}, std::string(48 * 4, '\0')};
        });
      }
    }
  }
}

TEST_F(LoadTest, RefusesLayerTypesThatDoNotMatch) {
  refuses_field("layer_types", {json::array({"full_attention"}), json::array({"full_attention", 1}), "full_attention",
                                2, json::array({"full_attention", "full_attention", "full_attention"})});
  auto sliding = [](const json& window) {
    return [window](TinyModel& m) {
      m.config["layer_types"] = {"sliding_attention", "full_attention"};
      if (!window.is_null()) m.config["sliding_window"] = window;
    };
  };
  for (const json& window : std::vector<json>{nullptr, 0, -1, "8", 1e30}) {
    EXPECT_NE(refused<ConfigError>(sliding(window)).find("sliding_window"), std::string::npos) << window;
  }
  TinyModel model;
  sliding(1 << 28)(model);
  model.write(folder_);
  EXPECT_EQ(run(*load().model).size(), 3u * 258);
}

TEST_F(LoadTest, RefusesRotaryScalingsThatMakeNoSense) {
  for (const json& scaling : std::vector<json>{
           "linear",
           json::array(),
           {{"type", 1}},
           {{"type", "linear"}},
           {{"type", "linear"}, {"factor", 0}},
           {{"type", "linear"}, {"factor", -2}},
           {{"type", "linear"}, {"factor", "2"}},
           {{"type", "linear"}, {"factor", 1e-45}},
           {{"type", "dynamic"}},
           {{"type", "dynamic"}, {"factor", 0}},
           {{"rope_type", "llama3"}},
           {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 0}},
           {{"rope_type", "llama3"}, {"factor", 8}, {"original_max_position_embeddings", -1}},
           {{"rope_type", "yarn"}, {"factor", 0}},
           {{"rope_type", "yarn"}, {"factor", 4}, {"beta_fast", 0}},
           {{"rope_type", "longrope"}, {"long_factor", {1, 1, 1}}, {"original_max_position_embeddings", 64}},
           {{"rope_type", "longrope"}, {"long_factor", {1, 1, 1, 0}}, {"original_max_position_embeddings", 64}},
           {{"rope_type", "longrope"}, {"long_factor", {1, 1, 1, -1}}, {"original_max_position_embeddings", 64}},
           {{"rope_type", "longrope"}, {"long_factor", 1}, {"original_max_position_embeddings", 1}},
           {{"rope_type", "longrope"}, {"long_factor", "1"}, {"original_max_position_embeddings", 64}},
           {{"rope_type", "proportional"}, {"partial_rotary_factor", 2}}}) {
    refused<ConfigError>([&](TinyModel& m) { m.config["rope_scaling"] = scaling; });
  }
  EXPECT_NE(refused<UnsupportedModel>([](TinyModel& m) {
              m.config["rope_scaling"] = {{"type", "spiral"}};
            }).find("spiral"),
            std::string::npos);
  EXPECT_NE(refused<ConfigError>([](TinyModel& m) {
              m.config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2}};
              m.config.erase("max_position_embeddings");
            }).find("max_position_embeddings"),
            std::string::npos);
}

TEST_F(LoadTest, RefusesTokenizersThatAreNone) {
  TinyModel model;
  model.write(folder_);
  for (const char* text : {"", "{", "[]", "{}", "null", "\xff", R"({"model": {"type": "BPE"}})"}) {
    folder_.write("tokenizer.json", text);
    EXPECT_NE(refused<Error>().find("tokenizer.json"), std::string::npos) << text;
  }
  fs::remove(folder_.path() / "tokenizer.json");
  EXPECT_NE(refused<Error>().find("expected tokenizer.json, found nothing"), std::string::npos);
  model.write(folder_);
  for (const char* text : {"", "[]", "{", R"({"chat_template": 3})", R"({"chat_template": []})",
                           R"({"chat_template": [{"name": "default"}]})"}) {
    folder_.write("tokenizer_config.json", text);
    refused<ConfigError>();
  }
  // Without it there are no special names and no template, but the model works.
  fs::remove(folder_.path() / "tokenizer_config.json");
  EXPECT_FALSE(load().tokenizer.has_chat_template());
  folder_.write("chat_template.jinja", "{{ messages[0].content }}!");
  EXPECT_EQ(load().tokenizer.apply_chat_template({{{"role", "user"}, {"content", "hi"}}}, {}), "hi!");
  for (const char* text : {"{{", "{% for %}", "\xff"}) {
    folder_.write("chat_template.jinja", text);
    auto loaded = load();
    EXPECT_THROW(loaded.tokenizer.apply_chat_template({{{"role", "user"}, {"content", "hi"}}}, {}), Error) << text;
  }
}

TEST_F(LoadTest, StaysInsideTheFolder) {
  TempFolder other;
  TinyModel().write(other);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}) {
    TinyModel().write(folder_);
    fs::remove(folder_.path() / name);
    fs::create_symlink(other.path() / name, folder_.path() / name);
    EXPECT_NE(refused<Error>().find(name), std::string::npos);
    fs::remove(folder_.path() / name);
  }
  TinyModel().write(folder_);
  for (const char* name : {"generation_config.json", "chat_template.jinja", "model.safetensors.index.json"}) {
    other.write(name, R"({"weight_map": {}})");
    fs::create_symlink(other.path() / name, folder_.path() / name);
    EXPECT_NE(refused<Error>().find(name), std::string::npos);
    fs::remove(folder_.path() / name);
  }
  for (const std::string& name : {std::string("../x.safetensors"), (other.path() / "model.safetensors").string()}) {
    folder_.write("model.safetensors.index.json", json{{"weight_map", {{"model.norm.weight", name}}}}.dump());
    refused<Error>();
  }
}

TEST_F(LoadTest, OpensGgufFilesByTheirName) {
  const auto path = folder_.write("m.gguf", tiny_gguf().build());
  EXPECT_NE(open_model(path).gguf, nullptr);
  EXPECT_EQ(open_model(folder_.path()).gguf, nullptr);
  EXPECT_EQ(load_config(open_model(path)).get<int>("hidden_size"), 8);
  folder_.write("bad.gguf", "GGUX");
  EXPECT_THROW(open_model(folder_.path() / "bad.gguf"), WeightError);
  EXPECT_THROW(open_model(folder_.path() / "missing.gguf"), WeightError);
  // Its layers lack most of their tensors, and it has no tokenizer.
  EXPECT_THROW(mlx_lm::load(path.string()), WeightError);
  // A folder is a folder, whatever its name.
  TinyModel().write(folder_, "model.gguf");
  EXPECT_EQ(mlx_lm::load((folder_.path() / "model.gguf").string()).model->num_layers(), 2);
}

}  // namespace
}  // namespace mlx_lm
