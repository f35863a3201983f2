// Llama 2 and 3, Mistral: pre-norm decoder, grouped-query attention, RoPE, SwiGLU; some layers may slide.
// Source: mlx_lm/models/llama.py of mlx-lm 0.32. Keys follow Hugging Face's LlamaConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <cmath>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/transformer.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)) {
    read_layer_types(c);
  }

  bool attention_bias;
  bool mlp_bias;
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
    auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    q = nn::split_heads(q, heads_);     // (B, L, H, D)
    k = nn::split_heads(k, kv_heads_);  // (B, L, K, D)
    v = nn::split_heads(v, kv_heads_);  // (B, L, K, D)
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, rope_, cache, scale_, window_)));
  }

 private:
  int heads_, kv_heads_, window_;
  float scale_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::Rope rope_;
};

using TransformerBlock = nn::TransformerBlock<Attention>;

class LlamaModel {
 public:
  LlamaModel(const Config& c, const nn::Weights& w)
      : embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps) {
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      const auto layer = w / "layers" / i;
      layers_.emplace_back(layer, c.hidden_size, c.rms_norm_eps, Attention(c, layer / "self_attn", c.window(i)),
                           nn::MLP(layer / "mlp", c.hidden_size, c.intermediate_size, c.mlp_bias));
    }
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = embed_tokens_(tokens);
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, kv(*caches[i]));
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
      : LanguageModel(w),
        config_(reader),
        model_(config_, w / "model"),
        lm_head_(w, config_.tie_word_embeddings, config_.hidden_size, config_.vocab_size) {
    w.ignore("rotary_emb.inv_freq");  // older checkpoints store what the configuration says anyway
  }

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(model_(tokens, caches), model_.embed_tokens());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  // mlx-lm ignores max_kv_size for this architecture; here it bounds the layers that do not slide anyway.
  cache::KVCaches make_cache(int max_kv_size) const override {
    return LanguageModel::make_cache(max_kv_size, config_.windows);
  }

 private:
  Config config_;
  LlamaModel model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(llama, Model, "llama", "mistral", "iquestcoder", "xverse");

}  // namespace mlx_lm::models
