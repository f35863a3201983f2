#include "mlx_lm/cache/cache_list.h"

#include <algorithm>

namespace mlx_lm::cache {

int CacheList::offset() const {
  int most = 0;
  for (const auto& cache : caches_) most = std::max(most, cache->offset());
  return most;
}

void CacheList::assume_offset(int tokens) {
  for (auto& cache : caches_) cache->assume_offset(tokens);
}

int CacheList::trim(int n) {
  n = std::min(n, trimmable());
  cache::trim(caches_, n);
  return n;
}

std::vector<mx::array*> CacheList::arrays() {
  std::vector<mx::array*> arrays;
  for (const auto& cache : caches_) {
    for (mx::array* array : cache->arrays()) arrays.push_back(array);
  }
  return arrays;
}

}  // namespace mlx_lm::cache
