// OLMo 3: OLMo 2, most of whose layers slide; those that see all may have stretched positions.
// Source: mlx_lm/models/olmo3.py of mlx-lm 0.32. Keys follow Hugging Face's Olmo3Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        attention_bias(c.get<bool>("attention_bias", false)) {
    read_layer_types(c);
    const int sliding_window = c.get_size("sliding_window");
    if (!windows.empty()) return;
    for (int i = 0; i < num_hidden_layers; ++i) windows.push_back((i + 1) % 4 == 0 ? 0 : sliding_window);
  }

  bool attention_bias;
};

struct TransformerBlock : nn::SandwichBlock<nn::GroupedAttention> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : SandwichBlock({.before_attention = {},
                       .after_attention = c.norm(w / "post_attention_layernorm"),
                       .before_mlp = {},
                       .after_mlp = c.norm(w / "post_feedforward_layernorm")},
                      nn::GroupedAttention(w / "self_attn", options(c, layer)),
                      nn::MLP(w / "mlp", c.hidden_size, c.intermediate_size)) {}

  static nn::GroupedAttention::Options options(const Config& c, int layer) {
    nn::GroupedAttention::Options o(c);
    o.window = c.window(layer);
    if (o.window > 0) o.rope.emplace(c.rope, std::nullopt);
    o.qkv_bias = o.out_bias = c.attention_bias;
    o.qk_norm = nn::HeadNorm::Kind::full;
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(olmo3, Model, "olmo3");

}  // namespace mlx_lm::models
