// Qwen 3 MoE: Qwen 3 with experts in place of most of its MLPs.
// Source: mlx_lm/models/qwen3_moe.py of mlx-lm 0.32, which does not look at rope_scaling, as this does. Keys follow
// Hugging Face's Qwen3MoeConfig.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim, V vocabulary.

#include <algorithm>
#include <cmath>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = c.get_size("moe_intermediate_size"),
                .experts = c.get_size("num_experts", 0),
                .active = c.get_size("num_experts_per_tok")},
        routing{.k = experts.active, .normalize = c.get<bool>("norm_topk_prob")},
        decoder_sparse_step(c.get_size("decoder_sparse_step")),
        mlp_only_layers(c.get<std::vector<int>>("mlp_only_layers")) {
    if (experts.experts > 0) nn::check(routing, experts.experts, c.where());
  }

  bool sparse(int layer) const {
    const auto& dense = mlp_only_layers;
    return experts.experts > 0 && (layer + 1) % decoder_sparse_step == 0 &&
           std::find(dense.begin(), dense.end(), layer) == dense.end();
  }

  nn::ExpertShape experts;
  ops::Routing routing;
  int decoder_sparse_step;
  std::vector<int> mlp_only_layers;
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
        q_norm_(w / "q_norm", c.head_dim, c.rms_norm_eps),
        k_norm_(w / "k_norm", c.head_dim, c.rms_norm_eps),
        rope_(c.rope, c.rope_scaling) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    q = q_norm_(nn::split_heads(q, heads_));     // (B, L, H, D)
    k = k_norm_(nn::split_heads(k, kv_heads_));  // (B, L, K, D)
    v = nn::split_heads(v, kv_heads_);           // (B, L, K, D)
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, rope_, cache, scale_)));
  }

 private:
  int heads_, kv_heads_;
  float scale_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::RMSNorm q_norm_, k_norm_;
  nn::Rope rope_;
};

nn::FeedForward feed_forward(const Config& c, const nn::Weights& w, int layer) {
  if (!c.sparse(layer)) return nn::MLP(w, c.hidden_size, c.intermediate_size);
  nn::rename_experts(w, c.experts.experts);
  return nn::MoE(nn::Router(w / "gate", c.hidden_size, c.experts.experts, c.routing),
                 nn::SwitchGLU(w / "switch_mlp", c.experts));
}

using TransformerBlock = nn::TransformerBlock<Attention, nn::FeedForward>;

class Qwen3MoeModel {
 public:
  Qwen3MoeModel(const Config& c, const nn::Weights& w)
      : embed_tokens_(w / "embed_tokens", c.vocab_size, c.hidden_size),
        norm_(w / "norm", c.hidden_size, c.rms_norm_eps) {
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      const auto layer = w / "layers" / i;
      layers_.emplace_back(layer, c.hidden_size, c.rms_norm_eps, Attention(c, layer / "self_attn"),
                           feed_forward(c, layer / "mlp", i));
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
        lm_head_(w, config_.tie_word_embeddings, config_.hidden_size, config_.vocab_size) {}

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return lm_head_(model_(tokens, caches), model_.embed_tokens());
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

 private:
  Config config_;
  Qwen3MoeModel model_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(qwen3_moe, Model, "qwen3_moe");

}  // namespace mlx_lm::models
