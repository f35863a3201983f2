// What folders of adapters may be, and how those that are wrong are refused.
#include "mlx_lm/load/adapters.h"

#include <functional>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/load.h"

#include "tests/load/gguf_writer.h"
#include "tests/load/temp_folder.h"
#include "tests/load/tiny_model.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;
namespace mx = mlx::core;
using nlohmann::json;

const std::string kQ = "model.layers.0.self_attn.q_proj", kV = "model.layers.1.self_attn.v_proj";

// An adapter of the tiny model, in mlx-lm's form.
struct Adapter {
  json config = {{"fine_tune_type", "lora"},
                 {"num_layers", 2},
                 {"lora_parameters", {{"rank", 4}, {"scale", 2.0}, {"dropout", 0.0}}}};
  TinyModel tensors;  // only its tensors
  std::string file = "adapters.safetensors";

  Adapter() {
    tensors.tensors.clear();
    add(kQ, 32, 32, 4);
    add(kV, 32, 16, 4);
  }
  void add(const std::string& layer, int64_t in, int64_t out, int64_t rank) {
    tensors.add_matrix(layer + ".lora_a", in, rank);
    tensors.add_matrix(layer + ".lora_b", rank, out);
  }
  void write(const TempFolder& folder) const {
    folder.write("adapter/adapter_config.json", config.dump());
    folder.write("adapter/" + file, tensors.safetensors());
  }
};

// The same in PEFT's.
struct PeftAdapter : Adapter {
  PeftAdapter() {
    config = {{"peft_type", "LORA"}, {"r", 4}, {"lora_alpha", 8}, {"target_modules", {"q_proj", "v_proj"}}};
    file = "adapter_model.safetensors";
    tensors.tensors.clear();
    add(kQ, 32, 32, 4);
    add(kV, 32, 16, 4);
  }
  static std::string named(const std::string& layer, const std::string& part) {
    return "base_model.model." + layer + part;
  }
  void add(const std::string& layer, int64_t in, int64_t out, int64_t rank) {
    tensors.add_matrix(named(layer, ".lora_A.weight"), rank, in);
    tensors.add_matrix(named(layer, ".lora_B.weight"), out, rank);
  }
};

class AdaptersTest : public testing::Test {
 protected:
  AdaptersTest() {
    mx::set_default_device(mx::Device::cpu);
    model_.write(folder_, "model");
  }

  std::vector<float> run(const fs::path& model, bool adapted = true) {
    const auto files = open_model(model);
    std::optional<Adapters> adapters;
    if (adapted) adapters = open_adapters(folder_.path() / "adapter");
    const auto loaded = load_model(files, load_config(files), adapted ? &*adapters : nullptr);
    auto caches = loaded->make_cache();
    auto logits = mx::reshape((*loaded)(mx::array({1, 2, 3}, {1, 3}, mx::int32), caches), {-1});
    logits = mx::astype(logits, mx::float32);
    logits.eval();
    return {logits.data<float>(), logits.data<float>() + logits.size()};
  }
  std::vector<float> run(bool adapted = true) { return run(folder_.path() / "model", adapted); }

  // The text of the error with which the folder that was written last is refused.
  template <class E>
  std::string refused() {
    try {
      run();
    } catch (const E& error) {
      EXPECT_EQ(error.what()[0], '[') << error.what();
      EXPECT_LT(std::string(error.what()).size(), 700u);
      return error.what();
    }
    ADD_FAILURE() << "expected an error";
    return "";
  }
  // The same for a changed adapter; the error says all of the given.
  template <class E, class A>
  void refuses(const std::function<void(A&)>& change, std::initializer_list<std::string> said) {
    A adapter;
    change(adapter);
    adapter.write(folder_);
    const auto text = refused<E>();
    for (const auto& part : said) EXPECT_NE(text.find(part), std::string::npos) << part << ": " << text;
  }

  std::string path(const char* name) const { return (folder_.path() / "adapter" / name).string(); }

  TempFolder folder_;
  TinyModel model_;
};

TEST_F(AdaptersTest, ChangesWhatTheModelSays) {
  const auto before = run(false);
  Adapter adapter;
  adapter.write(folder_);
  const auto after = run();
  EXPECT_NE(after, before);
  adapter.config["lora_parameters"]["scale"] = 0;
  adapter.write(folder_);
  EXPECT_EQ(run(), before) << "nothing is added";
  adapter.config = {{"num_layers", -1}, {"lora_parameters", {{"rank", 4}, {"scale", 2.0}}}};
  adapter.write(folder_);
  EXPECT_EQ(run(), after) << "lora is the default, dropout is not needed, and -1 means all blocks";
}

