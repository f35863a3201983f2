#include "mlx_lm/cache/state.h"

namespace mlx_lm::cache {

ops::StateRuns StateCache::runs(int i, int tokens) {
  before_.at(i) = tokens == 1 ? states_.at(i) : std::nullopt;
  return {{tokens, &states_.at(i)}};
}

void StateCache::advance(int tokens) {
  offset_ += tokens;
  last_ = tokens;
}

int StateCache::trim(int n) {
  if (n < 1 || trimmable() == 0) return 0;
  states_ = before_;
  offset_ -= 1;
  last_ = 0;
  return 1;
}

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
