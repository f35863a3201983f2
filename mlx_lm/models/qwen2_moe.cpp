// Qwen 2 MoE (Qwen 1.5 MoE): experts beside an expert for all tokens, whose share a gate decides.
// Source: mlx_lm/models/qwen2_moe.py of mlx-lm 0.32. Keys follow Hugging Face's Qwen2MoeConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 1e6f, .tie_word_embeddings = false}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = c.get_size("moe_intermediate_size"),
                .experts = c.get_size("num_experts"),
                .active = c.get_size("num_experts_per_tok")},
        shared_expert_intermediate_size(c.get_size("shared_expert_intermediate_size")),
        routing{.k = experts.active} {
    nn::check(routing, experts.experts, c.where());
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = true;
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& layer, int) const {
    const auto w = layer / "mlp";
    nn::rename_experts(w, experts.experts);
    return nn::MoE(nn::Router(w / "gate", hidden_size, experts.experts, routing),
                   nn::SwitchGLU(w / "switch_mlp", experts),
                   nn::MLP(w / "shared_expert", hidden_size, shared_expert_intermediate_size),
                   nn::Linear(w / "shared_expert_gate", hidden_size, 1));
  }

  nn::ExpertShape experts;
  int shared_expert_intermediate_size;
  ops::Routing routing;
};

using Model = DecoderModel<Config, nn::MixtureBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(qwen2_moe, Model, "qwen2_moe");

}  // namespace mlx_lm::models
