// GPT-BigCode (StarCoder 1): GPT-2 with one key and value for all heads.
// Source: mlx_lm/models/gpt_bigcode.py of mlx-lm 0.32. Keys follow Hugging Face's GPTBigCodeConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/config_names.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(nn::with_usual_names(c, {{"n_embd", "hidden_size"},
                                               {"n_layer", "num_hidden_layers"},
                                               {"n_head", "num_attention_heads"},
                                               {"n_inner", "intermediate_size"}}),
                      {.rope_theta = 10000.f,
                       .tie_word_embeddings = true,
                       .norm_eps = "layer_norm_epsilon",
                       .norm_eps_value = std::nullopt}),
        attention_bias(c.get<bool>("attention_bias", true)),
        mlp_bias(c.get<bool>("mlp_bias", true)) {
    num_key_value_heads = c.get<bool>("multi_query", true) ? 1 : num_attention_heads;
    learned_positions = c.get_size("n_positions");
    names = {.model = "transformer",
             .embed_tokens = "wte",
             .positions = "wpe",
             .layers = "h",
             .norm = "ln_f",
             .lm_head = "lm_head"};
  }
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps}; }

  bool attention_bias, mlp_bias;
};

using PreNormBlock = nn::TransformerBlock<nn::GroupedAttention, nn::GeluMLP, nn::LayerNorm>;

struct TransformerBlock : PreNormBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : PreNormBlock(named(w), c.hidden_size, c.rms_norm_eps, nn::GroupedAttention(named(w) / "attn", options(c)),
                     nn::GeluMLP(w / "mlp" / "c_fc", w / "mlp" / "c_proj", c.hidden_size, c.intermediate_size,
                                 ops::Gelu::erf, c.mlp_bias)) {}

  static const nn::Weights& named(const nn::Weights& w) {
    w.rename("ln_1", "input_layernorm");
    w.rename("ln_2", "post_attention_layernorm");
    w.rename("attn.c_attn", "attn.qkv_proj");
    return w;
  }
  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.rope.reset();
    o.qkv_bias = o.out_bias = c.attention_bias;
    o.out = "c_proj";
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock, nn::LayerNorm>;

}  // namespace

MLX_LM_ARCHITECTURE(gpt_bigcode, Model, "gpt_bigcode");

}  // namespace mlx_lm::models
