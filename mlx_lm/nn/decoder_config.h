// The fields of config.json that nearly every decoder has.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/nn/rope.h"

namespace mlx_lm::nn {

// Keys follow Hugging Face's configurations. A model's own Config derives from this and adds what is its own.
struct DecoderConfig {
  struct Defaults {
    std::optional<float> rope_theta = 10000.f;  // nullopt: the configuration must say
    bool tie_word_embeddings = true;
    std::string norm_eps = "rms_norm_eps";  // the field that has it
    std::optional<float> norm_eps_value = std::nullopt;
  };
  // Errors: ConfigError that names the field.
  DecoderConfig(const ConfigReader& c, const Defaults& defaults);

  // Reads layer_types ("full_attention", "sliding_attention") and sliding_window, if they are there.
  void read_layer_types(const ConfigReader& c);
  // Only a part of each head rotates, as the field says.
  void read_partial_rotary(const ConfigReader& c, const std::string& key, std::optional<float> fallback = std::nullopt);
  // Each block adds its output so many times: then the stream is kept smaller by that factor instead, which the norms,
  // given a larger eps, do not see, and no step has to multiply. Requires embedding_multiplier.
  // Errors: ConfigError, by the field's name, unless it is above 0.
  void scale_residuals(const ConfigReader& c, const std::string& key, float multiplier);
  // Tokens that a layer sees, the newest included; 0 for all.
  int window(int layer) const { return windows.empty() ? 0 : windows[layer]; }
  // A norm of the decoder's kind. A Config whose decoder has another kind hides this by its own.
  RMSNorm norm(const Weights& w) const { return {w, hidden_size, rms_norm_eps}; }
  // Whether the output layer is the embedding's. A Config that does not go by the field hides this too.
  bool tied(const Weights&) const { return tie_word_embeddings; }

  int hidden_size;
  int num_hidden_layers;
  int intermediate_size;
  int num_attention_heads;
  int num_key_value_heads;
  int head_dim;
  int vocab_size;
  float rms_norm_eps;  // or whatever Defaults::norm_eps calls it
  bool tie_word_embeddings;
  Rope::Options rope;
  std::optional<ConfigReader> rope_scaling;  // also read from rope_parameters, as newer configurations call it

  // What the constructor leaves as it is, for a model's own Config to say.
  std::vector<int> windows;          // see window(); empty: all layers see all
  float embedding_multiplier = 1.f;  // of the tokens' vectors
  float output_multiplier = 1.f;     // of what the output layer reads
  int learned_positions = 0;         // rows of a table of positions; 0: there is none
  bool lm_head_bias = false;
  bool stores_inv_freq = true;  // older checkpoints may have rotary_emb.inv_freq, which the configuration says anyway
  struct {                      // what checkpoints call the parts of the model
    const char* model = "model";
    const char* embed_tokens = "embed_tokens";
    const char* positions = "wpe";
    const char* layers = "layers";
    const char* norm = "norm";
    const char* lm_head = "lm_head";
  } names;
};

}  // namespace mlx_lm::nn
