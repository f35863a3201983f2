// Products in which every row of activations has a matrix of its own out of a stack: a mixture of experts.
#pragma once

#include <memory>
#include <span>

#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::kernels {

// n products, in any order: product t is of the matrix experts[t] and row t / per of x.
// A product of an expert that does not exist is zeros.
struct ExpertRows {
  const int32_t* experts = nullptr;  // numbers below 0, or of more than there are, are allowed
  int n = 0;
  int per = 1;  // the experts that each row of x goes to
};

// The matrices of all experts, one or more, of one shape and kind: packed, or floating-point.
struct ExpertStack {
  std::span<const std::shared_ptr<const PackedMatrix>> packed = {};
  std::span<const DenseMatrix> dense = {};

  int experts() const { return static_cast<int>(packed.empty() ? dense.size() : packed.size()); }
  int rows() const;
};

struct ExpertProduct {
  ExpertStack w;
  float* y;  // (n, rows)
};
// y[t] = W[experts[t]] x[t / per] for each of the products, whose stacks have as many experts and columns. x: (ceil(n /
// per), cols). The bits are those of PackedMatrix::matmul of each row, or of kernels::matmul of all rows of an expert
// together. Reads the weights of each expert in use once for up to 4 of its rows, then once for some hundred; all
// products of a kind in one parallel step.
void expert_matmul(std::span<const ExpertProduct> products, const float* x, const ExpertRows& rows);
inline void expert_matmul(const ExpertStack& w, const float* x, const ExpertRows& rows, float* y) {
  const ExpertProduct product{w, y};
  expert_matmul(std::span(&product, 1), x, rows);
}

}  // namespace mlx_lm::kernels
