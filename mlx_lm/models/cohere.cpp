// Command R: attention and MLP side by side, layer norms, a factor on the logits.
// Source: mlx_lm/models/cohere.py of mlx-lm 0.32. Keys follow Hugging Face's CohereConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 8000000.f,
                          .tie_word_embeddings = true,
                          .norm_eps = "layer_norm_eps",
                          .norm_eps_value = 1e-5f}),
        attention_bias(c.get<bool>("attention_bias", false)),
        layer_norm_bias(c.get<bool>("layer_norm_bias", false)),
        use_qk_norm(c.get<bool>("use_qk_norm", false)) {
    rope.traditional = true;
    rope_scaling.reset();
    tie_word_embeddings = true;
    output_multiplier = c.get<float>("logit_scale", 0.0625f);
  }
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps, layer_norm_bias}; }

  bool attention_bias, layer_norm_bias, use_qk_norm;
};

using ParallelBlock = nn::ParallelBlock<nn::GroupedAttention, nn::MLP, nn::LayerNorm>;

struct TransformerBlock : ParallelBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : ParallelBlock(c.norm(w / "input_layernorm"), nn::GroupedAttention(w / "self_attn", options(c)),
                      nn::MLP(w / "mlp", c.hidden_size, c.intermediate_size)) {}

  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = o.out_bias = c.attention_bias;
    if (c.use_qk_norm) o.qk_norm = nn::HeadNorm::Kind::layer;
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock, nn::LayerNorm>;

}  // namespace

MLX_LM_ARCHITECTURE(cohere, Model, "cohere");

}  // namespace mlx_lm::models
