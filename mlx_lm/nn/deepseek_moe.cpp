#include "mlx_lm/nn/deepseek_moe.h"

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {

DeepseekMoEConfig::DeepseekMoEConfig(const ConfigReader& c, const DecoderConfig& decoder)
    : experts{.hidden_size = decoder.hidden_size,
              .intermediate_size = c.get_size_or("moe_intermediate_size", 1407),
              .experts = c.get_size_or("n_routed_experts", 0, 0, 65536),
              .active = c.get_size_or("num_experts_per_tok", 1)},
      dense_size(decoder.intermediate_size),
      first_k_dense_replace(c.get_size_or("first_k_dense_replace", 0, 0)),
      moe_layer_freq(c.get_size_or("moe_layer_freq", 1)),
      // A group alone is kept, whatever topk_group says.
      routing{.scores = ops::Routing::Scores::sigmoid,
              .k = experts.active,
              .groups = c.get_size_or("n_group", 1),
              .groups_kept = c.get_size_or("n_group", 1) > 1 ? c.get_size_or("topk_group", 1) : 1,
              .normalize = c.get<bool>("norm_topk_prob", true) && experts.active > 1,
              .scale = c.get<float>("routed_scaling_factor", 1.f)} {
  const int shared = c.get_size_or("n_shared_experts", 0, 0, 4096);
  const int64_t size = int64_t(shared) * experts.intermediate_size;
  if (size > ConfigReader::kMaxSize) {
    fail<ConfigError>("[config] {}: n_shared_experts: expected a smaller number, found {}", c.where(), shared);
  }
  shared_size = int(size);
  if (experts.experts > 0) check(routing, experts.experts, c.where());
}

FeedForward deepseek_feed_forward(const Weights& w, const DeepseekMoEConfig& c, int layer) {
  const auto& e = c.experts;
  if (!c.sparse(layer)) return MLP(w, e.hidden_size, c.dense_size);
  rename_experts(w, e.experts);
  auto shared = c.shared_size > 0
                    ? std::optional<MLP>(std::in_place, w / "shared_experts", e.hidden_size, c.shared_size)
                    : std::nullopt;
  const auto gate = w / "gate";
  auto bias = c.corrected ? std::optional(gate.take_array("e_score_correction_bias", {e.experts})) : std::nullopt;
  return MoE(Router(gate, e.hidden_size, e.experts, c.routing, /* bias */ false, std::move(bias)),
             SwitchGLU(w / "switch_mlp", e), std::move(shared));
}

void ignore_further_layers(const Weights& w, int num_hidden_layers) {
  constexpr int kMost = 16;
  for (int i = num_hidden_layers; i < num_hidden_layers + kMost; ++i) (w / "layers" / i).ignore("");
}

}  // namespace mlx_lm::nn
