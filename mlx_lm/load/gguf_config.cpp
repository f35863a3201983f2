#include "mlx_lm/load/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "mlx_lm/load/gguf_blocks.h"
#include "mlx_lm/load/gguf_names.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

// Which metadata becomes which field, for every architecture; keys follow its name ("llama.block_count").
struct Field {
  std::string_view key, field;
  enum { whole, real } kind;
  bool required;
};

constexpr Field kExpertFields[] = {
    {"expert_count", "num_experts", Field::whole, true},
    {"expert_used_count", "num_experts_per_tok", Field::whole, true},
    {"expert_feed_forward_length", "moe_intermediate_size", Field::whole, true},
};

constexpr Field kFields[] = {
    {"embedding_length", "hidden_size", Field::whole, true},
    {"block_count", "num_hidden_layers", Field::whole, true},
    {"feed_forward_length", "intermediate_size", Field::whole, true},
    {"attention.head_count", "num_attention_heads", Field::whole, true},
    {"attention.head_count_kv", "num_key_value_heads", Field::whole, false},
    {"attention.key_length", "head_dim", Field::whole, false},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", Field::real, true},
    {"attention.sliding_window", "sliding_window", Field::whole, false},
    {"context_length", "max_position_embeddings", Field::whole, false},
    {"rope.freq_base", "rope_theta", Field::real, false},
    {"rope.freq_base_swa", "rope_local_base_freq", Field::real, false},
    {"attn_logit_softcapping", "attn_logit_softcapping", Field::real, false},
    {"final_logit_softcapping", "final_logit_softcapping", Field::real, false},
};

class Converter {
 public:
  explicit Converter(const GgufFile& file) : file_(file), architecture_(gguf_architecture(file)) {}

  json convert() {
    if (!architecture_.experts && file_.find_int(key("expert_count")).value_or(0) > 0) {
      fail<UnsupportedModel>("[gguf] {}: {}: expected no experts, found some", file_.where(), key("expert_count"));
    }
    json config = json::parse(architecture_.extra_config);
    if (auto pooling = file_.find_int(key("pooling_type"))) config["pooling_type"] = *pooling;
    config["model_type"] = architecture_.model_type;
    for (const auto& field : kFields) add(config, field);
    if (architecture_.experts) {
      for (const auto& field : kExpertFields) add(config, field);
    }
    config.emplace("num_key_value_heads", config["num_attention_heads"]);
    add_score_scale(config);
    config["vocab_size"] = vocab_size();
    config["tie_word_embeddings"] = file_.find_tensor("output.weight") == nullptr;
    config["attention_bias"] = file_.find_tensor("blk.0.attn_q.bias") != nullptr;
    config["mlp_bias"] = file_.find_tensor("blk.0.ffn_gate.bias") != nullptr;
    if (!config.contains("rope_theta")) config["rope_theta"] = 10000.0;
    check_rotated_part(config);
    if (auto scaling = rope_scaling(); !scaling.is_null()) config["rope_scaling"] = std::move(scaling);
    add_token_ids(config);
    add_types(config);
    return config;
  }

 private:
  std::string key(std::string_view name) const { return std::string(architecture_.name).append(".").append(name); }

  void add(json& config, const Field& field) const {
    auto name = key(field.key);
    if (!file_.has(name)) {
      if (field.required) fail<WeightError>("[gguf] {}: {}: expected a number, found nothing", file_.where(), name);
    } else if (field.kind == Field::real) {
      config[field.field] = *file_.find_float(name);
    } else {
      // Some files give a number for each layer; only equal ones are a number of the model.
      auto values = *file_.find_ints(name);
      if (values.empty() || std::ranges::adjacent_find(values, std::ranges::not_equal_to()) != values.end()) {
        fail<UnsupportedModel>("[gguf] {}: {}: expected one number for all layers, found several", file_.where(), name);
      }
      config[field.field] = values[0];
    }
  }

  void add_score_scale(json& config) const {
    if (architecture_.narrow_scores_from == 0 || !config.contains("head_dim")) return;
    const auto hidden = config["hidden_size"].get<double>(), heads = config["num_attention_heads"].get<double>();
    const bool narrow = config["num_hidden_layers"].get<int64_t>() >= architecture_.narrow_scores_from && heads > 0;
    config["query_pre_attn_scalar"] = narrow ? hidden / heads : config["head_dim"].get<double>();
  }

  // The embedding has as many rows as the model has tokens, whatever the metadata says.
  int64_t vocab_size() const {
    const auto* embedding = file_.find_tensor("token_embd.weight");
    if (!embedding || embedding->shape.size() != 2) {
      fail<WeightError>("[gguf] {}: token_embd.weight: expected a matrix, found {}", file_.where(),
                        embedding ? "another shape" : "nothing");
    }
    return embedding->shape[0];
  }

