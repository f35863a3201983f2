// Qwen 3 MoE: Qwen 3 with experts in place of most of its MLPs.
// Source: mlx_lm/models/qwen3_moe.py of mlx-lm 0.32, which does not look at rope_scaling, as this does. Keys follow
// Hugging Face's Qwen3MoeConfig.

#include <algorithm>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = true}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = c.get_size("moe_intermediate_size"),
                .experts = c.get_size("num_experts", 0),
                .active = c.get_size("num_experts_per_tok")},
        routing{.k = experts.active, .normalize = c.get<bool>("norm_topk_prob")},
        decoder_sparse_step(c.get_size("decoder_sparse_step")),
        mlp_only_layers(c.get<std::vector<int>>("mlp_only_layers")) {
    if (experts.experts > 0) nn::check(routing, experts.experts, c.where());
  }

  bool sparse(int layer) const {
    const auto& dense = mlp_only_layers;
    return experts.experts > 0 && (layer + 1) % decoder_sparse_step == 0 &&
           std::find(dense.begin(), dense.end(), layer) == dense.end();
  }

  nn::ExpertShape experts;
  ops::Routing routing;
  int decoder_sparse_step;
  std::vector<int> mlp_only_layers;
};

nn::GroupedAttention attention(const Config& c, const nn::Weights& w) {
  nn::GroupedAttention::Options options(c);
  options.qk_norm = nn::HeadNorm::Kind::head;
  return {w, options};
}

nn::FeedForward feed_forward(const Config& c, const nn::Weights& w, int layer) {
  if (!c.sparse(layer)) return nn::MLP(w, c.hidden_size, c.intermediate_size);
  nn::rename_experts(w, c.experts.experts);
  return nn::MoE(nn::Router(w / "gate", c.hidden_size, c.experts.experts, c.routing),
                 nn::SwitchGLU(w / "switch_mlp", c.experts));
}

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, attention(c, w / "self_attn"), feed_forward(c, w / "mlp", layer)) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(qwen3_moe, Model, "qwen3_moe");

}  // namespace mlx_lm::models
