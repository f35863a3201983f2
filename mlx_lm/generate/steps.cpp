#include "mlx_lm/generate/steps.h"

#include <utility>
#include <vector>

#include "mlx_lm/ops/join.h"

namespace mlx_lm {

void join(cache::KVCaches& caches, std::vector<mx::array*> arrays) {
  for (const auto& cache : caches) {
    for (auto* array : cache->arrays()) arrays.push_back(array);
  }
  ops::join(arrays);
}

std::vector<mx::array> state(const cache::KVCaches& caches) {
  std::vector<mx::array> state;
  for (const auto& cache : caches) {
    for (auto& array : cache->state()) state.push_back(std::move(array));
  }
  return state;
}

void eval_state(const cache::KVCaches& caches) { mx::eval(state(caches)); }

}  // namespace mlx_lm
