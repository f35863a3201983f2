// GPT-NeoX and Pythia: attention and MLP side by side or in a row, layer norms, biases; a part of each head rotates.
// Source: mlx_lm/models/gpt_neox.py of mlx-lm 0.32. Keys follow Hugging Face's GPTNeoXConfig.

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/config_names.h"
#include "mlx_lm/nn/decoder_config.h"
#include "mlx_lm/nn/grouped_attention.h"

namespace mlx_lm::models {
namespace {

struct Config : nn::DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(
            nn::with_usual_names(c, {{"rotary_emb_base", "rope_theta"}, {"hidden_size", "intermediate_size"}}),
            {.rope_theta = std::nullopt,
             .tie_word_embeddings = false,
             .norm_eps = "layer_norm_eps",
             .norm_eps_value = std::nullopt}),
        use_parallel_residual(c.get<bool>("use_parallel_residual", true)) {
    read_partial_rotary(c, "rotary_pct");
    num_key_value_heads = num_attention_heads;
    intermediate_size = 4 * hidden_size;
    tie_word_embeddings = false;
    rope_scaling.reset();
    names = {.model = "model",
             .embed_tokens = "embed_in",
             .positions = "",
             .layers = "h",
             .norm = "final_layer_norm",
             .lm_head = "model.embed_out"};
  }
  nn::LayerNorm norm(const nn::Weights& w) const { return {w, hidden_size, rms_norm_eps}; }

  bool use_parallel_residual;
};

class TransformerBlock {
 public:
  TransformerBlock(const Config& c, const nn::Weights& w, int)
      : parallel_(c.use_parallel_residual),
        attention_(split(w / "attention", c), options(c)),
        mlp_(w / "mlp" / "dense_h_to_4h", w / "mlp" / "dense_4h_to_h", c.hidden_size, c.intermediate_size,
             ops::Gelu::tanh),
        input_layernorm_(c.norm(w / "input_layernorm")),
        post_attention_layernorm_(c.norm(w / "post_attention_layernorm")) {}

  // (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::KVCache& cache) const {
    const auto h = ops::residual_add(x, attention_(input_layernorm_(x), cache));
    return ops::residual_add(h, mlp_(post_attention_layernorm_(parallel_ ? x : h)));
  }

 private:
  static nn::GroupedAttention::Options options(const Config& c) {
    nn::GroupedAttention::Options o(c);
    o.qkv_bias = o.out_bias = true;
    o.out = "dense";
    return o;
  }
  // Query, key and value of each head lie together.
  static const nn::Weights& split(const nn::Weights& w, const Config& c) {
    const int rows = c.num_attention_heads * c.head_dim;
    w.split("query_key_value", {{"q_proj", rows}, {"k_proj", rows}, {"v_proj", rows}}, c.num_attention_heads);
    return w;
  }

  bool parallel_;
  nn::GroupedAttention attention_;
  nn::GeluMLP mlp_;
  nn::LayerNorm input_layernorm_, post_attention_layernorm_;
};

struct Model final : DecoderModel<Config, TransformerBlock, nn::LayerNorm> {
  Model(const ConfigReader& reader, const nn::Weights& w) : DecoderModel(reader, published(w)) {}

  // Published checkpoints have other names for the whole, and carry the causal mask.
  static const nn::Weights& published(const nn::Weights& w) {
    for (const char* mask : {"attention.bias", "attention.masked_bias"}) w.ignore(mask);
    w.rename("gpt_neox.layers", "model.h");
    w.rename("gpt_neox", "model");
    w.rename("embed_out", "model.embed_out");
    return w;
  }
};

}  // namespace

MLX_LM_ARCHITECTURE(gpt_neox, Model, "gpt_neox");

}  // namespace mlx_lm::models
