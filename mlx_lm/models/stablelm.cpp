// StableLM 2: layer norms, perhaps a norm for each head, perhaps attention and MLP side by side.
// Source: mlx_lm/models/stablelm.py of mlx-lm 0.32. Keys follow Hugging Face's StableLmConfig.

#include <tuple>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = std::nullopt,
                          .tie_word_embeddings = false,
                          .norm_eps = "layer_norm_eps",
                          .norm_eps_value = std::nullopt}),
        use_qkv_bias(c.get<bool>("use_qkv_bias")),
        use_parallel_residual(c.get<bool>("use_parallel_residual", false)),
        qk_layernorm(c.get<bool>("qk_layernorm", false)) {
    read_partial_rotary(c, "partial_rotary_factor");
    rope_scaling.reset();
    tie_word_embeddings = false;
  }
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps}; }

  bool use_qkv_bias, use_parallel_residual, qk_layernorm;
};

class TransformerBlock {
 public:
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : self_attn_(stacked(w / "self_attn", c), options(c)),
        mlp_(w / "mlp", c.hidden_size, c.intermediate_size),
        input_layernorm_(c.norm(w / "input_layernorm")) {
    if (!c.use_parallel_residual) post_attention_layernorm_.emplace(c.norm(w / "post_attention_layernorm"));
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    const auto normed = input_layernorm_(x);
    const auto h = ops::residual_add(x, self_attn_(normed, cache));
    return ops::residual_add(h, mlp_(post_attention_layernorm_ ? (*post_attention_layernorm_)(h) : normed));
  }

 private:
  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = c.use_qkv_bias;
    if (c.qk_layernorm) o.qk_norm = nn::HeadNorm::Kind::layer;
    return o;
  }
  // A checkpoint has one norm for each head.
  static const nn::Weights& stacked(const nn::Weights& w, const Config& c) {
    if (!c.qk_layernorm) return w;
    for (const auto& [from, to, heads] : {std::tuple("q_layernorm", "q_norm", c.num_attention_heads),
                                          std::tuple("k_layernorm", "k_norm", c.num_key_value_heads)}) {
      std::vector<std::string> names;
      for (int i = 0; i < heads; ++i) names.push_back(fmt::format("{}.norms.{}.weight", from, i));
      w.rewrite(names, {{fmt::format("{}.weight", to), {heads, c.head_dim}, [](const auto& weights) {
                           return mx::stack(weights);
                         }}});
    }
    return w;
  }

  nn::GroupedAttention self_attn_;
  nn::MLP mlp_;
  nn::LayerNorm input_layernorm_;
  std::optional<nn::LayerNorm> post_attention_layernorm_;
};

using Model = DecoderModel<Config, TransformerBlock, nn::LayerNorm>;

}  // namespace

MLX_LM_ARCHITECTURE(stablelm, Model, "stablelm");

}  // namespace mlx_lm::models
