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

void eval_state(const cache::KVCaches& caches) {
  std::vector<mx::array> state;
  for (const auto& cache : caches) {
    for (auto& array : cache->state()) state.push_back(std::move(array));
  }
  mx::eval(std::move(state));
}

}  // namespace mlx_lm
