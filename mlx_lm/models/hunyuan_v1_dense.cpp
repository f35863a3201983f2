// Hunyuan 1, dense: Llama with a norm over each head of the queries and keys after they have rotated.
// Source: mlx_lm/models/hunyuan_v1_dense.py of mlx-lm 0.32. Keys follow Hugging Face's HunYuanDenseV1Config.
// Shapes: B batch, L new tokens, E hidden, H heads, K kv heads, D head dim.

#include <cmath>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/decoder_config.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = false}),
        attention_bias(c.get<bool>("attention_bias", false)),
        use_qk_norm(c.get<bool>("use_qk_norm", true)) {
    // Whatever type the scaling names, it is alpha that counts: it stretches the base once and for all.
    const auto scaling = std::exchange(rope_scaling, std::nullopt);
    if (!scaling || !scaling->has("alpha")) return;
    const float alpha = scaling->get<float>("alpha");
    if (alpha <= 0 || head_dim <= 2) {
      fail<ConfigError>("[config] {}: alpha: expected a number above 0 and heads of more than 2 numbers, found {}, {}",
                        scaling->where(), alpha, head_dim);
    }
    rope.base *= std::pow(alpha, float(head_dim) / float(head_dim - 2));
  }

  bool attention_bias, use_qk_norm;
};

class Attention {
 public:
  Attention(const Config& c, const nn::Weights& w)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        scale_(1.f / std::sqrt(float(c.head_dim))),
        q_proj_(w / "q_proj", c.hidden_size, heads_ * c.head_dim, c.attention_bias),
        k_proj_(w / "k_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        v_proj_(w / "v_proj", c.hidden_size, kv_heads_ * c.head_dim, c.attention_bias),
        o_proj_(w / "o_proj", heads_ * c.head_dim, c.hidden_size, c.attention_bias),
        rope_(c.rope, std::nullopt) {
    if (!c.use_qk_norm) return;
    query_layernorm_.emplace(w / "query_layernorm", c.head_dim, c.rms_norm_eps);
    key_layernorm_.emplace(w / "key_layernorm", c.head_dim, c.rms_norm_eps);
  }

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
    const auto runs = cache.runs(x.shape(1));
    q = rope_(nn::split_heads(q, heads_), runs);     // (B, L, H, D)
    k = rope_(nn::split_heads(k, kv_heads_), runs);  // (B, L, K, D)
    v = nn::split_heads(v, kv_heads_);               // (B, L, K, D)
    if (query_layernorm_) q = (*query_layernorm_)(q), k = (*key_layernorm_)(k);
    const nn::AttendOptions options{.scale = scale_, .window = 0, .softcap = 0, .sinks = {}};
    return o_proj_(nn::merge_heads(nn::attend(q, k, v, nullptr, cache, options)));
  }

 private:
  int heads_, kv_heads_;
  float scale_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  std::optional<nn::RMSNorm> query_layernorm_, key_layernorm_;
  nn::Rope rope_;
};

struct TransformerBlock : nn::TransformerBlock<Attention> {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : nn::TransformerBlock<Attention>(w, c.hidden_size, c.rms_norm_eps, Attention(c, w / "self_attn"),
                                        nn::MLP(w / "mlp", c.hidden_size, c.intermediate_size)) {}
};

using Model = DecoderModel<Config, TransformerBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(hunyuan_v1_dense, Model, "hunyuan_v1_dense");

}  // namespace mlx_lm::models
