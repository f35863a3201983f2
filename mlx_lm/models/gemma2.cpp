// Gemma 2: Gemma with norms on both sides of attention and MLP, and soft caps on scores and logits.
// Source: mlx_lm/models/gemma2.py of mlx-lm 0.32, where every layer sees all tokens; Hugging Face's model bounds every
// second layer by sliding_window (4,096 tokens), within which the two agree. Keys follow its Gemma2Config.

#include <cmath>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/gemma.h"
#include "mlx_lm/ops/elementwise.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::GemmaConfig {
  explicit Config(const ConfigReader& c)
      : GemmaConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = true}),
        attn_logit_softcapping(c.get_positive("attn_logit_softcapping", 50.f)),
        final_logit_softcapping(c.get_positive("final_logit_softcapping", 30.f)),
        query_pre_attn_scalar(c.get_positive("query_pre_attn_scalar", 144.f)) {}

  nn::GroupedAttention::Options attention(int) const {
    nn::GroupedAttention::Options o(*this);
    o.scale = 1.f / std::sqrt(query_pre_attn_scalar);
    o.softcap = attn_logit_softcapping;
    return o;
  }

  float attn_logit_softcapping, final_logit_softcapping, query_pre_attn_scalar;
};

class Model final : public DecoderModel<Config, nn::GemmaBlock> {
 public:
  using DecoderModel::DecoderModel;

  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return ops::softcap(DecoderModel::operator()(tokens, caches), config().final_logit_softcapping);
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(gemma2, Model, "gemma2");

}  // namespace mlx_lm::models
