// GLM 4 (0414): norms before and after both halves of a block; a part of each head rotates.
// Source: mlx_lm/models/glm4.py of mlx-lm 0.32. Keys follow Hugging Face's Glm4Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        attention_bias(c.get<bool>("attention_bias")) {
    read_partial_rotary(c, "partial_rotary_factor");
    rope.traditional = c.get<bool>("rope_traditional", true);
    rope_scaling.reset();
    tie_word_embeddings = false;
  }

  bool attention_bias;
};

struct TransformerBlock : nn::SandwichBlock<nn::GroupedAttention> {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : SandwichBlock({c.norm(w / "input_layernorm"), c.norm(w / "post_self_attn_layernorm"),
                       c.norm(w / "post_attention_layernorm"), c.norm(w / "post_mlp_layernorm")},
                      nn::GroupedAttention(w / "self_attn", options(c)),
                      nn::MLP(w / "mlp", c.hidden_size, c.intermediate_size)) {}

  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = c.attention_bias;
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(glm4, Model, "glm4");

}  // namespace mlx_lm::models
