// Gemma: Llama with a GELU gate, embeddings scaled by the root of their width, and norms stored less 1.
// Source: mlx_lm/models/gemma.py of mlx-lm 0.32. Keys follow Hugging Face's GemmaConfig.

#include "mlx_lm/nn/gemma.h"

#include "mlx_lm/models/architecture.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::GemmaConfig {
  explicit Config(const ConfigReader& c) : GemmaConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}) {}
};

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::GegluMLP> {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : nn::TransformerBlock<nn::GroupedAttention, nn::GegluMLP>(
            c.norm(w / "input_layernorm"), c.norm(w / "post_attention_layernorm"),
            nn::GroupedAttention(w / "self_attn", nn::GroupedAttention::Options(c)),
            nn::GegluMLP(w / "mlp", c.hidden_size, c.intermediate_size, ops::Gelu::erf)) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(gemma, Model, "gemma");

}  // namespace mlx_lm::models
