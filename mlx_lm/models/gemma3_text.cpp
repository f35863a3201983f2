// Gemma 3, text: Gemma 2 with norms over each head of the queries and keys in place of the scores' soft cap, and five
// sliding layers, which have a rotary base of their own, before each that sees all tokens.
// Source: mlx_lm/models/gemma3_text.py of mlx-lm 0.32. Keys follow Hugging Face's Gemma3TextConfig.

#include <cmath>

#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/gemma.h"

namespace mlx_lm::models {
namespace {

// Configurations of several sizes leave out what the smallest has.
ConfigReader complete(const ConfigReader& c) {
  return c.with_defaults({{"hidden_size", 1152},
                          {"num_hidden_layers", 26},
                          {"intermediate_size", 6912},
                          {"num_attention_heads", 4},
                          {"head_dim", 256},
                          {"rms_norm_eps", 1e-6},
                          {"vocab_size", 262144},
                          {"num_key_value_heads", 1},
                          {"max_position_embeddings", 32768}});
}

struct Config : nn::GemmaConfig {
  explicit Config(const ConfigReader& c)
      : GemmaConfig(complete(c), {.rope_theta = 1000000.f, .tie_word_embeddings = true}),
        query_pre_attn_scalar(c.get_positive("query_pre_attn_scalar", 256.f)),
        local_rope(rope) {
    // Rounded, as it was in training.
    embedding_multiplier = mx::array(embedding_multiplier, mx::bfloat16).item<mx::bfloat16_t>();
    stores_inv_freq = false;
    const int sliding_window = c.get_size_or("sliding_window", 512);
    const int pattern = c.get_size_or("sliding_window_pattern", 6);  // the last of so many layers sees all tokens
    for (int i = 1; i <= num_hidden_layers; ++i) windows.push_back(i % pattern == 0 ? 0 : sliding_window);
    local_rope.base = c.get<float>("rope_local_base_freq", 10000.f);
    // Newer configurations have one object for each kind of layer.
    if (!c.has("rope_parameters") || !rope_scaling->has("full_attention")) return;
    const auto parameters = *rope_scaling;
    rope_scaling = parameters.sub("full_attention");
    rope.base = rope_scaling->get<float>("rope_theta", rope.base);
    if (!parameters.has("sliding_attention")) return;
    local_rope.base = parameters.sub("sliding_attention").get<float>("rope_theta", local_rope.base);
  }

  // Whatever the configuration says.
  bool tied(const nn::Weights& w) const { return !w.has("lm_head.weight"); }

  nn::GroupedAttention::Options attention(int layer) const {
    nn::GroupedAttention::Options o(*this);
    o.window = window(layer);
    if (o.window > 0) o.rope.emplace(local_rope, std::nullopt);
    o.scale = 1.f / std::sqrt(query_pre_attn_scalar);
    o.qk_norm = nn::HeadNorm::Kind::head;
    o.norm_offset = 1.f;
    return o;
  }

  float query_pre_attn_scalar;
  nn::Rope::Options local_rope;
};

using Model = DecoderModel<Config, nn::GemmaBlock>;

}  // namespace

MLX_LM_ARCHITECTURE(gemma3_text, Model, "gemma3_text");

}  // namespace mlx_lm::models
