// The scale and bias of a group of affine rows. In an unnamed namespace, see convert.h.
#pragma once

#include <cmath>

namespace mlx_lm::kernels {
namespace {

// What MLX's quantize gives the numbers from low to high for codes up to `most`: the end further from 0 is met exactly.
struct AffineGroup {
  float scale, bias;

  AffineGroup(float low, float high, float most) {
    const bool negative = std::fabs(low) > std::fabs(high);
    const float step = (high - low) / most, size = step < 1e-7f ? 1e-7f : step;
    scale = negative ? size : -size;
    const float edge = negative ? low : high, whole = std::nearbyint(edge / scale);
    bias = 0;
    if (whole != 0) scale = edge / whole, bias = edge;
  }
};

}  // namespace
}  // namespace mlx_lm::kernels
