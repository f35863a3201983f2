#include "mlx_lm/models/architecture.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "mlx_lm/base/edit_distance.h"
#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"

namespace mlx_lm::models {

cache::KVCaches LanguageModel::make_cache(int max_kv_size) const {
  cache::KVCaches caches;
  for (int i = 0; i < num_layers(); ++i) {
    if (max_kv_size > 0) {
      caches.push_back(std::make_unique<cache::RotatingKVCache>(dtype_, max_kv_size, /* keep */ 4));
    } else {
      caches.push_back(std::make_unique<cache::GrowingKVCache>(dtype_));
    }
  }
  return caches;
}

cache::KVCaches LanguageModel::make_cache(int max_kv_size, const std::vector<int>& windows) const {
  auto caches = LanguageModel::make_cache(max_kv_size);
  for (size_t i = 0; i < windows.size(); ++i) {
    if (windows[i] > 0) caches[i] = std::make_unique<cache::RotatingKVCache>(dtype_, windows[i]);
  }
  return caches;
}

const Architecture& find_architecture(const std::string& model_type) {
  const std::string shown = model_type.substr(0, 60);
  std::vector<std::string_view> known;
  for (const auto* architecture : architectures()) {
    for (auto type : architecture->types) {
      if (type == model_type) return *architecture;
      known.push_back(type);
    }
  }
  std::stable_sort(known.begin(), known.end(),
                   [&](auto a, auto b) { return edit_distance(a, shown) < edit_distance(b, shown); });
  fail<UnsupportedModel>("[models] model_type: expected one of {}; found {}", fmt::join(known, ", "), shown);
}

TextPart::TextPart(const ConfigReader& all, const nn::Weights& w)
    : config(all.has("text_config") ? all.sub("text_config") : all), weights(w / "language_model") {
  for (const char* tower : {"vision_tower", "vision_model", "visual", "multi_modal_projector", "mm_projector",
                            "audio_tower", "embed_audio", "embed_vision", "vision_embedder"}) {
    (w / tower).ignore("");
    (w / "model" / tower).ignore("");
  }
  // Newer checkpoints have model.language_model.layers beside model.visual, older ones model.layers beside visual.
  w.rename("model.language_model", "language_model.model");
  w.rename("model", "language_model.model");
  w.rename("lm_head", "language_model.lm_head");
}

void TextPart::set(const std::string& key, nlohmann::json value) {
  auto object = config.json();
  object[key] = std::move(value);
  config = ConfigReader(std::move(object), config.where());
}

void TextPart::set_default(const std::string& key, nlohmann::json value) {
  if (!config.has(key)) set(key, std::move(value));
}

std::unique_ptr<LanguageModel> TextPart::make(const std::string& model_type) const {
  return find_architecture(model_type).make(config, weights);
}

}  // namespace mlx_lm::models
