// What a Matrix is made of: for the files of this folder only.
#pragma once

#include <memory>
#include <optional>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/matrix.h"

namespace mlx_lm::ops {

inline kernels::Type kernel_type(mx::Dtype dtype) {
  return dtype == mx::float16 ? kernels::Type::f16 : dtype == mx::bfloat16 ? kernels::Type::bf16 : kernels::Type::f32;
}

// One of three: packed for the kernels, floating-point for the kernels, or MLX's own arrays.
struct Matrix::Form {
  int rows, cols;
  mx::Dtype dtype;
  std::shared_ptr<const kernels::PackedMatrix> packed;
  std::optional<mx::array> weight;  // floating-point, or MLX's packed words
  std::optional<mx::array> scales, biases;
  Quantization quantization;

  kernels::DenseMatrix dense() const {
    return {.rows = rows, .cols = cols, .type = kernel_type(weight->dtype()), .data = weight->data<void>()};
  }
};

}  // namespace mlx_lm::ops
