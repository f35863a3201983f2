// GPT-2: learned positions, layer norms, biases.
// Source: mlx_lm/models/gpt2.py of mlx-lm 0.32. Keys follow Hugging Face's GPT2Config.

#include <fmt/format.h>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/config_names.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(usual(c), {.rope_theta = 10000.f,
                                 .tie_word_embeddings = true,
                                 .norm_eps = "layer_norm_epsilon",
                                 .norm_eps_value = std::nullopt}) {
    intermediate_size = 4 * hidden_size;
    learned_positions = c.get_size("n_positions");
    tie_word_embeddings = true;
    names = {.model = "model",
             .embed_tokens = "wte",
             .positions = "wpe",
             .layers = "h",
             .norm = "ln_f",
             .lm_head = "lm_head"};
  }
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps}; }

  static ConfigReader usual(const ConfigReader& c) {
    return nn::with_usual_names(c, {{"n_embd", "hidden_size"},
                                    {"n_layer", "num_hidden_layers"},
                                    {"n_head", "num_attention_heads"},
                                    {"n_embd", "intermediate_size"}});  // which is four times as large
  }
};

using PreNormBlock = nn::TransformerBlock<nn::GroupedAttention, nn::GeluMLP, nn::LayerNorm>;

struct TransformerBlock : PreNormBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : PreNormBlock(named(w), c.hidden_size, c.rms_norm_eps, nn::GroupedAttention(named(w) / "attn", options(c)),
                     nn::GeluMLP(w / "mlp" / "c_fc", w / "mlp" / "c_proj", c.hidden_size, c.intermediate_size,
                                 ops::Gelu::tanh)) {}

  static const nn::Weights& named(const nn::Weights& w) {
    w.rename("ln_1", "input_layernorm");
    w.rename("ln_2", "post_attention_layernorm");
    w.rename("attn.c_attn", "attn.qkv_proj");
    return w;
  }
  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.rope.reset();
    o.qkv_bias = o.out_bias = true;
    o.out = "c_proj";
    return o;
  }
};

struct Model final : DecoderModel<Config, TransformerBlock, nn::LayerNorm> {
  Model(const ConfigReader& reader, const nn::Weights& w) : DecoderModel(reader, published(w)) {}

  // Published checkpoints lack `model`, carry the causal mask, and have their matrices transposed.
  static const nn::Weights& published(const nn::Weights& w) {
    for (int i = 0; w.has(fmt::format("h.{}.attn.c_attn.weight", i)); ++i) {
      const auto layer = w / "h" / i;
      for (const char* mask : {".attn.bias", ".attn.masked_bias"}) layer.ignore(mask);
      for (const char* matrix : {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}) transpose(layer / matrix);
    }
    for (const char* part : {"wte", "wpe", "h", "ln_f"}) w.rename(part, fmt::format("model.{}", part));
    return w;
  }
  static void transpose(const nn::Weights& w) {
    const auto shape = w.shape_of("weight");
    if (!shape || shape->size() != 2) return;
    const mx::Shape transposed{(*shape)[1], (*shape)[0]};
    w.rewrite({"weight"}, {{"weight", transposed, [](const auto& from) { return mx::transpose(from[0]); }}});
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(gpt2, Model, "gpt2");

}  // namespace mlx_lm::models