TEST_F(AdaptersTest, LoadTakesTheirFolder) {
  Adapter().write(folder_);
  const auto model = (folder_.path() / "model").string();
  const auto loaded = load(model, {.adapter_path = folder_.path() / "adapter"});
  EXPECT_GT(loaded.model->totals().parameters(), load(model).model->totals().parameters());
  // Told before a model is looked for.
  try {
    load("no/such-model", {.path = {.offline = true}, .adapter_path = folder_.path() / "nothing"});
    ADD_FAILURE() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), "[adapters] " + (folder_.path() / "nothing").string() +
                                ": expected a folder with adapter_config.json, found nothing");
  }
}

TEST_F(AdaptersTest, PeftGivesTheSameAsMlxLm) {
  Adapter adapter;
  adapter.write(folder_);
  const auto expected = run();
  PeftAdapter peft;
  for (const auto& layer : {kQ, kV}) {
    for (const auto& [mine, theirs] :
         {std::pair(".lora_a", ".lora_A.weight"), std::pair(".lora_b", ".lora_B.weight")}) {
      const auto& tensor = adapter.tensors.tensors.at(layer + mine);
      const auto* values = reinterpret_cast<const float*>(tensor.data.data());
      std::vector<float> transposed;
      for (int64_t c = 0; c < tensor.shape[1]; ++c) {
        for (int64_t r = 0; r < tensor.shape[0]; ++r) transposed.push_back(values[r * tensor.shape[1] + c]);
      }
      peft.tensors.add_floats(PeftAdapter::named(layer, theirs), {tensor.shape[1], tensor.shape[0]}, transposed);
    }
  }
  peft.write(folder_);
  EXPECT_EQ(run(), expected);
  for (const json& targets : std::vector<json>{"all-linear", ".*(q|v)_proj", nullptr, json::array()}) {
    peft.config["target_modules"] = targets;
    peft.write(folder_);
    EXPECT_EQ(run(), expected) << targets;
  }
}

TEST_F(AdaptersTest, RefusesFoldersWithoutTheirFiles) {
  EXPECT_NE(refused<Error>().find("expected a folder with adapter_config.json, found nothing"), std::string::npos);
  folder_.write("adapter", "x");
  EXPECT_NE(refused<Error>().find("expected a folder with adapter_config.json, found a file"), std::string::npos);
  fs::remove(folder_.path() / "adapter");
  fs::create_directory(folder_.path() / "adapter");
  EXPECT_EQ(refused<Error>(),
            "[adapters] " + (folder_.path() / "adapter").string() + ": expected adapter_config.json, found nothing");
  folder_.write("adapter/adapter_config.json", Adapter().config.dump());
  EXPECT_NE(refused<Error>().find("expected adapters.safetensors, found nothing"), std::string::npos);
  folder_.write("adapter/adapter_config.json", PeftAdapter().config.dump());
  EXPECT_NE(refused<Error>().find("expected adapter_model.safetensors, found nothing"), std::string::npos);
  for (const char* text : {"", "[]", "{", "null"}) {
    folder_.write("adapter/adapter_config.json", text);
    EXPECT_NE(refused<ConfigError>().find("adapter_config.json"), std::string::npos) << text;
  }
  Adapter().write(folder_);
  for (const char* bytes : {"", "x", "\x02\0\0\0\0\0\0\0{}"}) {
    folder_.write("adapter/adapters.safetensors", bytes);
    EXPECT_NE(refused<WeightError>().find("adapters.safetensors"), std::string::npos) << bytes;
  }
  TempFolder other;
  Adapter().write(other);
  fs::remove(folder_.path() / "adapter/adapters.safetensors");
  fs::create_symlink(other.path() / "adapter/adapters.safetensors", folder_.path() / "adapter/adapters.safetensors");
  EXPECT_NE(refused<Error>().find("expected a file of this folder, found a link"), std::string::npos);
}

