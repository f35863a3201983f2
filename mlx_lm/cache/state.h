// The cache of a recurrent layer: arrays that each step replaces. Source: mlx-lm's ArraysCache.
//
// They are never written in place, so that who holds them holds what they were.
#pragma once

#include <optional>
#include <vector>

#include "mlx_lm/cache/cache.h"
#include "mlx_lm/ops/recurrent.h"

namespace mlx_lm::cache {

class StateCache : public Cache {
 public:
  // So many arrays, each null before the first step.
  explicit StateCache(int arrays) : states_(arrays) {}
  explicit StateCache(std::vector<std::optional<mx::array>> states) : states_(std::move(states)) {}

  // Array i of each text of a step of so many tokens, to be replaced.
  virtual ops::StateRuns runs(int i, int tokens) { return {{tokens, &states_.at(i)}}; }
  // Counts the tokens of a step as seen.
  virtual void advance(int tokens) { offset_ += tokens; }

  const std::vector<std::optional<mx::array>>& states() const { return states_; }

  void assume_offset(int tokens) override { offset_ = tokens; }
  int trimmable() const override { return 0; }
  int trim(int) override { return 0; }
  int draftable() const override { return 1; }
  std::unique_ptr<Cache> copy() const override;
  std::unique_ptr<Cache> shallow_copy() const override { return std::make_unique<StateCache>(*this); }
  std::vector<mx::array*> arrays() override;

 private:
  std::vector<std::optional<mx::array>> states_;
};

// A layer's cache, where it is one of states (a model that asks made it so).
inline StateCache& states(Cache& cache) { return dynamic_cast<StateCache&>(cache); }

}  // namespace mlx_lm::cache
