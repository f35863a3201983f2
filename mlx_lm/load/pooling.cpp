#include "mlx_lm/load/pooling.h"

#include <map>
#include <optional>
#include <string>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/json_file.h"

namespace mlx_lm {
namespace {

// Source: llama.cpp, enum llama_pooling_type.
Pooling gguf_pooling(const ConfigReader& config) {
  switch (const int type = config.get<int>("pooling_type", 0)) {
    case 0:  // none is said
    case 1:
      return Pooling::mean;
    case 2:
      return Pooling::first;
    case 3:
      return Pooling::last;
    default:
      fail<ConfigError>("[embeddings] pooling_type: expected 0 to 3, found {}", type);
  }
}

// A module is known by its class: "sentence_transformers.models.Pooling".
void check_modules(const nlohmann::json& modules) {
  if (!modules.is_array()) fail<ConfigError>("[embeddings] modules.json: expected a list");
  for (const auto& module : modules) {
    const ConfigReader reader(module, "modules.json");
    const auto type = reader.get<std::string>("type");
    const auto name = type.substr(type.rfind('.') + 1);
    if (name != "Transformer" && name != "Pooling" && name != "Normalize") {
      fail<ConfigError>("[embeddings] modules.json: expected Transformer, Pooling and Normalize, found {:.100}", name);
    }
  }
}

// Source: sentence_transformers/models/Pooling.py.
Pooling folder_pooling(const nlohmann::json& config) {
  static const std::map<std::string, Pooling> kModes = {
      {"mean_tokens", Pooling::mean},
      {"mean_sqrt_len_tokens", Pooling::mean},
      {"weightedmean_tokens", Pooling::weighted_mean},
      {"cls_token", Pooling::first},
      {"lasttoken", Pooling::last},
      {"max_tokens", Pooling::max},
  };
  const ConfigReader reader(config, "1_Pooling/config.json");
  std::optional<Pooling> pooling;
  for (const auto& [mode, meaning] : kModes) {
    if (!reader.get<bool>("pooling_mode_" + mode, false)) continue;
    if (pooling) fail<ConfigError>("[embeddings] 1_Pooling/config.json: expected one pooling_mode, found several");
    pooling = meaning;
  }
  return pooling.value_or(Pooling::mean);
}

}  // namespace

Pooling read_pooling(const std::filesystem::path& path, const ConfigReader& config) {
  if (!std::filesystem::is_directory(path)) return gguf_pooling(config);
  if (const auto modules = read_json(path, "modules.json")) check_modules(*modules);
  const auto pooling = read_json(path, "1_Pooling/config.json");
  return pooling ? folder_pooling(*pooling) : Pooling::mean;
}

}  // namespace mlx_lm