TEST_F(AdaptersTest, RefusesConfigurationsThatMakeNoSense) {
  const auto config = path("adapter_config.json");
  const auto with = [&](const char* pointer, const json& value, const char* said) {
    refuses<ConfigError, Adapter>([&](Adapter& a) { a.config[json::json_pointer(pointer)] = value; }, {config, said});
  };
  for (const json& bad : std::vector<json>{"lora2", "", 1, json::array()})
    with("/fine_tune_type", bad, "fine_tune_type");
  for (const json& bad : std::vector<json>{nullptr, "all", 1.5, 1e20}) with("/num_layers", bad, "num_layers");
  for (const json& bad : std::vector<json>{nullptr, 4, json::array()}) with("/lora_parameters", bad, "lora_parameters");
  for (const json& bad : std::vector<json>{nullptr, 0, -4, "4", 1e20}) with("/lora_parameters/rank", bad, "rank");
  for (const json& bad : std::vector<json>{nullptr, "2", 1e300, json::array()}) {
    with("/lora_parameters/scale", bad, "scale");
  }
  for (const json& bad : std::vector<json>{"q_proj", 1, json::array({1})}) with("/lora_parameters/keys", bad, "keys");
}

TEST_F(AdaptersTest, RefusesTensorsThatDoNotFit) {
  const auto file = path("adapters.safetensors");
  const auto refuse = [&](const std::function<void(Adapter&)>& change, std::initializer_list<std::string> said) {
    refuses<WeightError, Adapter>(change, said);
  };
  // Of another rank, shape or type, or without their counterpart.
  refuse([](Adapter& a) { a.config["lora_parameters"]["rank"] = 8; },
         {file, kQ + ".lora_a: expected rank 8", "(32, 4)"});
  refuse([](Adapter& a) { a.add(kV, 32, 16, 3); }, {file, kV + ".lora_a: expected rank 4", "(32, 3)"});
  refuse([](Adapter& a) { a.tensors.add_matrix(kV + ".lora_b", 5, 16); }, {file, kV + ".lora_b: expected rank 4"});
  refuse([](Adapter& a) { a.tensors.add_norm(kV + ".lora_b", 4); }, {file, kV + ".lora_b: expected rank 4", "(4)"});
  refuse([](Adapter& a) { a.add(kQ, 16, 32, 4); }, {file, kQ + ".lora_a: expected shape (32, ", "(16, 4)"});
  refuse([](Adapter& a) { a.add(kQ, 32, 48, 4); }, {file, kQ + ".lora_b: expected shape (4, 32), found (4, 48)"});
  refuse([](Adapter& a) { a.tensors.tensors[kQ + ".lora_a"].dtype = "I32"; },
         {file, kQ + ".lora_a: expected float32, float16 or bfloat16"});
  refuse([](Adapter& a) { a.tensors.tensors.erase(kQ + ".lora_a"); }, {file, kQ + ".lora_a beside it, found nothing"});
  refuse([](Adapter& a) { a.tensors.tensors.erase(kV + ".lora_b"); }, {file, kV + ".lora_b beside it, found nothing"});
  // Of no layer, or of no kind.
  refuse([](Adapter& a) { a.add("model.layers.2.self_attn.q_proj", 32, 32, 4); },
         {file, "model.layers.2.self_attn.q_proj.lora_a: expected a layer that the model has"});
  refuse([](Adapter& a) { a.config["num_layers"] = -1, a.add("model.layers.0.input_layernorm", 32, 32, 4); },
         {file, "model.layers.0.input_layernorm.lora_a: expected a layer of the model that takes it"});
  for (const char* name : {"lora_a", "model.norm.weight", "x", ".lora_a", "model.layers.0.lora_c"}) {
    refuse([&](Adapter& a) { a.tensors.add_matrix(name, 32, 4); }, {file, name});
  }
  refuse([](Adapter& a) { a.tensors.add_norm(kQ + ".m", 32); }, {file, kQ + ".m: expected a name that ends"});
  // DoRA's magnitudes.
  const auto dora = [](Adapter& a) {
    a.config["fine_tune_type"] = "dora";
    a.tensors.add_norm(kQ + ".m", 32);
    a.tensors.add_norm(kV + ".m", 16);
  };
  Adapter good;
  dora(good);
  good.write(folder_);
  run();
  refuse([&](Adapter& a) { dora(a), a.tensors.tensors.erase(kV + ".m"); }, {file, kV + ".m beside it"});
  refuse([&](Adapter& a) { dora(a), a.tensors.add_norm(kV + ".m", 32); }, {file, kV + ".m: expected shape (16)"});
  refuse([&](Adapter& a) { dora(a), a.tensors.tensors[kV + ".m"].dtype = "I32"; }, {file, kV + ".m: expected float32"});
}

