// Qwen 3 Next and Qwen 3.5: gated delta nets, and gated attention in every few layers; experts or none.
// Source: mlx_lm/models/qwen3_next.py, qwen3_5.py and qwen3_5_moe.py of mlx-lm 0.32. Keys follow Hugging Face's
// configurations; of picture models only the text part is read.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <algorithm>
#include <cmath>
#include <optional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/fused_experts.h"
#include "mlx_lm/nn/gated_delta_net.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

bool is_next(const ConfigReader& c) { return c.get<std::string>("model_type") == "qwen3_next"; }

// The text part of a configuration, with the values that mlx-lm takes where Qwen 3.5's say nothing.
ConfigReader text_of(const ConfigReader& c) {
  if (is_next(c)) return c;
  const auto text = c.has("text_config") ? c.sub("text_config") : c;
  auto all = nlohmann::json::object({{"hidden_size", 4096},
                                     {"intermediate_size", 14336},
                                     {"num_hidden_layers", 32},
                                     {"num_attention_heads", 32},
                                     {"rms_norm_eps", 1e-6},
                                     {"vocab_size", 151936},
                                     {"num_key_value_heads", 8},
                                     {"max_position_embeddings", 131072},
                                     {"linear_num_value_heads", 64},
                                     {"linear_num_key_heads", 16},
                                     {"linear_key_head_dim", 192},
                                     {"linear_value_head_dim", 128},
                                     {"linear_conv_kernel_dim", 4}});
  all.update(text.json());
  return {std::move(all), text.where()};
}

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c, bool next)
      : DecoderConfig(c, {.rope_theta = next ? std::nullopt : std::optional(100000.f), .tie_word_embeddings = false}),
        is_next(next),
        attention_bias(c.get<bool>("attention_bias", false)),
        interval(c.get_size_or("full_attention_interval", 4)),
        delta_net(c, hidden_size, rms_norm_eps, /* grouped */ next) {
    const auto& rotary = next || !rope_scaling ? c : *rope_scaling;
    const float share =
        next ? rotary.get<float>("partial_rotary_factor") : rotary.get<float>("partial_rotary_factor", 0.25f);
    if (!(share > 0 && share <= 1)) {
      fail<ConfigError>("[config] {}: partial_rotary_factor: expected more than 0 and at most 1, found {}", c.where(),
                        share);
    }
    rope.dims = int(double(head_dim) * share + 1e-3);
    read_experts(c);
  }

  void read_experts(const ConfigReader& c) {
    experts.experts = is_next ? c.get_size("num_experts", 0) : c.get_size_or("num_experts", 0, 0);
    if (experts.experts == 0) return;
    experts.hidden_size = hidden_size;
    experts.intermediate_size = c.get_size("moe_intermediate_size", 1, ConfigReader::kMaxSize / 2);
    experts.active = routing.k = c.get_size("num_experts_per_tok");
    shared_size = c.get_size("shared_expert_intermediate_size");
    routing.normalize = c.get<bool>("norm_topk_prob", !is_next);
    nn::check(routing, experts.experts, c.where());
    if (!is_next) return;
    sparse_step = c.get_size("decoder_sparse_step");
    dense_layers = c.get<std::vector<int>>("mlp_only_layers");
  }

  bool attends(int layer) const { return (layer + 1) % interval == 0; }
  bool sparse(int layer) const {
    return experts.experts > 0 && (layer + 1) % sparse_step == 0 &&
           std::find(dense_layers.begin(), dense_layers.end(), layer) == dense_layers.end();
  }

  bool is_next, attention_bias;
  int interval;  // every so many layers one attends
  nn::GatedDeltaNet::Options delta_net;
  nn::ExpertShape experts{};
  ops::Routing routing;
  int shared_size = 0;  // of the expert that every token goes to
  int sparse_step = 1;
  std::vector<int> dense_layers;
  float norm_offset = 0;  // added to the weights of norms that are stored less 1
};

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        head_dim_(c.head_dim),
        q_proj_(w / "q_proj", c.hidden_size, 2 * heads_ * c.head_dim, c.attention_bias),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size, c.attention_bias),
        q_norm_(w / "q_norm", c.head_dim, c.rms_norm_eps, c.norm_offset),
        k_norm_(w / "k_norm", c.head_dim, c.rms_norm_eps, c.norm_offset),
        rope_(c.rope, c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [both, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    const int all = heads_ * head_dim_;  // both: of each head its query, then its gate
    const auto q = q_norm_(nn::split_heads(ops::take_columns({both, 0, all, head_dim_, 2 * head_dim_}), heads_));
    k = k_norm_(nn::split_heads(k, kv_heads_));
    v = nn::split_heads(v, kv_heads_);
    const auto y = nn::merge_heads(nn::attend(q, k, v, rope_, cache, 1.f / std::sqrt(float(head_dim_))));
    return o_proj_(ops::sigmoid_gate(y, {both, head_dim_, all, head_dim_, 2 * head_dim_}));
  }

 private:
  int heads_, kv_heads_, head_dim_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::RMSNorm q_norm_, k_norm_;
  nn::Rope rope_;
};

