// Nemotron 3 and 4, Minitron: layer norms whose weight is stored less 1, squared ReLU without a gate.
// Source: mlx_lm/models/nemotron.py of mlx-lm 0.32. Keys follow Hugging Face's NemotronConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"
#include "mlx_lm/ops/mixture.h"

namespace mlx_lm::models {
namespace {

class LayerNorm {
 public:
  LayerNorm(const nn::Weights& w, int size, float eps)
      : weight_(w.take_vector("weight", size)), bias_(w.take_vector("bias", size)), eps_(eps) {
    weight_ = weight_ + mx::array(1.f, weight_.dtype());
    weight_.eval();
  }
  mx::array operator()(const mx::array& x) const { return ops::layer_norm(x, weight_, bias_, eps_); }

 private:
  mx::array weight_, bias_;
  float eps_;
};

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f,
                          .tie_word_embeddings = false,
                          .norm_eps = "norm_eps",
                          .norm_eps_value = std::nullopt}),
        attention_bias(c.get<bool>("attention_bias", false)),
        mlp_bias(c.get<bool>("mlp_bias", false)) {
    read_partial_rotary(c, "partial_rotary_factor", 0.5f);
    rope.traditional = false;
  }
  LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps}; }

  bool attention_bias, mlp_bias;
};

class MLP {
 public:
  MLP(const Config& c, const nn::Weights& w)
      : up_proj_(w / "up_proj", c.hidden_size, c.intermediate_size, c.mlp_bias),
        down_proj_(w / "down_proj", c.intermediate_size, c.hidden_size, c.mlp_bias) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x) const {
    return down_proj_(ops::activate(ops::ExpertActivation::relu2, nullptr, up_proj_(x)));
  }

 private:
  nn::Linear up_proj_, down_proj_;
};

using PreNormBlock = nn::TransformerBlock<nn::GroupedAttention, MLP, LayerNorm>;

struct TransformerBlock : PreNormBlock {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : PreNormBlock(w, c.hidden_size, c.rms_norm_eps, nn::GroupedAttention(w / "self_attn", options(c)),
                     MLP(c, w / "mlp")) {}

  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = o.out_bias = c.attention_bias;
    return o;
  }
};

using Model = DecoderModel<Config, TransformerBlock, LayerNorm>;

}  // namespace

MLX_LM_ARCHITECTURE(nemotron, Model, "nemotron");

}  // namespace mlx_lm::models
