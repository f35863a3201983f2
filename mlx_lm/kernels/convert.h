// One number at a time between the storage types and float32.
// Everything is `static`: files with different instruction sets include this, and the linker would merge plain inline
// functions into whichever copy it met first, which might need AVX.
#pragma once

#include <cstdint>
#include <cstring>

#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::kernels {

[[maybe_unused]] static inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

[[maybe_unused]] static inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

[[maybe_unused]] static inline float float_of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // Put the exponent where float32 has it, and let a product correct the bias: exact for subnormal numbers too.
  const float value = float_of_bits(magnitude << 13) * 0x1p112f;
  return float_of_bits(sign | bits_of_float(value));
}

// Rounds to nearest, ties to even.
[[maybe_unused]] static inline uint16_t half_of_float(float value) {
  const uint32_t bits = bits_of_float(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | (magnitude >> 13 & 0x3ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // 65520 and more
  if (magnitude < 0x38800000) {                       // below 2^-14: the sum's last bit is 2^-24, half's smallest step
    return sign | static_cast<uint16_t>(bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000);
  }
  return sign | static_cast<uint16_t>((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

[[maybe_unused]] static inline float float_of_bfloat(uint16_t value) {
  return float_of_bits(static_cast<uint32_t>(value) << 16);
}

[[maybe_unused]] static inline uint16_t bfloat_of_float(float value) {
  const uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Number i of an array that need not be aligned.
[[maybe_unused]] static inline float load_number(Type type, const void* data, size_t i) {
  const char* from = static_cast<const char*>(data) + i * size_of(type);
  if (type == Type::f32) {
    float value;
    std::memcpy(&value, from, 4);
    return value;
  }
  if (type == Type::u8) return *reinterpret_cast<const uint8_t*>(from);
  uint16_t bits;
  std::memcpy(&bits, from, 2);
  return type == Type::f16 ? float_of_half(bits) : float_of_bfloat(bits);
}

[[maybe_unused]] static inline void store_number(float value, Type type, void* data, size_t i) {
  char* to = static_cast<char*>(data) + i * size_of(type);
  if (type == Type::f32) {
    std::memcpy(to, &value, 4);
    return;
  }
  const uint16_t bits = type == Type::f16 ? half_of_float(value) : bfloat_of_float(value);
  std::memcpy(to, &bits, 2);
}

}  // namespace mlx_lm::kernels
