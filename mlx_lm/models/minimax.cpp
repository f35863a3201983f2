// MiniMax M2: experts chosen by corrected sigmoids, norms over all heads together, heads of which a part rotates.
// Source: mlx_lm/models/minimax.py of mlx-lm 0.32. Keys follow MiniMax's own MiniMaxM2Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        experts{.hidden_size = hidden_size,
                .intermediate_size = intermediate_size,
                .experts = c.get_size("num_local_experts"),
                .active = c.get_size("num_experts_per_tok")},
        routing{.scores = ops::Routing::Scores::sigmoid, .k = experts.active, .normalize = true, .epsilon = 1e-20f},
        use_qk_norm(c.get<bool>("use_qk_norm", true)) {
    nn::check(routing, experts.experts, c.where());
    rope.dims = c.get_size("rotary_dim", 2, head_dim);
  }

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    if (use_qk_norm) o.qk_norm = nn::HeadNorm::Kind::full;
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& layer, int) const {
    const auto w = layer / "block_sparse_moe";
    nn::rename_experts(w, experts.experts, {{"w1", "gate_proj"}, {"w3", "up_proj"}, {"w2", "down_proj"}});
    auto correction = w.take_array("e_score_correction_bias", {experts.experts});
    return nn::MoE(
        nn::Router(w / "gate", hidden_size, experts.experts, routing, /* bias */ false, std::move(correction)),
        nn::SwitchGLU(w / "switch_mlp", experts));
  }

  nn::ExpertShape experts;
  ops::Routing routing;
  bool use_qk_norm;
};

using Model = DecoderModel<Config, nn::MixtureBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(minimax, Model, "minimax", "minimax_m2");

}  // namespace mlx_lm::models
