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

  nn::ExpertShape experts;
  int shared_expert_intermediate_size;
  ops::Routing routing;
};

nn::GroupedAttention attention(const Config& c, const nn::Weights& w) {
  nn::GroupedAttention::Options options(c);
  options.qkv_bias = true;
  return {w, options};
}

nn::FeedForward experts(const Config& c, const nn::Weights& w) {
  nn::rename_experts(w, c.experts.experts);
  return nn::MoE(nn::Router(w / "gate", c.hidden_size, c.experts.experts, c.routing),
                 nn::SwitchGLU(w / "switch_mlp", c.experts),
                 nn::MLP(w / "shared_expert", c.hidden_size, c.shared_expert_intermediate_size),
                 nn::Linear(w / "shared_expert_gate", c.hidden_size, 1));
}

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, attention(c, w / "self_attn"), experts(c, w / "mlp")) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(qwen2_moe, Model, "qwen2_moe");

}  // namespace mlx_lm::models
