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

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.qkv_bias = attention_bias;
    if (use_qk_norm) o.qk_norm = nn::HeadNorm::Kind::head;
    return o;
  }

  nn::FeedForward feed_forward(const nn::Weights& w, int layer) const {
    return nn::deepseek_feed_forward(w / "mlp", experts, layer);
  }

  nn::DeepseekMoEConfig experts;
  bool use_qk_norm, attention_bias;
};

class Model final : public DecoderModel<Config, nn::MixtureBlock> {
 public:
  Model(const ConfigReader& c, const nn::Weights& w) : DecoderModel(c, w) {
    nn::ignore_further_layers(w / "model", num_layers());
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(glm4_moe, Model, "glm4_moe");

}  // namespace mlx_lm::models
