// The weights of a mixture of experts in whatever form their device multiplies fastest.
#pragma once

#include <vector>

#include "mlx_lm/ops/matrix.h"

namespace mlx_lm::ops {

// An immutable stack of (rows, cols) weights, one for each expert. Otherwise like Matrix.
// Eval: making one forces the evaluation of its arrays on the CPU. Threads: safe to use from several.
class ExpertMatrices {
 public:
  // weight: (experts, rows, cols) float16, bfloat16 or float32.
  static ExpertMatrices dense(mx::array weight);
  // The parts of Matrix::quantized, stacked. Errors: WeightError, as there.
  static ExpertMatrices quantized(mx::array weight, mx::array scales, std::optional<mx::array> biases, Quantization q);

  // One matrix for each expert, of one shape and kind: on the CPU as they are, without a copy, else stacked.
  // Errors: WeightError for none, or for matrices that differ.
  static ExpertMatrices stacked(const std::vector<Matrix>& matrices);

  int experts() const;
  int rows() const;
  int cols() const;
  mx::Dtype dtype() const;
  // Bytes of all experts.
  size_t nbytes() const;
  // As Matrix has it.
  bool rounds_activations() const;

  struct Form;
  const Form& form() const { return *form_; }
  std::shared_ptr<const Form> shared() const { return form_; }

 private:
  explicit ExpertMatrices(std::shared_ptr<const Form> form) : form_(std::move(form)) {}
  std::shared_ptr<const Form> form_;
};

// x times the transposes of the experts that `indices` names. Shapes: indices (..., k) of integers; x (..., cols), each
// row for all its k experts, or (..., k, cols), one for each -> (..., k, rows). An index that names no expert gives
// zeros on the CPU and is not allowed on a GPU. The result is float32 on the CPU, else of x's type. Errors:
// std::invalid_argument for other shapes. Source: mlx-lm's models/switch_layers.py, whose sorting happens inside.
mx::array gather_matmul(const mx::array& x, const ExpertMatrices& w, const mx::array& indices);

// The same where every row goes through all of the matrices, one for each head. Shapes: x (B, L, H, cols), each head's
// rows with its own matrix, or (B, L, 1, cols), for all of them -> (B, L, H, rows). Source: mlx-lm's models/mla.py.
mx::array head_matmul(const mx::array& x, const ExpertMatrices& w);

// The numbers of a stack. Shapes: (experts, rows, cols) float32. Eval: forces. Expensive: for loading alone.
mx::array dequantized(const ExpertMatrices& w);

}  // namespace mlx_lm::ops
