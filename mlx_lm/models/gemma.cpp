// Gemma: Llama with a GELU gate, embeddings scaled by the root of their width, and norms stored less 1.
// Source: mlx_lm/models/gemma.py of mlx-lm 0.32. Keys follow Hugging Face's GemmaConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include "mlx_lm/nn/gemma.h"

#include <cmath>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/transformer.h"
#include "mlx_lm/ops/elementwise.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}) {}
};

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        scale_(1.f / std::sqrt(float(c.head_dim))),
        q_proj_(w / "q_proj", c.hidden_size, heads_ * c.head_dim),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size),
        rope_(c.rope, c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    q = nn::split_heads(q, heads_);     // (B, L, H, D)
    k = nn::split_heads(k, kv_heads_);  // (B, L, K, D)
    v = nn::split_heads(v, kv_heads_);  // (B, L, K, D)
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, rope_, cache, scale_)));
  }

 private:
  int heads_, kv_heads_;
  float scale_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::Rope rope_;
};

using TransformerBlock = nn::TransformerBlock<Attention, nn::GegluMLP>;

class GemmaModel {
 public:
  GemmaModel(const Config& c, const nn::Weights& w)
      : embed_scale_(std::sqrt(float(c.hidden_size))),
        embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps, 1.f) {
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      const auto layer = w / "layers" / i;
      const auto norm = [&](const char* name) { return nn::RMSNorm(layer / name, c.hidden_size, c.rms_norm_eps, 1.f); };
      layers_.emplace_back(norm("input_layernorm"), norm("post_attention_layernorm"), Attention(c, layer / "self_attn"),
                           nn::GegluMLP(layer / "mlp", c.hidden_size, c.intermediate_size, ops::Gelu::erf));
    }
  }

  // tokens (B, L) -> (B, L, E)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const {
    auto h = ops::scale(embed_tokens_(tokens), embed_scale_);
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, kv(*caches[i]));
    return norm_(h);
  }

  const nn::Embedding& embed_tokens() const { return embed_tokens_; }

 private:
  float embed_scale_;
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
        lm_head_(w, /* tied */ true, config_.hidden_size, config_.vocab_size) {
    w.ignore("rotary_emb.inv_freq");  // older checkpoints store what the configuration says anyway
  }

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(model_(tokens, caches), model_.embed_tokens());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

 private:
  Config config_;
  GemmaModel model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(gemma, Model, "gemma");

}  // namespace mlx_lm::models
