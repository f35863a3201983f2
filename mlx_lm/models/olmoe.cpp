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

  nn::ExpertShape experts;
  ops::Routing routing;
  bool attention_bias, mlp_bias;
};

nn::GroupedAttention attention(const Config& c, const nn::Weights& w) {
  nn::GroupedAttention::Options options(c);
  options.qkv_bias = options.out_bias = c.attention_bias;
  options.qk_norm = nn::HeadNorm::Kind::full;
  return {w, options};
}

nn::FeedForward experts(const Config& c, const nn::Weights& w) {
  nn::rename_experts(w, c.experts.experts);
  return nn::MoE(nn::Router(w / "gate", c.hidden_size, c.experts.experts, c.routing),
                 nn::SwitchGLU(w / "switch_mlp", c.experts, ops::ExpertActivation::swiglu, c.mlp_bias));
}

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, attention(c, w / "self_attn"), experts(c, w / "mlp")) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(olmoe, Model, "olmoe");

}  // namespace mlx_lm::models
