// Gemma 3, text: Gemma 2 with norms over each head of the queries and keys in place of the scores' soft cap, and five
// sliding layers, which have a rotary base of their own, before each that sees all tokens.
// Source: mlx_lm/models/gemma3_text.py of mlx-lm 0.32. Keys follow Hugging Face's Gemma3TextConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <cmath>

#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/gemma.h"
#include "mlx_lm/nn/transformer.h"
#include "mlx_lm/ops/elementwise.h"

namespace mlx_lm::models {
namespace {

// Configurations of several sizes leave out what the smallest has.
ConfigReader complete(const ConfigReader& c) {
  return c.with_defaults({{"hidden_size", 1152},
                          {"num_hidden_layers", 26},
                          {"intermediate_size", 6912},
                          {"num_attention_heads", 4},
                          {"head_dim", 256},
                          {"rms_norm_eps", 1e-6},
                          {"vocab_size", 262144},
                          {"num_key_value_heads", 1},
                          {"max_position_embeddings", 32768}});
}

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(complete(c), {.rope_theta = 1000000.f, .tie_word_embeddings = true}),
        query_pre_attn_scalar(c.get_positive("query_pre_attn_scalar", 256.f)),
        sliding_window(c.get_size_or("sliding_window", 512)),
        sliding_window_pattern(c.get_size_or("sliding_window_pattern", 6)),
        local_rope(rope) {
    local_rope.base = c.get<float>("rope_local_base_freq", 10000.f);
    // Newer configurations have one object for each kind of layer.
    if (!c.has("rope_parameters") || !rope_scaling->has("full_attention")) return;
    const auto parameters = *rope_scaling;
    rope_scaling = parameters.sub("full_attention");
    rope.base = rope_scaling->get<float>("rope_theta", rope.base);
    if (!parameters.has("sliding_attention")) return;
    local_rope.base = parameters.sub("sliding_attention").get<float>("rope_theta", local_rope.base);
  }

  bool slides(int layer) const { return (layer + 1) % sliding_window_pattern != 0; }

  float query_pre_attn_scalar;
  int sliding_window;
  int sliding_window_pattern;  // the last of so many layers sees all tokens
  nn::Rope::Options local_rope;
};

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w, bool slides)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        window_(slides ? c.sliding_window : 0),
        scale_(1.f / std::sqrt(c.query_pre_attn_scalar)),
        q_proj_(w / "q_proj", c.hidden_size, heads_ * c.head_dim),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size),
        q_norm_(w / "q_norm", c.head_dim, c.rms_norm_eps, 1.f),
        k_norm_(w / "k_norm", c.head_dim, c.rms_norm_eps, 1.f),
        rope_(slides ? c.local_rope : c.rope, slides ? std::nullopt : c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    q = q_norm_(nn::split_heads(q, heads_));     // (B, L, H, D)
    k = k_norm_(nn::split_heads(k, kv_heads_));  // (B, L, K, D)
    v = nn::split_heads(v, kv_heads_);           // (B, L, K, D)
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, rope_, cache, scale_, window_)));
  }

 private:
  int heads_, kv_heads_, window_;
  float scale_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::RMSNorm q_norm_, k_norm_;
  nn::Rope rope_;
};

using TransformerBlock = nn::GemmaBlock<Attention>;

class Gemma3Model {
 public:
  Gemma3Model(const Config& c, const nn::Weights& w)
      : embed_scale_(mx::array(std::sqrt(float(c.hidden_size)), mx::bfloat16).item<mx::bfloat16_t>()),
        embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps, 1.f) {
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      const auto layer = w / "layers" / i;
      layers_.emplace_back(layer, c.hidden_size, c.rms_norm_eps, Attention(c, layer / "self_attn", c.slides(i)),
                           nn::GegluMLP(layer / "mlp", c.hidden_size, c.intermediate_size));
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
  float embed_scale_;  // rounded to bfloat16, as it was in training
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
        lm_head_(w, /* tied */ !w.has("lm_head.weight"), config_.hidden_size, config_.vocab_size) {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(model_(tokens, caches), model_.embed_tokens());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  // mlx-lm ignores max_kv_size for this architecture; here it bounds the layers that do not slide anyway.
  cache::KVCaches make_cache(int max_kv_size) const override {
    auto caches = LanguageModel::make_cache(max_kv_size);
    for (int i = 0; i < num_layers(); ++i) {
      if (config_.slides(i)) caches[i] = std::make_unique<cache::RotatingKVCache>(dtype(), config_.sliding_window);
    }
    return caches;
  }

 private:
  Config config_;
  Gemma3Model model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(gemma3_text, Model, "gemma3_text");

}  // namespace mlx_lm::models
