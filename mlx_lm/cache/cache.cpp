#include "mlx_lm/cache/cache.h"

#include <algorithm>

namespace mlx_lm::cache {

std::vector<mx::array> Cache::state() const {
  std::vector<mx::array> state;
  for (const mx::array* array : const_cast<Cache*>(this)->arrays()) state.push_back(*array);
  return state;
}

size_t Cache::nbytes() const {
  size_t sum = 0;
  for (const auto& array : state()) sum += array.nbytes();
  return sum;
}

int trimmable(const KVCaches& caches) {
  int least = caches.empty() ? 0 : caches[0]->trimmable();
  for (const auto& cache : caches) least = std::min(least, cache->trimmable());
  return least;
}

int draftable(const KVCaches& caches) {
  int least = caches.empty() ? 1 : caches[0]->draftable();
  for (const auto& cache : caches) least = std::min(least, cache->draftable());
  return least;
}

void trim(KVCaches& caches, int n) {
  for (auto& cache : caches) cache->trim(n);
}

KVCaches copy(const KVCaches& caches) {
  KVCaches copies;
  for (const auto& cache : caches) copies.push_back(cache->copy());
  return copies;
}

KVCaches shallow_copy(const KVCaches& caches) {
  KVCaches copies;
  for (const auto& cache : caches) copies.push_back(cache->shallow_copy());
  return copies;
}

size_t nbytes(const KVCaches& caches) {
  size_t sum = 0;
  for (const auto& cache : caches) sum += cache->nbytes();
  return sum;
}

}  // namespace mlx_lm::cache
