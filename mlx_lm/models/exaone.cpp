// EXAONE 3 and 3.5: Llama by other names.
// Source: mlx_lm/models/exaone.py of mlx-lm 0.32. Keys follow the ExaoneConfig of its checkpoints.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/config_names.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(nn::with_usual_names(c, {{"num_layers", "num_hidden_layers"}}), {.rope_theta = std::nullopt,
                                                                                       .tie_word_embeddings = true,
                                                                                       .norm_eps = "layer_norm_epsilon",
                                                                                       .norm_eps_value = std::nullopt}),
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)) {
    names = {.model = "transformer",
             .embed_tokens = "wte",
             .positions = "",
             .layers = "h",
             .norm = "ln_f",
             .lm_head = "lm_head"};
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = o.out_bias = attention_bias;
    o.out = "out_proj";
    return o;
  }

  bool attention_bias, mlp_bias;
};

struct TransformerBlock : nn::PreNormBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer) : PreNormBlock(c, named(w), layer) {}

  static const nn::Weights& named(const nn::Weights& w) {
    w.rename("ln_1", "input_layernorm");
    w.rename("ln_2", "post_attention_layernorm");
    w.rename("attn.attention", "self_attn");
    w.rename("mlp.c_fc_0", "mlp.gate_proj");
    w.rename("mlp.c_fc_1", "mlp.up_proj");
    w.rename("mlp.c_proj", "mlp.down_proj");
    return w;
  }
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(exaone, Model, "exaone");

}  // namespace mlx_lm::models
