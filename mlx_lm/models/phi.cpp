// Phi 1, 1.5 and 2: attention and MLP side by side, layer norms, biases; a part of each head rotates.
// Source: mlx_lm/models/phi.py of mlx-lm 0.32. Keys follow Hugging Face's PhiConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f,
                          .tie_word_embeddings = false,
                          .norm_eps = "layer_norm_eps",
                          .norm_eps_value = 1e-5f}) {
    read_partial_rotary(c, "partial_rotary_factor", 0.4f);
    rope_scaling.reset();
    tie_word_embeddings = false;
    lm_head_bias = true;
    names.norm = "final_layernorm";
  }
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps}; }
};

using ParallelBlock = nn::ParallelBlock<nn::GroupedAttention, nn::GeluMLP, nn::LayerNorm>;

struct TransformerBlock : ParallelBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : ParallelBlock(
            c.norm(w / "input_layernorm"), nn::GroupedAttention(w / "self_attn", options(c)),
            nn::GeluMLP(w / "mlp" / "fc1", w / "mlp" / "fc2", c.hidden_size, c.intermediate_size, ops::Gelu::tanh)) {}

  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = o.out_bias = true;
    o.out = "dense";
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock, nn::LayerNorm>;

}  // namespace

MLX_LM_ARCHITECTURE(phi, Model, "phi");

}  // namespace mlx_lm::models
