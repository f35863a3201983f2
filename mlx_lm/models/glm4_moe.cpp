// GLM 4.5 and 4.6: DeepSeek V3's experts behind grouped-query attention, of whose heads a part rotates.
// Source: mlx_lm/models/glm4_moe.py of mlx-lm 0.32. Keys follow Hugging Face's Glm4MoeConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/deepseek_moe.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt, .tie_word_embeddings = false}),
        experts(c, *this),
        use_qk_norm(c.get<bool>("use_qk_norm")),
        attention_bias(c.get<bool>("attention_bias")) {
    read_partial_rotary(c, "partial_rotary_factor");
  }

  nn::DeepseekMoEConfig experts;
  bool use_qk_norm, attention_bias;
};

nn::GroupedAttention attention(const Config& c, const nn::Weights& w) {
  nn::GroupedAttention::Options options(c);
  options.qkv_bias = c.attention_bias;
  if (c.use_qk_norm) options.qk_norm = nn::HeadNorm::Kind::head;
  return {w, options};
}

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward> {
  TransformerBlock(const Config& c, const nn::Weights& w, int layer)
      : nn::TransformerBlock<nn::GroupedAttention, nn::FeedForward>(
            w, c.hidden_size, c.rms_norm_eps, attention(c, w / "self_attn"),
            nn::deepseek_feed_forward(w / "mlp", c.experts, layer)) {}
};

class Model final : public DecoderModel<Config, TransformerBlock> {
 public:
  Model(const ConfigReader& c, const nn::Weights& w) : DecoderModel(c, w) {
    nn::ignore_further_layers(w / "model", num_layers());
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(glm4_moe, Model, "glm4_moe");

}  // namespace mlx_lm::models