nn::FeedForward feed_forward(const Config& c, const nn::Weights& w, int layer) {
  if (!c.sparse(layer)) return nn::MLP(w, c.hidden_size, c.intermediate_size);
  nn::rename_experts(w, c.experts.experts);
  nn::split_experts(w, c.experts, "experts.gate_up_proj", "experts.down_proj");
  return nn::MoE(nn::Router(w / "gate", c.hidden_size, c.experts.experts, c.routing),
                 nn::SwitchGLU(w / "switch_mlp", c.experts), nn::MLP(w / "shared_expert", c.hidden_size, c.shared_size),
                 nn::Linear(w / "shared_expert_gate", c.hidden_size, 1));
}

class DecoderLayer {
 public:
  DecoderLayer(const Config& c, const nn::Weights& w, int layer)
      : mlp_(feed_forward(c, w / "mlp", layer)),
        input_layernorm_(w / "input_layernorm", c.hidden_size, c.rms_norm_eps, c.norm_offset),
        post_attention_layernorm_(w / "post_attention_layernorm", c.hidden_size, c.rms_norm_eps, c.norm_offset) {
    if (c.attends(layer)) {
      self_attn_.emplace(c, w / "self_attn");
    } else {
      linear_attn_.emplace(w / "linear_attn", c.delta_net);
    }
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::Cache& cache) const {
    const auto in = input_layernorm_(x);
    const auto h = ops::residual_add(x, self_attn_ ? (*self_attn_)(in, kv(cache)) : (*linear_attn_)(in, states(cache)));
    return ops::residual_add(h, mlp_(post_attention_layernorm_(h)));
  }

 private:
  std::optional<Attention> self_attn_;
  std::optional<nn::GatedDeltaNet> linear_attn_;
  nn::FeedForward mlp_;
  nn::RMSNorm input_layernorm_, post_attention_layernorm_;
};

class Qwen3NextModel {
 public:
  Qwen3NextModel(const Config& c, const nn::Weights& w)
      : embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps, c.norm_offset) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, w / "layers" / i, i);
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embed_tokens_(tokens);
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, *caches[i]);
    return norm_(h);
  }

  const nn::Embedding& embed_tokens() const { return embed_tokens_; }

 private:
  nn::Embedding embed_tokens_;
  std::vector<DecoderLayer> layers_;
  nn::RMSNorm norm_;
};

// Brings a checkpoint into the form of mlx-lm's and finds whether its norms are stored less 1.
Config prepared(Config c, const nn::Weights& w) {
  for (const char* part : {"mtp", "language_model.mtp", "model.visual", "vision_tower"}) (w / part).ignore("");
  if (!c.is_next) {
    w.rename("model.language_model", "language_model.model");
    w.rename("model", "language_model.model");
    w.rename("lm_head", "language_model.lm_head");
  }
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    const auto layer = (c.is_next ? w / "model" : w / "language_model.model") / "layers" / i;
    const auto taps = (layer / "linear_attn.conv1d").shape_of("weight");
    if (c.is_next ? layer.has("mlp.experts.0.up_proj.weight") : taps && taps->back() != 1) c.norm_offset = 1;
  }
  return c;
}

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(prepared(Config(text_of(reader), is_next(reader)), w)),
        model_(config_, config_.is_next ? w / "model" : w / "language_model.model"),
        lm_head_(config_.is_next ? w : w / "language_model", config_.tie_word_embeddings, config_.hidden_size,
                 config_.vocab_size) {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(model_(tokens, caches), model_.embed_tokens());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  // mlx-lm ignores max_kv_size for this architecture; here it bounds the layers that attend.
  cache::KVCaches make_cache(int max_kv_size) const override {
    auto caches = LanguageModel::make_cache(max_kv_size);
    for (int i = 0; i < num_layers(); ++i) {
      if (!config_.attends(i)) caches[i] = std::make_unique<cache::StateCache>(2);
    }
    return caches;
  }

 private:
  Config config_;
  Qwen3NextModel model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(qwen3_next, Model, "qwen3_next", "qwen3_5", "qwen3_5_moe");

}  // namespace mlx_lm::models
