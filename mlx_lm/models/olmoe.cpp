// OLMoE: experts in every layer, and norms over all heads of the queries and of the keys together.
// Source: mlx_lm/models/olmoe.py of mlx-lm 0.32. Keys follow Hugging Face's OlmoeConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = intermediate_size,
                .experts = c.get_size("num_experts"),
                .active = c.get_size("num_experts_per_tok")},
        routing{.k = experts.active, .normalize = c.get<bool>("norm_topk_prob", false)},
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)) {
    nn::check(routing, experts.experts, c.where());
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = o.out_bias = attention_bias;
    o.qk_norm = nn::HeadNorm::Kind::full;
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& layer, int) const {
    const auto w = layer / "mlp";
    nn::rename_experts(w, experts.experts);
    return nn::MoE(nn::Router(w / "gate", hidden_size, experts.experts, routing),
                   nn::SwitchGLU(w / "switch_mlp", experts, ops::ExpertActivation::swiglu, mlp_bias));
  }

  nn::ExpertShape experts;
  ops::Routing routing;
  bool attention_bias, mlp_bias;
};

using Model = DecoderModel<Config, nn::MixtureBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(olmoe, Model, "olmoe");

}  // namespace mlx_lm::models
