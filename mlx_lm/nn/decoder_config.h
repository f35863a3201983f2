// The fields of config.json that nearly every decoder has.
#pragma once

#include <optional>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/nn/rope.h"

namespace mlx_lm::nn {

// Keys follow Hugging Face's configurations. A model's own Config derives from this and adds what is its own.
struct DecoderConfig {
  struct Defaults {
    std::optional<float> rope_theta = 10000.f;  // nullopt: the configuration must say
    bool tie_word_embeddings = true;
  };
  // Errors: ConfigError that names the field.
  DecoderConfig(const ConfigReader& c, const Defaults& defaults);

  int hidden_size;
  int num_hidden_layers;
  int intermediate_size;
  int num_attention_heads;
  int num_key_value_heads;
  int head_dim;
  int vocab_size;
  float rms_norm_eps;
  bool tie_word_embeddings;
  Rope::Options rope;
  std::optional<ConfigReader> rope_scaling;  // also read from rope_parameters, as newer configurations call it
};

}  // namespace mlx_lm::nn
