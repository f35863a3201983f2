// What a stack of experts is made of: for the files of this folder only.
#pragma once

#include <vector>

#include "mlx_lm/kernels/experts.h"
#include "mlx_lm/ops/experts.h"
#include "mlx_lm/ops/matrix_form.h"

namespace mlx_lm::ops {

// One of three, as in Matrix::Form.
struct ExpertMatrices::Form {
  int experts = 0, rows = 0, cols = 0;
  mx::Dtype dtype = mx::float32;
  std::vector<std::shared_ptr<const kernels::PackedMatrix>> packed = {};
  std::vector<kernels::DenseMatrix> dense = {};
  std::vector<mx::array> owners = {};  // of the floating-point numbers
  std::optional<mx::array> weight = {}, scales = {}, biases = {};
  Quantization quantization = {};

  kernels::ExpertStack stack() const { return {packed, dense}; }
};

}  // namespace mlx_lm::ops