TEST_F(AdaptersTest, KeepsToNumLayersAndKeys) {
  const auto file = path("adapters.safetensors");
  const auto keys = [](Adapter& a, const json& value) { a.config["lora_parameters"]["keys"] = value; };
  refuses<WeightError, Adapter>([](Adapter& a) { a.config["num_layers"] = 1; },
                                {file, kQ + ".lora_a: expected only layers that num_layers (1) and keys"});
  refuses<WeightError, Adapter>([&](Adapter& a) { keys(a, {"self_attn.q_proj"}); }, {file, kV + ".lora_a"});
  refuses<WeightError, Adapter>([](Adapter& a) { a.add("model.embed_tokens", 258, 32, 4); },
                                {file, "model.embed_tokens.lora_a: expected only layers that"});
  const auto allows = [&](int num_layers, const json& value) {
    Adapter adapter;
    adapter.config["num_layers"] = num_layers;
    keys(adapter, value);
    adapter.write(folder_);
    EXPECT_NO_THROW(run()) << num_layers << value;
  };
  allows(0, nullptr);
  allows(100, nullptr);
  allows(2, {"self_attn.q_proj", "self_attn.v_proj", "no.such_layer"});
  allows(1, {"self_attn.v_proj", kQ});
  Adapter embedding;
  embedding.tensors.tensors.clear();
  embedding.add("model.embed_tokens", 258, 32, 4);
  keys(embedding, {"model.embed_tokens"});
  embedding.write(folder_);
  EXPECT_NO_THROW(run());
}

TEST_F(AdaptersTest, FullReplacesTensorsOfTheModel) {
  const auto full = [](const std::function<void(Adapter&)>& change) {
    return [change](Adapter& a) {
      a.config = {{"fine_tune_type", "full"}};
      a.tensors.tensors.clear();
      change(a);
    };
  };
  const std::string matrix = kQ + ".weight";
  Adapter adapter;
  full([&](Adapter& a) { a.tensors.add_matrix(matrix, 32, 32), a.tensors.add_norm("model.norm.weight", 32); })(adapter);
  adapter.write(folder_);
  const auto found = run();
  for (const auto& [name, tensor] : adapter.tensors.tensors) model_.tensors[name] = tensor;
  model_.write(folder_, "replaced");
  EXPECT_EQ(found, run(folder_.path() / "replaced", false));

  const auto file = path("adapters.safetensors");
  refuses<WeightError, Adapter>(full([&](Adapter& a) { a.tensors.add_matrix(matrix, 32, 16); }),
                                {file, matrix + ": expected shape (32, 32)", "found (32, 16)"});
  refuses<WeightError, Adapter>(full([&](Adapter& a) {
                                  a.tensors.add_matrix(matrix, 32, 32);
                                  a.tensors.tensors[matrix].dtype = "I32";
                                }),
                                {file, matrix, "of another type"});
  refuses<WeightError, Adapter>(full([&](Adapter& a) { a.tensors.add_matrix("lm_head.weight", 258, 32); }),
                                {file, "lm_head.weight: expected a tensor that the model has"});
  refuses<WeightError, Adapter>(full([&](Adapter& a) { a.add(kQ, 32, 32, 4); }), {file, kQ + ".lora_a"});
}

// A quantized matrix becomes a floating-point one.
TEST_F(AdaptersTest, FullReplacesQuantizedMatrices) {
  const std::string layer = "model.layers.0.mlp.up_proj";
  auto quantized = model_;
  quantized.config["quantization"] = {{"group_size", 32}, {"bits", 4}, {layer, {{"group_size", 32}, {"bits", 4}}}};
  quantized.tensors[layer + ".weight"] = {"U32", {48, 4}, std::string(48 * 4 * 4, '\x31')};
  quantized.add_matrix(layer + ".scales", 48, 1);
  quantized.add_matrix(layer + ".biases", 48, 1);
  quantized.write(folder_, "model");
  Adapter adapter;
  adapter.config = {{"fine_tune_type", "full"}};
  adapter.tensors.tensors.clear();
  adapter.tensors.tensors[layer + ".weight"] = model_.tensors[layer + ".weight"];
  adapter.write(folder_);
  model_.write(folder_, "plain");
  EXPECT_EQ(run(), run(folder_.path() / "plain", false));
  adapter.tensors.add_matrix(layer + ".weight", 48, 16);
  adapter.write(folder_);
  EXPECT_NE(refused<WeightError>().find(layer + ".weight: expected shape (48, 32), found (48, 16), in " +
                                        path("adapters.safetensors")),
            std::string::npos);
}

