// DeepSeek V3.2 and GLM 5: DeepSeek V3 where every query attends the tokens that an indexer chooses for it.
// Source: mlx_lm/models/deepseek_v32.py and glm_moe_dsa.py of mlx-lm 0.32. Keys follow Hugging Face's
// DeepseekV32Config.

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/deepseek_moe.h"
#include "mlx_lm/nn/sparse_mla.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = false}),
        attention(c, *this),
        indexer(c, *this, attention, c.get<std::string>("model_type", "") == "glm_moe_dsa"),
        experts(c, *this) {
    const auto method = c.get<std::string>("topk_method", "noaux_tc");
    if (method != "noaux_tc") {
      fail<UnsupportedModel>("[config] {}: topk_method: expected noaux_tc, found {}", c.where(), method);
    }
  }

  nn::MLAConfig attention;
  nn::IndexerConfig indexer;
  nn::DeepseekMoEConfig experts;
};

class Block {
 public:
  Block(const Config& c, const nn::Weights& w, int layer)
      : self_attn_(w / "self_attn", c.attention, c.indexer),
        mlp_(nn::deepseek_feed_forward(w / "mlp", c.experts, layer)),
        input_layernorm_(c.norm(w / "input_layernorm")),
        post_attention_layernorm_(c.norm(w / "post_attention_layernorm")) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::CacheList& cache) const {
    const auto h = ops::residual_add(x, self_attn_(input_layernorm_(x), cache));
    return ops::residual_add(h, mlp_(post_attention_layernorm_(h)));
  }

 private:
  nn::SparseMLA self_attn_;
  nn::FeedForward mlp_;
  nn::RMSNorm input_layernorm_, post_attention_layernorm_;
};

class Model final : public LanguageModel {
 public:
  Model(const ConfigReader& reader, const nn::Weights& w)
      : LanguageModel(w),
        config_(reader),
        embed_tokens_(w / "model" / "embed_tokens", config_.vocab_size, config_.hidden_size),
        norm_(config_.norm(w / "model" / "norm")),
        lm_head_(w, config_.tie_word_embeddings, config_.hidden_size, config_.vocab_size) {
    for (int i = 0; i < num_layers(); ++i) layers_.emplace_back(config_, w / "model" / "layers" / i, i);
    nn::ignore_further_layers(w / "model", num_layers());
    w.ignore("rotary_emb.inv_freq");
  }

  // tokens (B, L) -> logits (B, L, V)
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    auto h = embed_tokens_(tokens);
    for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, cache::list(*caches[i]));
    return lm_head_(norm_(h), embed_tokens_);
  }

  int num_layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

  // Rows of the attention and of the indexer; max_kv_size has no say, as in mlx-lm.
  cache::KVCaches make_cache(int) const override {
    cache::KVCaches caches;
    for (int i = 0; i < num_layers(); ++i) {
      cache::KVCaches both;
      for (int k = 0; k < 2; ++k) both.push_back(std::make_unique<cache::GrowingKVCache>(dtype()));
      caches.push_back(std::make_unique<cache::CacheList>(std::move(both)));
    }
    return caches;
  }

 private:
  Config config_;
  nn::Embedding embed_tokens_;
  std::vector<Block> layers_;
  nn::RMSNorm norm_;
  nn::LMHead lm_head_;
};

}  // namespace

MLX_LM_ARCHITECTURE(deepseek_v32, Model, "deepseek_v32", "glm_moe_dsa");

}  // namespace mlx_lm::models
