#include "mlx_lm/load/gguf_names.h"

#include <algorithm>
#include <utility>

namespace mlx_lm {
namespace {

constexpr const char* kSilu = R"({"hidden_act": "silu"})";
constexpr const char* kSparse = R"({
    "hidden_act": "silu", "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": []})";
constexpr const char* kGemma = R"({"hidden_act": "gelu"})";
constexpr const char* kGemma2 = R"({"hidden_activation": "gelu_pytorch_tanh"})";
constexpr const char* kGemma3 = R"({
    "hidden_activation": "gelu_pytorch_tanh", "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6})";

// A new architecture is a row here, provided that its tensors keep to the names below.
constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama", .model_type = "llama", .interleaved_rope = true, .extra_config = kSilu},
    {.name = "qwen2", .model_type = "qwen2", .extra_config = kSilu},
    {.name = "qwen3", .model_type = "qwen3", .extra_config = kSilu},
    {.name = "qwen3moe", .model_type = "qwen3_moe", .experts = true, .extra_config = kSparse},
    {.name = "gemma", .model_type = "gemma", .norm_plus_one = true, .extra_config = kGemma},
    {.name = "gemma2",
     .model_type = "gemma2",
     .norm_plus_one = true,
     .sandwich_norms = true,
     .narrow_scores_from = 46,
     .extra_config = kGemma2},
    {.name = "gemma3",
     .model_type = "gemma3_text",
     .norm_plus_one = true,
     .sandwich_norms = true,
     .narrow_scores_from = 62,
     .extra_config = kGemma3},
};

using Pair = std::pair<std::string_view, std::string_view>;

constexpr Pair kOutside[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};

constexpr Pair kInBlock[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

constexpr Pair kExperts[] = {{"ffn_gate_inp", "mlp.gate"},
                             {"ffn_gate_exps", "mlp.switch_mlp.gate_proj"},
                             {"ffn_up_exps", "mlp.switch_mlp.up_proj"},
                             {"ffn_down_exps", "mlp.switch_mlp.down_proj"}};

constexpr Pair kPlainNorms[] = {{"ffn_norm", "post_attention_layernorm"}};

constexpr Pair kSandwichNorms[] = {{"post_attention_norm", "post_attention_layernorm"},
                                   {"ffn_norm", "pre_feedforward_layernorm"},
                                   {"post_ffw_norm", "post_feedforward_layernorm"}};

template <size_t N>
std::string_view look_up(const Pair (&table)[N], std::string_view name) {
  auto it = std::ranges::find(table, name, &Pair::first);
  return it == std::end(table) ? std::string_view() : it->second;
}

}  // namespace

std::span<const GgufArchitecture> gguf_architectures() { return kArchitectures; }

const GgufArchitecture& gguf_architecture(const GgufFile& file) {
  auto name = file.find_string("general.architecture");
  if (!name) fail<WeightError>("[gguf] {}: general.architecture: expected a string, found nothing", file.where());
  auto it = std::ranges::find(kArchitectures, *name, &GgufArchitecture::name);
  if (it != std::end(kArchitectures)) return *it;
  std::string known;
  for (const auto& architecture : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  fail<UnsupportedModel>("[gguf] {}: general.architecture: expected one of {}, found {}", file.where(), known,
                         shown(*name));
}

std::string checkpoint_name(const GgufArchitecture& architecture, std::string_view name) {
  auto dot = name.rfind('.');
  if (dot == name.npos) return std::string(name);
  std::string_view stem = name.substr(0, dot), part = name.substr(dot);
  if (part != ".weight" && part != ".bias") return std::string(name);
  if (!stem.starts_with("blk.")) {
    auto found = look_up(kOutside, stem);
    return found.empty() ? std::string(name) : std::string(found).append(part);
  }
  auto end = stem.find('.', 4);
  if (end == stem.npos) return std::string(name);
  std::string_view number = stem.substr(4, end - 4), inner = stem.substr(end + 1);
  bool digits = !number.empty() && std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
  auto found = look_up(kInBlock, inner);
  if (found.empty()) found = architecture.sandwich_norms ? look_up(kSandwichNorms, inner) : look_up(kPlainNorms, inner);
  if (found.empty() && architecture.experts) found = look_up(kExperts, inner);
  if (!digits || found.empty()) return std::string(name);
  return std::string("model.layers.").append(number).append(".").append(found).append(part);
}

}  // namespace mlx_lm
