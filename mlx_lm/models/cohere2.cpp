// Command R7B and A: Command R, most of whose layers slide; those that see all know no positions.
// Source: mlx_lm/models/cohere2.py of mlx-lm 0.32. Keys follow Hugging Face's Cohere2Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 50000.f,
                          .tie_word_embeddings = true,
                          .norm_eps = "layer_norm_eps",
                          .norm_eps_value = 1e-5f}),
        attention_bias(c.get<bool>("attention_bias", false)),
        layer_norm_bias(c.get<bool>("layer_norm_bias", false)) {
    rope.traditional = true;
    rope_scaling.reset();
    tie_word_embeddings = true;
    output_multiplier = c.get<float>("logit_scale", 0.0625f);
    const int sliding_window = c.get_size_or("sliding_window", 4096);
    const int pattern = c.get_size_or("sliding_window_pattern", 4);
    for (int i = 0; i < num_hidden_layers; ++i) windows.push_back((i + 1) % pattern == 0 ? 0 : sliding_window);
  }
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps, layer_norm_bias}; }

  bool attention_bias, layer_norm_bias;
};

using ParallelBlock = nn::ParallelBlock<nn::GroupedAttention, nn::MLP, nn::LayerNorm>;

struct TransformerBlock : ParallelBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : ParallelBlock(c.norm(w / "input_layernorm"), nn::GroupedAttention(w / "self_attn", options(c, layer)),
                      nn::MLP(w / "mlp", c.hidden_size, c.intermediate_size)) {}

  static nn::GroupedAttention::Options options(const Config& c, int layer) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = o.out_bias = c.attention_bias;
    o.window = c.window(layer);
    if (o.window == 0) o.rope.reset();
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock, nn::LayerNorm>;

}  // namespace

MLX_LM_ARCHITECTURE(cohere2, Model, "cohere2");

}  // namespace mlx_lm::models
