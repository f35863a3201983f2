// A weight matrix in whatever form its device multiplies fastest.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <mlx/mlx.h>

#include "mlx_lm/kernels/row_source.h"

namespace mlx_lm::ops {
namespace mx = mlx::core;

// How a quantized weight is packed; the names and meanings of MLX's `quantize`.
struct Quantization {
  int group_size = 64;          // weights that share one scale
  int bits = 4;                 // per weight
  std::string mode = "affine";  // affine, mxfp4, mxfp8, nvfp4

  bool operator==(const Quantization&) const = default;
};

// An immutable (rows, cols) weight: a linear layer's (out, in), an embedding's (vocabulary, width).
// On the CPU it is repacked once, when it is made, into the layout of the kernels, and the arrays that it was made
// from are let go; on a GPU it keeps MLX's own form. Copies share the data.
// Eval: making one forces the evaluation of its arrays on the CPU. Threads: safe to use from several.
class Matrix {
 public:
  // weight: (rows, cols) float16, bfloat16 or float32.
  static Matrix dense(mx::array weight);
  // weight: (rows, cols * bits / 32) uint32; scales, biases: (rows, cols / group_size), biases for affine only.
  // scales: float16, bfloat16 or float32 for affine, uint8 for the others.
  static Matrix quantized(mx::array weight, mx::array scales, std::optional<mx::array> biases, Quantization q);

  // Affine, in groups of 32, packed without MLX's arrays in between. For the kernels' backend only.
  static Matrix quantized(const kernels::RowSource& source);

  int rows() const;
  int cols() const;
  // The floating type that the checkpoint computes in (that of the weight, or of its affine scales; bfloat16 for the
  // mx and nv kinds).
  mx::Dtype dtype() const;
  // Bytes that a product with it reads.
  size_t nbytes() const;
  // Whether its products round their activations (kernels::Activations): those of quantized weights do by our kernels,
  // but for mxfp8.
  bool rounds_activations() const;

  struct Form;
  const Form& form() const { return *form_; }
  std::shared_ptr<const Form> shared() const { return form_; }

 private:
  explicit Matrix(std::shared_ptr<const Form> form) : form_(std::move(form)) {}
  std::shared_ptr<const Form> form_;
};

// Rows of w by number, dequantized. Shapes: ids (...) int32 -> (..., cols).
// The result is float32 on the CPU, where every later step computes in float32, and w.dtype() on a GPU.
mx::array take_rows(const Matrix& w, const mx::array& ids);

}  // namespace mlx_lm::ops
