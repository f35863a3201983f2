// What the AVX2 files share. Included only where AVX2, FMA and F16C are on; all `static`, see convert.h.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

// 8 numbers as float32, from any address.
template <Type type>
[[maybe_unused]] static inline __m256 load8(const void* from) {
  if constexpr (type == Type::f32) return _mm256_loadu_ps(static_cast<const float*>(from));
  if constexpr (type == Type::u8) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from))));
  }
  const __m128i bits = _mm_loadu_si128(static_cast<const __m128i*>(from));
  if constexpr (type == Type::f16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// All ones in the first n < 8 places.
[[maybe_unused]] static inline __m256i first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The first n < 8 numbers, then zeros; reads nothing past them.
template <Type type>
[[maybe_unused]] static inline __m256 load_part(const void* from, int n) {
  if constexpr (type == Type::f32) return _mm256_maskload_ps(static_cast<const float*>(from), first(n));
  if constexpr (type == Type::u8) {
    uint8_t codes[8] = {};
    std::memcpy(codes, from, n);
    return load8<type>(codes);
  }
  alignas(16) uint16_t numbers[8] = {};
  const uint16_t* next = static_cast<const uint16_t*>(from);
  uint16_t* to = numbers;
  if (n & 4) std::memcpy(to, next, 8), next += 4, to += 4;
  if (n & 2) std::memcpy(to, next, 4), next += 2, to += 2;
  if (n & 1) std::memcpy(to, next, 2);
  return load8<type>(numbers);
}

[[maybe_unused]] static inline void store_part(float* to, __m256 value, int n) {
  _mm256_maskstore_ps(to, first(n), value);
}

[[maybe_unused]] static inline float sum8(__m256 v) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

[[maybe_unused]] static inline int sum8(__m256i v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

[[maybe_unused]] static inline float max8(__m256 v) {
  __m128 most = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}

// The sums of a, b, c and d.
[[maybe_unused]] static inline __m128 sums4(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256 halves = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

// exp(x), with an error of about 1 ulp: x = n ln 2 + r, and a polynomial for exp(r) that cephes' expf uses.
// Results below 2^-126 become 0, those above 2.4e38 (2^127.5) infinity.
[[maybe_unused]] static inline __m256 exp8(__m256 x) {
  const __m256 low = _mm256_set1_ps(-87.33654f);
  const __m256 tiny = _mm256_cmp_ps(x, low, _CMP_LT_OQ);
  x = _mm256_max_ps(low, _mm256_min_ps(_mm256_set1_ps(88.7f), x));  // this order lets a NaN through
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | 8);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1.f)));
  const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_andnot_ps(tiny, _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

// tanh(x), with an error of about 2 ulp: cephes' polynomial near 0, 1 - 2 / (exp(2 |x|) + 1) further out.
[[maybe_unused]] static inline __m256 tanh8(__m256 x) {
  const __m256 sign = _mm256_set1_ps(-0.f), one = _mm256_set1_ps(1.f), two = _mm256_set1_ps(2.f);
  const __m256 size = _mm256_andnot_ps(sign, x), z = _mm256_mul_ps(x, x);
  __m256 p = _mm256_set1_ps(-5.70498872745e-3f);
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.06390887954e-2f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.37397155531e-2f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.33314422036e-1f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.33332819422e-1f));
  const __m256 near = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
  const __m256 e = exp8(_mm256_mul_ps(two, size));
  const __m256 far = _mm256_sub_ps(one, _mm256_div_ps(two, _mm256_add_ps(e, one)));
  const __m256 is_near = _mm256_cmp_ps(size, _mm256_set1_ps(0.625f), _CMP_LT_OQ);
  return _mm256_blendv_ps(_mm256_or_ps(far, _mm256_and_ps(sign, x)), near, is_near);
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
