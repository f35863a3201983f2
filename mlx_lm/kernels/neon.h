// What the arm64 files share; all `static`, see convert.h.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

// 4 numbers as float32, from any address.
template <Type type>
[[maybe_unused]] static inline float32x4_t load4(const void* from) {
  const uint8_t* bytes = static_cast<const uint8_t*>(from);
  if constexpr (type == Type::f32) return vreinterpretq_f32_u8(vld1q_u8(bytes));
  if constexpr (type == Type::u8) {
    uint32_t four;
    std::memcpy(&four, bytes, 4);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
  }
  const uint8x8_t bits = vld1_u8(bytes);
  if constexpr (type == Type::f16) return vcvt_f32_f16(vreinterpret_f16_u8(bits));
  return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vreinterpret_u16_u8(bits)), 16));
}

// 8 numbers, the same.
template <Type type>
[[maybe_unused]] static inline float32x4x2_t load8(const void* from) {
  const uint8_t* bytes = static_cast<const uint8_t*>(from);
  if constexpr (type == Type::f32) return {load4<type>(bytes), load4<type>(bytes + 16)};
  if constexpr (type == Type::u8) {
    const uint16x8_t codes = vmovl_u8(vld1_u8(bytes));
    return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(codes))), vcvtq_f32_u32(vmovl_high_u16(codes))};
  }
  const uint8x16_t bits = vld1q_u8(bytes);
  if constexpr (type == Type::f16) {
    const float16x8_t halves = vreinterpretq_f16_u8(bits);
    return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
  }
  const uint16x8_t zero = vdupq_n_u16(0), numbers = vreinterpretq_u16_u8(bits);
  return {vreinterpretq_f32_u16(vzip1q_u16(zero, numbers)), vreinterpretq_f32_u16(vzip2q_u16(zero, numbers))};
}

// The first n < 4 of them, then zeros; reads nothing past them.
template <Type type>
[[maybe_unused]] static inline float32x4_t load_part(const void* from, int n) {
  alignas(16) char bytes[16] = {};
  std::memcpy(bytes, from, n * size_of(type));
  return load4<type>(bytes);
}

[[maybe_unused]] static inline void store_part(float* to, float32x4_t value, int n) {
  alignas(16) float numbers[4];
  vst1q_f32(numbers, value);
  std::memcpy(to, numbers, n * sizeof(float));
}

// The same for any n; less than 1 means none, more than 4 means 4.
[[maybe_unused]] static inline float32x4_t load_up_to(const float* from, int n) {
  return n >= 4 ? vld1q_f32(from) : n > 0 ? load_part<Type::f32>(from, n) : vdupq_n_f32(0);
}

[[maybe_unused]] static inline void store_up_to(float* to, float32x4_t value, int n) {
  if (n >= 4) {
    vst1q_f32(to, value);
  } else if (n > 0) {
    store_part(to, value, n);
  }
}

// exp(x), with an error of about 1 ulp: x = n ln 2 + r, and a polynomial for exp(r) that cephes' expf uses.
// Results below 2^-126 become 0, those above 2.4e38 (2^127.5) infinity.
[[maybe_unused]] static inline float32x4_t exp4(float32x4_t x) {
  const float32x4_t low = vdupq_n_f32(-87.33654f);
  const uint32x4_t tiny = vcltq_f32(x, low);
  x = vmaxq_f32(low, vminq_f32(vdupq_n_f32(88.7f), x));  // both let a NaN through
  const float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(1.44269504f)));
  float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
  r = vfmsq_f32(r, n, vdupq_n_f32(-2.12194440e-4f));
  float32x4_t p = vdupq_n_f32(1.9875691500e-4f);
  p = vfmaq_f32(vdupq_n_f32(1.3981999507e-3f), p, r);
  p = vfmaq_f32(vdupq_n_f32(8.3334519073e-3f), p, r);
  p = vfmaq_f32(vdupq_n_f32(4.1665795894e-2f), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.6666665459e-1f), p, r);
  p = vfmaq_f32(vdupq_n_f32(5.0000001201e-1f), p, r);
  p = vfmaq_f32(vaddq_f32(r, vdupq_n_f32(1.f)), p, vmulq_f32(r, r));
  const int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
  const float32x4_t value = vmulq_f32(p, vreinterpretq_f32_s32(power));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), tiny));
}

// The template function f for a type that is known only when the program runs.
#define MLX_LM_FOR_TYPE(type, f, ...)                \
  ((type) == Type::f32   ? f<Type::f32>(__VA_ARGS__) \
   : (type) == Type::f16 ? f<Type::f16>(__VA_ARGS__) \
                         : f<Type::bf16>(__VA_ARGS__))
// The same where the type may be u8.
#define MLX_LM_FOR_ANY_TYPE(type, f, ...) \
  ((type) == Type::u8 ? f<Type::u8>(__VA_ARGS__) : MLX_LM_FOR_TYPE(type, f, __VA_ARGS__))

}  // namespace mlx_lm::kernels
