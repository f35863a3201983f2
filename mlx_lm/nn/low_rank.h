// What an adapter adds to a layer while it runs, so that its base, quantized or not, stays exactly what it is.
#pragma once

#include <memory>
#include <optional>

#include <mlx/mlx.h>

#include "mlx_lm/nn/weights.h"
#include "mlx_lm/ops/matrix.h"

namespace mlx_lm::nn {

// LoRA: y = W x + up^T (down x) + bias. DoRA: y = (W x + up^T (down x)) * m / |W + up^T down| + bias, the length of
// each row. The lengths depend on weights only and are computed once. Source: mlx-lm's tuner/lora.py and tuner/dora.py.
class LowRank {
 public:
  // What the scope's adapter adds to `base`; null if it has none.
  // Eval: forces the evaluation of its tensors.
  static std::shared_ptr<const LowRank> take(const Weights& w, const ops::Matrix& base,
                                             const std::optional<mx::array>& bias, MatrixUse use);
  // Shapes: down (r, in), up (r, out), stretch (out), all float32. bias: added after stretching.
  LowRank(ops::Matrix down, mx::array up, std::optional<mx::array> stretch, std::optional<mx::array> bias);

  const ops::Matrix& down() const { return down_; }
  // Whether the base's bias is left to add().
  bool stretches() const { return stretch_.has_value(); }
  // y: the base's product; low: down's, with the same x. Shapes: y (..., out), low (..., r) -> (..., out).
  mx::array add(const mx::array& y, const mx::array& low) const;

 private:
  ops::Matrix down_;
  mx::array up_;
  std::optional<mx::array> stretch_, bias_;
};

// The same for a table of vectors, which is the output layer as well where the model ties them.
class LowRankTable {
 public:
  static std::shared_ptr<const LowRankTable> take(const Weights& w, const ops::Matrix& base);

  // rows: the table's own. Shapes: rows (..., E), tokens (...) -> (..., E).
  mx::array add(const mx::array& rows, const mx::array& tokens) const;
  // logits: the table's own. Shapes: logits (..., V), x (..., E) -> (..., V).
  mx::array as_linear(const mx::array& logits, const mx::array& x) const;

 private:
  LowRankTable(ops::Matrix table, LowRank lookup, LowRank output, std::optional<mx::array> stretch);

  ops::Matrix table_;  // (V, r)
  LowRank lookup_, output_;
  std::optional<mx::array> stretch_;  // (V)
};

}  // namespace mlx_lm::nn
