// Llama 4: most layers attend within chunks and rotate, the others see all and know no positions; experts in turn with
// dense layers.
// Source: mlx_lm/models/llama4.py and llama4_text.py of mlx-lm 0.32. Keys follow Hugging Face's Llama4TextConfig.

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/chunked.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

// The language model of those that also see.
struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        chunk_size(c.get_size("attention_chunk_size")),
        experts{.hidden_size = hidden_size,
                .intermediate_size = intermediate_size,
                .experts = c.get_size("num_local_experts", 1, 65536),
                .active = c.get_size("num_experts_per_tok")},
        moe_step(c.get_size("interleave_moe_layer_step")),
        dense_size(c.get_size("intermediate_size_mlp")),
        attention_bias(c.get<bool>("attention_bias", false)),
        qk_norm(c.get<bool>("use_qk_norm")),
        growth{.beta = c.get<float>("attn_scale", 0.1f), .length = c.get_size_or("floor_scale", 8192), .first = 1} {
    if (experts.active != 1) {
      fail<ConfigError>("[config] {}: num_experts_per_tok: expected 1, found {}", c.where(), experts.active);
    }
    rope.traditional = true;
    tie_word_embeddings = false;
    // A number in older configurations.
    const std::string tuning = "attn_temperature_tuning";
    const bool flag = c.has(tuning) && c.json().at(tuning).is_boolean();
    grows = flag ? c.get<bool>(tuning) : c.get<int>(tuning, 4) != 0;
  }

  bool chunked(int layer) const { return (layer + 1) % 4 != 0; }

  nn::GroupedAttention::Options attention(int layer) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = o.out_bias = attention_bias;
    if (!chunked(layer)) {
      o.rope.reset();
      if (grows) o.query_growth = growth;
    } else if (qk_norm) {
      // After the rotation, which does not change the length of a head.
      o.qk_norm = nn::HeadNorm::Kind::plain;
      o.eps = 1e-6f;
    }
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& layer, int i) const {
    const auto w = layer / "feed_forward";
    if ((i + 1) % moe_step != 0) return nn::MLP(w, hidden_size, dense_size);
    nn::split_fused_experts(w, experts, "experts", "experts");
    const ops::Routing routing{.scores = ops::Routing::Scores::chosen_sigmoid};
    return nn::MoE(nn::Router(w / "router", hidden_size, experts.experts, routing),
                   nn::SwitchGLU(w / "experts", experts), nn::MLP(w / "shared_expert", hidden_size, intermediate_size),
                   std::nullopt, nn::MoE::Weighs::input);
  }

  int chunk_size;
  nn::ExpertShape experts;
  int moe_step, dense_size;
  bool attention_bias, qk_norm;
  nn::QueryGrowth growth;
  bool grows;
};

class Model final : public DecoderModel<Config, nn::MixtureBlock> {
 public:
  using DecoderModel::DecoderModel;

  cache::KVCaches make_cache(int max_kv_size) const override {
    auto caches = LanguageModel::make_cache(max_kv_size);
    for (int i = 0; i < num_layers(); ++i) {
      if (config().chunked(i)) caches[i] = std::make_unique<cache::ChunkedKVCache>(dtype(), config().chunk_size);
    }
    return caches;
  }
};

// A dense one that reads alone: all of its layers see all, as mlx-lm has it, and norms come before the rotation.
struct TextConfig : nn::DecoderConfig {
  explicit TextConfig(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}),
        dense_size(c.get_size("intermediate_size_mlp")),
        rotates(c.get<std::vector<int>>("no_rope_layers")),
        qk_norm(c.get<bool>("use_qk_norm")) {
    if (int(rotates.size()) < num_hidden_layers) {
      fail<ConfigError>("[config] {}: no_rope_layers: expected {} entries, found {}", c.where(), num_hidden_layers,
                        rotates.size());
    }
    rope.traditional = true;
    rope_scaling.reset();
    names.lm_head = "output";
  }

  nn::GroupedAttention::Options attention(int layer) const {
    nn::GroupedAttention::Options o(*this);
    if (rotates[layer] == 0) o.rope.reset();
    if (qk_norm) o.qk_norm = nn::HeadNorm::Kind::plain;
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& layer, int) const {
    return nn::MLP(layer / "feed_forward", hidden_size, dense_size);
  }

  int dense_size;
  std::vector<int> rotates;  // no_rope_layers, despite that name
  bool qk_norm;
};

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  if (config.get<std::string>("model_type", "llama4") == "llama4") {
    const TextPart text(config, w);
    return std::make_unique<Model>(text.config, text.weights);
  }
  // Hugging Face's name of the output layer.
  w.rename("lm_head", "output");
  return std::make_unique<DecoderModel<TextConfig, nn::MixtureBlock>>(config, w);
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(llama4, &make, "llama4", "llama4_text");

}  // namespace mlx_lm::models
