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

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qk_norm = nn::HeadNorm::Kind::head;
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& layer, int i) const {
    const auto w = layer / "mlp";
    if (!sparse(i)) return nn::MLP(w, hidden_size, intermediate_size);
    nn::rename_experts(w, experts.experts);
    return nn::MoE(nn::Router(w / "gate", hidden_size, experts.experts, routing),
                   nn::SwitchGLU(w / "switch_mlp", experts));
  }

  nn::ExpertShape experts;
  ops::Routing routing;
  int decoder_sparse_step;
  std::vector<int> mlp_only_layers;
};

using Model = DecoderModel<Config, nn::MixtureBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(qwen3_moe, Model, "qwen3_moe");

}  // namespace mlx_lm::models
