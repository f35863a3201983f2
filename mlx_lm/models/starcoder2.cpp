// StarCoder 2: layer norms, biases, an MLP without a gate.
// Source: mlx_lm/models/starcoder2.py of mlx-lm 0.32. Keys follow Hugging Face's Starcoder2Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 100000.f,
                          .tie_word_embeddings = true,
                          .norm_eps = "norm_epsilon",
                          .norm_eps_value = 1e-5f}) {}
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps}; }
};

using PreNormBlock = nn::TransformerBlock<nn::GroupedAttention, nn::GeluMLP, nn::LayerNorm>;

struct TransformerBlock : PreNormBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : PreNormBlock(
            w, c.hidden_size, c.rms_norm_eps, nn::GroupedAttention(w / "self_attn", options(c)),
            nn::GeluMLP(w / "mlp" / "c_fc", w / "mlp" / "c_proj", c.hidden_size, c.intermediate_size, ops::Gelu::erf)) {
  }

  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = o.out_bias = true;
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock, nn::LayerNorm>;

}  // namespace

MLX_LM_ARCHITECTURE(starcoder2, Model, "starcoder2");

}  // namespace mlx_lm::models
