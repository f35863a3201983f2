// Llama 2 and 3, Mistral: pre-norm decoder, grouped-query attention, RoPE, SwiGLU; some layers may slide.
// Source: mlx_lm/models/llama.py of mlx-lm 0.32. Keys follow Hugging Face's LlamaConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <algorithm>
#include <cmath>
#include <optional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/layers.h"

namespace mlx_lm::models {
namespace {

struct Config {
  explicit Config(const ConfigReader& c)
      : hidden_size(c.get_size("hidden_size")),
        num_hidden_layers(c.get_size("num_hidden_layers", 1, 4096)),
        intermediate_size(c.get_size("intermediate_size")),
        num_attention_heads(c.get_size("num_attention_heads", 1, 65536)),
        num_key_value_heads(c.get_size_or("num_key_value_heads", num_attention_heads, 1, num_attention_heads)),
        head_dim(c.get_size_or("head_dim", hidden_size / num_attention_heads, 1, 65536)),
        vocab_size(c.get_size("vocab_size")),
        rms_norm_eps(c.get<float>("rms_norm_eps")),
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)),
        tie_word_embeddings(c.get<bool>("tie_word_embeddings", true)),
        rope{.dims = head_dim,
             .base = c.get<float>("rope_theta", 10000.f),
             .traditional = c.get<bool>("rope_traditional", false),
             .max_position_embeddings = c.get_size_or("max_position_embeddings", 0, 0)},
        layer_types(c.get<std::vector<std::string>>("layer_types", {})) {
    if (num_attention_heads % num_key_value_heads != 0) {
      fail<ConfigError>("[config] {}: num_key_value_heads: expected a divisor of {} heads, found {}", c.where(),
                        num_attention_heads, num_key_value_heads);
    }
    if (c.has("rope_scaling")) rope_scaling = c.sub("rope_scaling");
    if (layer_types.empty()) layer_types.assign(num_hidden_layers, "full_attention");
    if (int(layer_types.size()) != num_hidden_layers) {
      fail<ConfigError>("[config] {}: layer_types: expected {} entries, found {}", c.where(), num_hidden_layers,
                        layer_types.size());
    }
    if (std::find(layer_types.begin(), layer_types.end(), "sliding_attention") != layer_types.end()) {
      sliding_window = c.get_size("sliding_window");
    }
  }

  int hidden_size;
  int num_hidden_layers;
  int intermediate_size;
  int num_attention_heads;
  int num_key_value_heads;
  int head_dim;
  int vocab_size;
  float rms_norm_eps;
  bool attention_bias;
  bool mlp_bias;
  bool tie_word_embeddings;
  nn::Rope::Options rope;
  std::optional<ConfigReader> rope_scaling;
  std::vector<std::string> layer_types;
  int sliding_window = 0;
};

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w, int window)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        window_(window),
        scale_(1.f / std::sqrt(float(c.head_dim))),
        q_proj_(w / "q_proj", c.hidden_size, heads_ * c.head_dim, c.attention_bias),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size, c.attention_bias),
        rope_(c.rope, c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto q = nn::split_heads(q_proj_(x), heads_);     // (B, L, H, D)
    auto k = nn::split_heads(k_proj_(x), kv_heads_);  // (B, L, K, D)
    auto v = nn::split_heads(v_proj_(x), kv_heads_);  // (B, L, K, D)
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, rope_, cache, scale_, window_)));
  }

 private:
  int heads_, kv_heads_, window_;
  float scale_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::Rope rope_;
};

class MLP {
 public:
  MLP(const Config& c, const nn::Weights& w)
      : gate_proj_(w / "gate_proj", c.hidden_size, c.intermediate_size, c.mlp_bias),
        up_proj_(w / "up_proj", c.hidden_size, c.intermediate_size, c.mlp_bias),
        down_proj_(w / "down_proj", c.intermediate_size, c.hidden_size, c.mlp_bias) {}

  mx::array operator()(const mx::array& x) const { return down_proj_(nn::swiglu(gate_proj_(x), up_proj_(x))); }

 private:
  nn::Linear gate_proj_, up_proj_, down_proj_;
};

class TransformerBlock {
 public:
  TransformerBlock(const Config& c, const nn::Weights& w, int window)
      : self_attn_(c, w / "self_attn", window),
        mlp_(c, w / "mlp"),
        input_layernorm_(w / "input_layernorm", c.hidden_size, c.rms_norm_eps),
        post_attention_layernorm_(w / "post_attention_layernorm", c.hidden_size, c.rms_norm_eps) {}

  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto h = x + self_attn_(input_layernorm_(x), cache);
    return h + mlp_(post_attention_layernorm_(h));
  }

 private:
  Attention self_attn_;
  MLP mlp_;
  nn::RMSNorm input_layernorm_, post_attention_layernorm_;
};

class LlamaModel {
 public:
  LlamaModel(const Config& c, const nn::Weights& w)
      : embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps) {
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      const bool slides = c.layer_types[i] == "sliding_attention";
      layers_.emplace_back(c, w / "layers" / i, slides ? c.sliding_window : 0);
    }
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
  std::vector<TransformerBlock> layers_;
  nn::RMSNorm norm_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w), config_(reader), model_(config_, w / "model") {
    w.ignore("rotary_emb.inv_freq");  // older checkpoints store what the configuration says anyway
    if (config_.tie_word_embeddings) {
      w.ignore("lm_head.weight");
    } else {
      lm_head_.emplace(w / "lm_head", config_.hidden_size, config_.vocab_size);
    }
  }

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    auto h = model_(tokens, caches);
    return lm_head_ ? (*lm_head_)(h) : model_.embed_tokens().as_linear(h);
  }

  int num_layers() const override { return config_.num_hidden_layers; }

  // mlx-lm ignores max_kv_size for this architecture; here it bounds the layers that do not slide anyway.
  cache::KVCaches make_cache(int max_kv_size) const override {
    auto caches = LanguageModel::make_cache(max_kv_size);
    for (size_t i = 0; i < caches.size(); ++i) {
      if (config_.layer_types[i] == "sliding_attention") {
        caches[i] = std::make_unique<cache::RotatingKVCache>(dtype(), config_.sliding_window);
      }
    }
    return caches;
  }

 private:
  Config config_;
  LlamaModel model_;
  std::optional<nn::Linear> lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(llama, Model, "llama", "mistral", "iquestcoder", "xverse");

}  // namespace mlx_lm::models
