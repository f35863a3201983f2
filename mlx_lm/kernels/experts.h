// Products in which every row of activations has a matrix of its own out of a stack: a mixture of experts.
#pragma once

#include <memory>
#include <span>

#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::kernels {

// n products, in any order: product t is of the matrix experts[t] and row t / per of x.
// A product of an expert that does not exist is zeros.
struct ExpertRows {
  const int32_t* experts = nullptr;
  int n = 0;
  int per = 1;  // the experts that each row of x goes to
};

// y[t] = W[experts[t]] x[t / per], the same bits as PackedMatrix::matmul's of those rows. x: (ceil(n / per), cols),
// y: (n, rows). Reads the weights of each expert in use once for up to 4 of its rows, then once for some hundred; all
// of them in one parallel step. w: one or more, of one shape and kind.
void expert_matmul(std::span<const std::shared_ptr<const PackedMatrix>> w, const float* x, const ExpertRows& rows,
                   float* y);
// The same for a stack of floating-point matrices: w is (experts * rows, cols), the bits are kernels::matmul's of all
// rows of an expert together.
void expert_matmul(const DenseMatrix& w, int experts, const float* x, const ExpertRows& rows, float* y);

}  // namespace mlx_lm::kernels