  void check_rotated_part(const json& config) const {
    auto rotated = file_.find_int(key("rope.dimension_count"));
    if (!rotated) return;
    auto hidden = config["hidden_size"].get<int64_t>(), heads = config["num_attention_heads"].get<int64_t>();
    auto head_dim = config.value("head_dim", heads > 0 ? hidden / heads : 0);
    if (*rotated != head_dim) {
      fail<UnsupportedModel>("[gguf] {}: {}: expected the head size {}, found {}", file_.where(),
                             key("rope.dimension_count"), head_dim, *rotated);
    }
  }

  json rope_scaling() const {
    auto type = file_.find_string(key("rope.scaling.type")).value_or("none");
    json scaling;
    if (type == "linear" || type == "yarn") {
      auto factor = file_.find_float(key("rope.scaling.factor"));
      if (!factor) {
        fail<WeightError>("[gguf] {}: {}: expected a number, found nothing", file_.where(), key("rope.scaling.factor"));
      }
      scaling = {{"rope_type", type}, {"factor", *factor}};
      if (auto length = file_.find_int(key("rope.scaling.original_context_length"))) {
        scaling["original_max_position_embeddings"] = *length;
      }
      if (auto fast = file_.find_float(key("rope.scaling.yarn_beta_fast"))) scaling["beta_fast"] = *fast;
      if (auto slow = file_.find_float(key("rope.scaling.yarn_beta_slow"))) scaling["beta_slow"] = *slow;
    } else if (type != "none") {
      fail<UnsupportedModel>("[gguf] {}: {}: expected none, linear or yarn, found {}", file_.where(),
                             key("rope.scaling.type"), shown(type));
    } else if (auto factor = file_.find_float(key("rope.scale_linear"))) {  // how files of 2023 said it
      scaling = {{"rope_type", "linear"}, {"factor", *factor}};
    }
    const auto* factors = file_.find_tensor(kGgufRopeFactors);
    if (!factors) return scaling;
    if (!scaling.is_null()) {
      fail<UnsupportedModel>("[gguf] {}: {}: expected no rotary scaling beside it, found {}", file_.where(),
                             kGgufRopeFactors, shown(type));
    }
    if (factors->type->type != GgufType::f32 || factors->shape.size() != 1) {
      fail<WeightError>("[gguf] {}: {}: expected a list of F32, found {}", file_.where(), kGgufRopeFactors,
                        factors->type->name);
    }
    std::vector<float> values(factors->bytes / sizeof(float));
    std::memcpy(values.data(), file_.mapping()->bytes().data() + factors->offset, factors->bytes);
    return {{"rope_type", "factors"}, {"factors", values}};
  }

  void add_token_ids(json& config) const {
    if (auto bos = file_.find_int("tokenizer.ggml.bos_token_id")) config["bos_token_id"] = *bos;
    auto eos = file_.find_int("tokenizer.ggml.eos_token_id"), turn = file_.find_int("tokenizer.ggml.eot_token_id");
    // A model that ends its turn with a token of its own stops at either.
    if (eos && turn && *eos != *turn) {
      config["eos_token_id"] = {*eos, *turn};
    } else if (eos || turn) {
      config["eos_token_id"] = eos ? *eos : *turn;
    }
  }

  // The most frequent number of bits becomes the common one; other weights are listed by path.
  void add_types(json& config) const {
    std::map<std::string, int> bits;
    std::map<int, int> uses;
    bool has_bf16 = false, all_f32 = true;
    for (const auto& tensor : file_.tensors()) {
      has_bf16 |= tensor.type->type == GgufType::bf16;
      all_f32 &= tensor.type->type == GgufType::f32;
      auto affine = gguf_affine(tensor.type->type);
      if (!affine || !tensor.name.ends_with(".weight")) continue;
      auto path = checkpoint_name(architecture_, tensor.name);
      bits.emplace(path.substr(0, path.size() - std::strlen(".weight")), affine->bits);
      ++uses[affine->bits];
    }
    config["torch_dtype"] = has_bf16 ? "bfloat16" : all_f32 ? "float32" : "float16";
    if (bits.empty()) return;
    int common = std::ranges::max_element(uses, {}, [](const auto& use) { return use.second; })->first;
    json quantization = {{"group_size", kGgufGroup}, {"bits", common}, {"mode", "affine"}};
    for (const auto& [path, n] : bits) {
      if (n != common) quantization[path] = {{"group_size", kGgufGroup}, {"bits", n}};
    }
    config["quantization"] = std::move(quantization);
  }

  const GgufFile& file_;
  const GgufArchitecture& architecture_;
};

}  // namespace

json gguf_config(const GgufFile& file) { return Converter(file).convert(); }

}  // namespace mlx_lm
