// Matrices of small floats in the layout of PackedView.
#pragma once

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

// Row r, dequantized. out: (cols).
void take_small_floats(const PackedView& w, int r, float* out);

// The activations that a matrix's products use where `wanted` are asked for.
inline Activations activations_for(const PackedView& w, Activations wanted) {
  if (w.format == Format::mxfp8) return Activations::float32;
  return w.format == Format::nvfp4 && wanted == Activations::int8 ? Activations::int16 : wanted;
}

}  // namespace mlx_lm::kernels
