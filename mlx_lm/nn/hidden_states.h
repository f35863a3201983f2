// What a model's output layer reads, for callers who want that instead of logits.
#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlx_lm::nn {
namespace mx = mlx::core;

// While it lives, the states that output layers are given on its thread: those of the last layer, normed. With one
// inside another, the inner one has them.
class HiddenStates {
 public:
  HiddenStates();
  ~HiddenStates();
  HiddenStates(const HiddenStates&) = delete;
  HiddenStates& operator=(const HiddenStates&) = delete;

  // Of the newest step; one must have been built. Shapes: (B, L, E). Eval: lazy.
  const mx::array& operator*() const { return *newest_; }

  // Says what an output layer was given.
  static void pass(const mx::array& states);

 private:
  std::optional<mx::array> newest_;
  HiddenStates* const outer_;
};

}  // namespace mlx_lm::nn
