#include "mlx_lm/cache/state.h"

namespace mlx_lm::cache {

std::unique_ptr<Cache> StateCache::copy() const {
  mx::eval(state());
  return shallow_copy();
}

std::vector<mx::array*> StateCache::arrays() {
  std::vector<mx::array*> arrays;
  for (auto& state : states_) {
    if (state) arrays.push_back(&*state);
  }
  return arrays;
}

}  // namespace mlx_lm::cache
