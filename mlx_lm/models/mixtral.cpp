// Mixtral: Mistral with eight experts, of which a token goes to two.
// Source: mlx_lm/models/mixtral.py of mlx-lm 0.32, which does not look at rope_scaling, as this does. Keys follow
// Hugging Face's MixtralConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 1e6f, .tie_word_embeddings = false, .norm_eps_value = 1e-5f}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = intermediate_size,
                .experts = c.get_size_or("num_local_experts", 8),
                .active = c.get_size_or("num_experts_per_tok", 2)},
        routing{.scores = ops::Routing::Scores::chosen, .k = experts.active} {
    nn::check(routing, experts.experts, c.where());
  }

  nn::GroupedAttention::Options attention(int) const { return nn::GroupedAttention::Options(*this); }

  nn::FeedForward feed_forward(const nn::Weights& layer, int) const {
    const auto w = layer / "block_sparse_moe";
    nn::rename_experts(w, experts.experts, {{"w1", "gate_proj"}, {"w3", "up_proj"}, {"w2", "down_proj"}});
    return nn::MoE(nn::Router(w / "gate", hidden_size, experts.experts, routing),
                   nn::SwitchGLU(w / "switch_mlp", experts));
  }

  nn::ExpertShape experts;
  ops::Routing routing;
};

using Model = DecoderModel<Config, nn::MixtureBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(mixtral, Model, "mixtral");

}  // namespace mlx_lm::models
