#include "mlx_lm/models/architecture.h"

#include <algorithm>
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

}  // namespace mlx_lm::models
