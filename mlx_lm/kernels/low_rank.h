// What an adapter adds to a product.
#pragma once

namespace mlx_lm::kernels {

struct LowRankArgs {
  int n = 0, rank = 0, size = 0;
  const float* y = nullptr;         // (n, size)
  const float* low = nullptr;       // (n, rank)
  const float* up = nullptr;        // (rank, size)
  const float* stretch = nullptr;   // (size), or null for ones
  const float* bias = nullptr;      // (size), or null
  const float* residual = nullptr;  // (n, size), or null
};
// out = (y + low up) * stretch + bias + residual. out: (n, size); may be y or residual.
void add_low_rank(const LowRankArgs& args, float* out);

}  // namespace mlx_lm::kernels