TEST_F(AdaptersTest, RefusesWhatPeftWouldComputeOtherwise) {
  const auto config = path("adapter_config.json");
  const auto with = [&](const char* field, const json& value) {
    refuses<UnsupportedModel, PeftAdapter>([&](PeftAdapter& a) { a.config[field] = value; }, {config, field});
  };
  with("peft_type", "IA3");
  with("bias", "all");
  for (const char* field : {"fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora"}) with(field, true);
  for (const char* start : {"pissa", "pissa_niter_4", "olora", "loftq", "corda", "lora_ga"})
    with("init_lora_weights", start);
  with("layer_replication", json::array({{0, 2}, {1, 2}}));
  with("trainable_token_indices", json::array({1, 2}));
  with("target_parameters", json::array({"mlp.experts"}));
  with("alora_invocation_tokens", json::array({1}));
  with("megatron_config", {{"a", 1}});
  with("rank_pattern", {{".*q_proj", 4}});
  with("alpha_pattern", {{"(q|v)_proj", 4}});
  with("alpha_pattern", {{"", 4}});
  refuses<UnsupportedModel, PeftAdapter>(
      [](PeftAdapter& a) {
        a.config["alpha_pattern"] = {{"q_proj", 1}, {"self_attn.q_proj", 2}};
      },
      {config, "alpha_pattern: expected one pattern for " + kQ});
  for (const json& bad : std::vector<json>{nullptr, 0, -1, 1.5, "4", 1e20}) {
    refuses<ConfigError, PeftAdapter>([&](PeftAdapter& a) { a.config["r"] = bad; }, {config, "r: expected"});
  }
  for (const json& bad : std::vector<json>{nullptr, 0, -1, "4", 1e300}) {
    refuses<ConfigError, PeftAdapter>([&](PeftAdapter& a) { a.config["lora_alpha"] = bad; }, {config, "lora_alpha"});
  }
  PeftAdapter harmless;
  harmless.config.update({{"loftq_config", json::object()},
                          {"layer_replication", nullptr},
                          {"megatron_core", "megatron.core"},
                          {"init_lora_weights", "gaussian"},
                          {"use_bdlora", false},
                          {"trainable_token_indices", nullptr},
                          {"inference_mode", true}});
  harmless.write(folder_);
  EXPECT_NO_THROW(run());
}

TEST_F(AdaptersTest, RefusesPeftTensorsThatDoNotFit) {
  const auto file = path("adapter_model.safetensors");
  const auto refuse = [&](const std::function<void(PeftAdapter&)>& change, std::initializer_list<std::string> said) {
    refuses<WeightError, PeftAdapter>(change, said);
  };
  const auto named = &PeftAdapter::named;
  refuse([](PeftAdapter& a) { a.config["r"] = 8; }, {file, named(kQ, ".lora_A.weight"), "expected rank 8"});
  refuse(
      [](PeftAdapter& a) {
        a.config["rank_pattern"] = {{"v_proj", 2}};
      },
      {file, named(kV, ".lora_A.weight"), "expected rank 2"});
  refuse(
      [](PeftAdapter& a) {
        a.config["target_modules"] = {"q_proj", "proj"};
      },
      {file, named(kV, ".lora_A.weight"), "target_modules"});
  refuse([&](PeftAdapter& a) { a.tensors.tensors.erase(named(kQ, ".lora_B.weight")); }, {file, "lora_b beside it"});
  refuse([&](PeftAdapter& a) { a.config["use_dora"] = true; }, {file, "beside it"});
  refuse([&](PeftAdapter& a) { a.tensors.add_norm(named(kQ, ".lora_A.weight"), 32); }, {file, "expected a matrix"});
  refuse([](PeftAdapter& a) { a.add(kQ, 48, 32, 4); }, {file, kQ + ".lora_a: expected shape (32, "});
  refuse([](PeftAdapter& a) { a.tensors.add_matrix(kQ + ".lora_A.weight", 4, 32); },
         {file, kQ, "begins with base_model.model."});
  refuse([](PeftAdapter& a) { a.add("model.layers.7.self_attn.q_proj", 32, 32, 4); },
         {file, "model.layers.7.self_attn.q_proj.lora_a: expected a layer that the model has"});
  refuse([&](PeftAdapter& a) { a.tensors.add_matrix(named("lm_head", ".weight"), 258, 32); }, {file, "lm_head.weight"});
  const auto unsupported = [&](const std::function<void(PeftAdapter&)>& change, const std::string& said) {
    refuses<UnsupportedModel, PeftAdapter>(change, {file, said});
  };
  unsupported([&](PeftAdapter& a) { a.tensors.add_norm(named(kQ, ".lora_magnitude_vector"), 32); },
              "found another kind");
  unsupported([&](PeftAdapter& a) { a.tensors.add_norm(named(kQ, ".lora_B.bias"), 32); }, "found another kind");
  // The tiny model ties its output layer to the table.
  const auto embedding = [&](PeftAdapter& a) {
    a.config["target_modules"] = {"embed_tokens", "q_proj", "v_proj"};
    a.tensors.add_matrix(named("model.embed_tokens", ".lora_embedding_A"), 4, 258);
    a.tensors.add_matrix(named("model.embed_tokens", ".lora_embedding_B"), 32, 4);
  };
  unsupported(embedding, "expected no adapter of the embedding");
  unsupported([&](PeftAdapter& a) { embedding(a), a.config["use_dora"] = true; }, "expected no DoRA of an embedding");
  unsupported([&](PeftAdapter& a) { a.tensors.add_matrix(named("model.embed_tokens", ".weight"), 258, 32); },
              "expected no adapter of the embedding");
}

