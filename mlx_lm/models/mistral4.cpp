// Mistral 4: latent attention whose queries grow with their position, and DeepSeek's mixture with softmax scores.
// Source: mlx_lm/models/mistral4.py of mlx-lm 0.32. Keys follow Hugging Face's Mistral4Config.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/deepseek_moe.h"
#include "mlx_lm/nn/fused_experts.h"
#include "mlx_lm/nn/mla.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 100000.f, .tie_word_embeddings = false}),
        attention(c, *this),
        experts(c, *this) {
    const auto parameters = c.sub("rope_parameters");
    attention.query_growth = {.beta = parameters.get<float>("llama_4_scaling_beta"),
                              .length = parameters.get_size("original_max_position_embeddings")};
    if (!c.get<bool>("rope_interleave", true)) {
      rope.dims = attention.qk_rope_head_dim;
      attention.rope = nn::Rope(rope, rope_scaling);
    }
    experts.corrected = false;
    experts.moe_layer_freq = 1;
    experts.routing.scores = ops::Routing::Scores::softmax;
    experts.routing.normalize = c.get<bool>("norm_topk_prob");
  }

  nn::MLAConfig attention;
  nn::DeepseekMoEConfig experts;
};

nn::FeedForward feed_forward(const Config& c, const nn::Weights& w, int layer) {
  nn::split_experts(w, c.experts.experts, "experts.gate_up_proj", "experts.down_proj");
  return nn::deepseek_feed_forward(w, c.experts, layer);
}

struct TransformerBlock : nn::TransformerBlock<nn::MLA, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<nn::MLA, nn::FeedForward>(w, c.hidden_size, c.rms_norm_eps,
                                                       nn::MLA(w / "self_attn", c.attention),
                                                       feed_forward(c, w / "mlp", layer)) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(mistral4, Model, "mistral4");

}  // namespace mlx_lm::models
