// One small float at a time. All `static`, see convert.h.
#pragma once

#include "mlx_lm/kernels/convert.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

// 2^(code - 127); 255 gives infinity.
[[maybe_unused]] static inline float float_of_e8m0(uint8_t code) {
  return float_of_bits(code == 0 ? 0x00400000 : static_cast<uint32_t>(code) << 23);
}

// A sign, 4 bits of exponent, 3 of mantissa; no infinity, and 0x7f and 0xff are no numbers.
[[maybe_unused]] static inline float float_of_e4m3(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80) << 24, magnitude = code & 0x7f;
  if (magnitude == 0x7f) return float_of_bits(sign | 0x7fc00000);
  return float_of_bits(sign | magnitude << 20) * 0x1p120f;
}

// Twice the value of an e2m1 (a sign, 2 bits of exponent, 1 of mantissa), which is a whole number.
constexpr int8_t kTwiceE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

[[maybe_unused]] static inline float float_of_e2m1(uint8_t code) {
  const float value = 0.5f * static_cast<float>(kTwiceE2m1[code & 7]);
  return code & 8 ? -value : value;
}

// What multiplies row r's code of column c in [0, 32) of a group in PackedView's layout. Not of affine matrices.
[[maybe_unused]] static inline float small_float_scale(const PackedView& w, const uint8_t* group, int r, int c) {
  return w.format == Format::nvfp4 ? float_of_e4m3(group[c / 16 * kBlock + r]) : float_of_e8m0(group[r]);
}

// That code's value.
[[maybe_unused]] static inline float small_float(const PackedView& w, const uint8_t* group, int r, int c) {
  if (w.format == Format::mxfp8) return float_of_e4m3(group[kBlock + c * kBlock + r]);
  const uint8_t both = group[w.header_bytes() + c % 16 / 4 * 32 + r * 4 + c % 4];
  return float_of_e2m1(c < 16 ? both & 15 : both >> 4);
}

}  // namespace mlx_lm::kernels
