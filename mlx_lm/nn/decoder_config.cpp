#include "mlx_lm/nn/decoder_config.h"

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {

DecoderConfig::DecoderConfig(const ConfigReader& c, const Defaults& defaults)
    : hidden_size(c.get_size("hidden_size")),
      num_hidden_layers(c.get_size("num_hidden_layers", 1, 4096)),
      intermediate_size(c.get_size("intermediate_size")),
      num_attention_heads(c.get_size("num_attention_heads", 1, 65536)),
      num_key_value_heads(c.get_size_or("num_key_value_heads", num_attention_heads, 1, num_attention_heads)),
      head_dim(c.get_size_or("head_dim", hidden_size / num_attention_heads, 1, 65536)),
      vocab_size(c.get_size("vocab_size")),
      rms_norm_eps(defaults.norm_eps_value ? c.get<float>(defaults.norm_eps, *defaults.norm_eps_value)
                                           : c.get<float>(defaults.norm_eps)),
      tie_word_embeddings(c.get<bool>("tie_word_embeddings", defaults.tie_word_embeddings)) {
  if (num_attention_heads % num_key_value_heads != 0) {
    fail<ConfigError>("[config] {}: num_key_value_heads: expected a divisor of {} heads, found {}", c.where(),
                      num_attention_heads, num_key_value_heads);
  }
  // Also where it was not given: fewer hidden numbers than heads leave none for a head.
  if (head_dim < 1 || int64_t(num_attention_heads) * head_dim > ConfigReader::kMaxSize) {
    fail<ConfigError>("[config] {}: head_dim: expected from 1 to {} for {} heads, found {}", c.where(),
                      ConfigReader::kMaxSize / num_attention_heads, num_attention_heads, head_dim);
  }
  if (rms_norm_eps < 0) {
    fail<ConfigError>("[config] {}: {}: expected at least 0, found {}", c.where(), defaults.norm_eps, rms_norm_eps);
  }
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (c.has(key)) rope_scaling = c.sub(key);
  }
  rope.dims = head_dim;
  if (rope_scaling && rope_scaling->has("rope_theta")) {
    rope.base = rope_scaling->get<float>("rope_theta");
  } else {
    rope.base = defaults.rope_theta ? c.get<float>("rope_theta", *defaults.rope_theta) : c.get<float>("rope_theta");
  }
  rope.traditional = c.get<bool>("rope_traditional", false);
  rope.max_position_embeddings = c.get_size_or("max_position_embeddings", 0, 0);
}

void DecoderConfig::read_layer_types(const ConfigReader& c) {
  const auto types = c.get<std::vector<std::string>>("layer_types", {});
  if (types.empty()) return;
  if (int(types.size()) != num_hidden_layers) {
    fail<ConfigError>("[config] {}: layer_types: expected {} entries, found {}", c.where(), num_hidden_layers,
                      types.size());
  }
  for (const auto& type : types) windows.push_back(type == "sliding_attention" ? c.get_size("sliding_window") : 0);
}

void DecoderConfig::scale_residuals(const ConfigReader& c, const std::string& key, float multiplier) {
  if (multiplier <= 0)
    fail<ConfigError>("[config] {}: {}: expected a number above 0, found {}", c.where(), key, multiplier);
  embedding_multiplier /= multiplier;
  rms_norm_eps /= multiplier * multiplier;
}

void DecoderConfig::read_partial_rotary(const ConfigReader& c, const std::string& key, std::optional<float> fallback) {
  const float part = fallback ? c.get<float>(key, *fallback) : c.get<float>(key);
  if (part <= 0 || part > 1) {
    fail<ConfigError>("[config] {}: {}: expected a number above 0, at most 1, found {}", c.where(), key, part);
  }
  rope.dims = int(float(head_dim) * part);
}

}  // namespace mlx_lm::nn
