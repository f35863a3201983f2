// Phi 3 and 3.5, Phi 4 mini: Llama with fused projections, of whose heads a part may rotate.
// Source: mlx_lm/models/phi3.py of mlx-lm 0.32. Keys follow Hugging Face's Phi3Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = false}) {
    read_partial_rotary(c, "partial_rotary_factor", 1.f);
    rope.max_position_embeddings = c.get_size_or("max_position_embeddings", 131072);
    if (!rope_scaling) return;
    // "su" is the same by another name; what its lengths are relative to stands outside of it.
    auto scaling = rope_scaling->json();
    if (rope_scaling->has("type") && scaling["type"] == "su") scaling["type"] = "longrope";
    const int own = rope_scaling->get_size_or("original_max_position_embeddings", 4096);
    scaling["original_max_position_embeddings"] = c.get_size_or("original_max_position_embeddings", own);
    rope_scaling = ConfigReader(std::move(scaling), rope_scaling->where());
  }
  nn::GroupedAttention::Options attention(int) const { return nn::GroupedAttention::Options(*this); }
};

using Model = DecoderModel<Config, nn::PreNormBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(phi3, Model, "phi3");

}  // namespace mlx_lm::models
