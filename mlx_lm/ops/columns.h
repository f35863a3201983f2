// Some columns of a wider array, so that what one product gives need not be copied apart.
#pragma once

#include <mlx/mlx.h>

#include "mlx_lm/kernels/recurrent.h"

namespace mlx_lm::ops {
namespace mx = mlx::core;

// Column j stands at begin + j / piece * apart + j % piece of the last axis.
struct Columns {
  mx::array x;
  int begin = 0;
  int count = 0;
  int piece = 0;  // neighbours
  int apart = 0;  // from the beginning of one piece to that of the next

  // All of them.
  Columns(mx::array all) : Columns(std::move(all), 0, 0) { piece = apart = count = x.shape(-1); }
  Columns(mx::array x, int begin, int count) : Columns(std::move(x), begin, count, count, count) {}
  Columns(mx::array x, int begin, int count, int piece, int apart)
      : x(std::move(x)), begin(begin), count(count), piece(piece), apart(apart) {}

  // Of numbers that have been computed.
  kernels::Columns over(const float* data) const { return {data, size_t(x.shape(-1)), begin, count, piece, apart}; }
};

// Those columns by themselves. Shapes: (..., width) -> (..., count). Lazy; float32 by the kernels, x's type by MLX.
mx::array take_columns(const Columns& columns);

// x / (1 + exp(-gate)). Shapes: x (..., n), as many columns -> (..., n). Lazy; types as above.
mx::array sigmoid_gate(const mx::array& x, const Columns& gate);

}  // namespace mlx_lm::ops
