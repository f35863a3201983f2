// What the AVX-512 files of floating-point loops share. Included only where AVX-512 (F, BW, VL, DQ) is on; everything
// is in an unnamed namespace, see convert.h.
#pragma once

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own AVX-512 header (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#include "mlx_lm/kernels/avx2.h"

namespace mlx_lm::kernels {
namespace {

template <Type type>
inline __m512 widened(__m256i bits) {
  if constexpr (type == Type::f16) return _mm512_cvtph_ps(bits);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// 16 numbers as float32, from any address.
template <Type type>
inline __m512 load16(const void* from) {
  if constexpr (type == Type::f32) {
    return _mm512_loadu_ps(from);
  } else if constexpr (type == Type::u8) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))));
  } else {
    return widened<type>(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
  }
}

// The first n of 16 places.
inline __mmask16 first16(int n) { return static_cast<__mmask16>((1u << n) - 1); }

// The first n < 16 numbers, then zeros; reads nothing past them.
template <Type type>
inline __m512 load_part16(const void* from, int n) {
  if constexpr (type == Type::f32) {
    return _mm512_maskz_loadu_ps(first16(n), from);
  } else if constexpr (type == Type::u8) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first16(n), from)));
  } else {
    return widened<type>(_mm256_maskz_loadu_epi16(first16(n), from));
  }
}

// exp8 of avx2.h on 16 numbers; here results below 2^-126 stay what they are.
inline __m512 exp16(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.f), _mm512_min_ps(_mm512_set1_ps(89.f), x));  // lets a NaN through
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | 8);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.f)));
  return _mm512_scalef_ps(p, n);
}

}  // namespace
}  // namespace mlx_lm::kernels
