// InternLM 2 and 2.5: Llama by other names.
// Source: mlx_lm/models/internlm2.py of mlx-lm 0.32. Keys follow the InternLM2Config of its checkpoints.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.rope_theta = 10000.f, .tie_word_embeddings = false}), bias(c.get<bool>("bias", true)) {
    if (!c.has("max_position_embeddings")) rope.max_position_embeddings = 32768;
    names.embed_tokens = "tok_embeddings";
    names.lm_head = "output";
  }

  bool bias;
};

struct TransformerBlock : nn::TransformerBlock<nn::GroupedAttention> {
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : nn::TransformerBlock<nn::GroupedAttention>(
            named(w, c), c.hidden_size, c.rms_norm_eps, nn::GroupedAttention(named(w, c) / "attention", options(c)),
            nn::MLP(named(w, c) / "feed_forward", c.hidden_size, c.intermediate_size)) {}

  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = o.out_bias = c.bias;
    o.out = "wo";
    return o;
  }
  // Called for each part, which it does not matter; the queries of a group lie together with their key and value.
  static const nn::Weights& named(const nn::Weights& w, const Config& c) {
    w.rename("attention_norm", "input_layernorm");
    w.rename("ffn_norm", "post_attention_layernorm");
    w.rename("feed_forward.w1", "feed_forward.gate_proj");
    w.rename("feed_forward.w2", "feed_forward.down_proj");
    w.rename("feed_forward.w3", "feed_forward.up_proj");
    const int kv = c.num_key_value_heads * c.head_dim;
    (w / "attention")
        .split("wqkv", {{"q_proj", c.num_attention_heads * c.head_dim}, {"k_proj", kv}, {"v_proj", kv}},
               c.num_key_value_heads);
    return w;
  }
};

struct Model final : DecoderModel<Config, TransformerBlock> {
  Model(const ConfigReader& reader, const nn::Weights& w) : DecoderModel(reader, w) { w.ignore("rope.inv_freq"); }
};

}  // namespace

MLX_LM_ARCHITECTURE(internlm2, Model, "internlm2");

}  // namespace mlx_lm::models