// A GGUF file's rows of q stand in another order; an adapter knows only the checkpoint's.
TEST_F(AdaptersTest, GivesTheSameForAGgufFile) {
  GgufWriter w;
  w.add("general.architecture", "llama");
  w.add("llama.block_count", uint32_t(2)).add("llama.embedding_length", uint32_t(32));
  w.add("llama.feed_forward_length", uint32_t(48)).add("llama.context_length", uint32_t(128));
  w.add("llama.attention.head_count", uint32_t(4)).add("llama.attention.head_count_kv", uint32_t(2));
  w.add("llama.attention.layer_norm_rms_epsilon", 1e-5f).add("llama.rope.freq_base", 10000.f);
  const auto add = [&](const std::string& name, const std::string& from, bool rotates = false) {
    const auto& tensor = model_.tensors.at(from + ".weight");
    auto data = tensor.data;
    const size_t row = 32 * sizeof(float), head = 8, half = head / 2;
    for (size_t r = 0; rotates && r < size_t(tensor.shape[0]); ++r) {
      const size_t at = r % head;
      data.replace((r - at + 2 * (at % half) + at / half) * row, row, tensor.data.substr(r * row, row));
    }
    std::vector<uint64_t> dimensions(tensor.shape.rbegin(), tensor.shape.rend());
    w.tensors.push_back({name + ".weight", dimensions, 0, data, {}, {}});
  };
  add("token_embd", "model.embed_tokens");
  add("output_norm", "model.norm");
  for (const std::string i : {"0", "1"}) {
    const auto block = "blk." + i + ".", layer = "model.layers." + i + ".";
    add(block + "attn_q", layer + "self_attn.q_proj", true);
    add(block + "attn_k", layer + "self_attn.k_proj", true);
    add(block + "attn_v", layer + "self_attn.v_proj");
    add(block + "attn_output", layer + "self_attn.o_proj");
    add(block + "ffn_gate", layer + "mlp.gate_proj");
    add(block + "ffn_up", layer + "mlp.up_proj");
    add(block + "ffn_down", layer + "mlp.down_proj");
    add(block + "attn_norm", layer + "input_layernorm");
    add(block + "ffn_norm", layer + "post_attention_layernorm");
  }
  const auto gguf = folder_.write("m.gguf", w.build());
  Adapter().write(folder_);
  const auto expected = run(), found = run(gguf);
  ASSERT_EQ(found.size(), expected.size());
  // The caches are float16 for a GGUF file.
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 2e-3) << i;
  EXPECT_NE(run(gguf), run(gguf, false));
}

// Whatever a byte of the header is changed to: a typed error, or a model that runs.
TEST_F(AdaptersTest, SurvivesDamagedFiles) {
  Adapter adapter;
  adapter.write(folder_);
  const auto whole = adapter.tensors.safetensors();
  uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof header);
  for (size_t at = 0; at < header + 8; ++at) {
    for (const char value : {'\0', '9', '"', '\xff'}) {
      auto bytes = whole;
      bytes[at] = value;
      folder_.write("adapter/adapters.safetensors", bytes);
      try {
        run();
      } catch (const Error& error) {
        EXPECT_EQ(error.what()[0], '[') << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace mlx_lm
