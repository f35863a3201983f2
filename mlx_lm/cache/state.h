// The cache of a recurrent layer: arrays that each step replaces. Source: mlx-lm's ArraysCache.
//
// They are never written in place, so that who holds them holds what they were. A step of one token can be taken back
// (mlx-lm's cannot): a text that is stopped has read a token more than was handed out, as a rule.
#pragma once

#include <optional>
#include <vector>

#include "mlx_lm/cache/cache.h"
#include "mlx_lm/ops/recurrent.h"

namespace mlx_lm::cache {

class StateCache : public Cache {
 public:
  using States = std::vector<std::optional<mx::array>>;

  // So many arrays, each null before the first step.
  explicit StateCache(int arrays) : states_(arrays), before_(arrays) {}
  explicit StateCache(States states) : states_(std::move(states)), before_(states_.size()) {}

  // Array i of each text of a step of so many tokens, to be replaced.
  virtual ops::StateRuns runs(int i, int tokens);
  // Counts the tokens of a step as seen, after all of its runs.
  virtual void advance(int tokens);

  const States& states() const { return states_; }

  void assume_offset(int tokens) override { offset_ = tokens; }
  int trimmable() const override { return last_ == 1 ? 1 : 0; }
  int trim(int n) override;
  int draftable() const override { return 1; }
  std::unique_ptr<Cache> copy() const override;
  std::unique_ptr<Cache> shallow_copy() const override { return std::make_unique<StateCache>(*this); }
  std::vector<mx::array*> arrays() override;

 private:
  States states_;
  States before_;  // the last step, if it had one token
  int last_ = 0;   // tokens of that step; 0 when it was taken back
};

// A layer's cache, where it is one of states (a model that asks made it so).
inline StateCache& states(Cache& cache) { return dynamic_cast<StateCache&>(cache); }

}  // namespace mlx_lm::cache
