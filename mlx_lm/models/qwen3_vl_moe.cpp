// Qwen 3 VL MoE, the language model alone: Qwen 3 MoE.
// Source: mlx_lm/models/qwen3_vl_moe.py of mlx-lm 0.32.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/moe.h"

namespace mlx_lm::models {
namespace {

std::unique_ptr<LanguageModel> make(const ConfigReader& config, const nn::Weights& w) {
  const TextPart text(config, w);
  const auto& c = text.config;
  const nn::ExpertShape shape{.hidden_size = c.get_size("hidden_size"),
                              .intermediate_size = c.get_size("moe_intermediate_size"),
                              .experts = c.get_size("num_experts"),
                              .active = c.get_size("num_experts_per_tok")};
  for (int i = 0; i < c.get_size("num_hidden_layers", 1, 4096); ++i) {
    nn::split_fused_experts(text.weights / "model" / "layers" / i / "mlp", shape);
  }
  return text.make("qwen3_moe");
}

}  // namespace

MLX_LM_ARCHITECTURE_BY(qwen3_vl_moe, &make, "qwen3_vl_moe");

}  // namespace mlx_lm::models
