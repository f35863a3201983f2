#include "mlx_lm/cache/footprint.h"

#include <algorithm>
#include <limits>

#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/cache/chunked.h"
#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/cache/rotating.h"

namespace mlx_lm::cache {

Footprint::Footprint(const KVCaches& caches, int step) {
  for (const auto& cache : caches) add(*cache, step);
}

void Footprint::add(const Cache& cache, int step) {
  if (const auto* list = dynamic_cast<const CacheList*>(&cache)) {
    for (const auto& part : list->caches()) add(*part, step);
    return;
  }
  const auto* kv = dynamic_cast<const KVCache*>(&cache);
  if (!kv || !kv->keys()) {
    fixed_ += cache.nbytes();
    return;
  }
  const auto* ring = dynamic_cast<const RotatingKVCache*>(&cache);
  const auto* chunked = dynamic_cast<const ChunkedKVCache*>(&cache);
  const int most = ring      ? ring->max_size() + step
                   : chunked ? chunked->chunk_size() + step
                             : std::numeric_limits<int>::max();
  rows_.push_back({cache.nbytes() / std::max(1, kv->keys()->rows()), most});
}

size_t Footprint::operator()(int tokens) const {
  constexpr int kStep = 256;  // rows that buffers grow by
  const size_t rounded = (size_t(std::max(tokens, 1)) + kStep - 1) / kStep * kStep;
  size_t bytes = fixed_;
  for (const auto& layer : rows_) bytes += layer.bytes * std::min(rounded, size_t(layer.most));
  return bytes;
}

}  // namespace mlx_lm::cache
