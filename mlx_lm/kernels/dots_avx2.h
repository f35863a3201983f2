// Sums of products of codes and activations that the Kinds of packed_avx2.h are made of. All are exact.
// Included only where AVX2, FMA and F16C are on; everything is in an unnamed namespace, see convert.h.
#pragma once

#include "mlx_lm/kernels/packed_avx2.h"

namespace mlx_lm::kernels {
namespace {

// Codes of 8 bits and activations of 8. pieces: whose pairs fit into 16 bits (packed_avx2.cpp); 1 stands for 8-bit
// codes less 128.
template <int pieces>
struct Int8Dots {
  using Code = int8_t;

  // 8 sums of 32 products.
  static __m256i dot(const __m256i* codes, const int8_t* x) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i total = _mm256_setzero_si256();
    for (int j = 0; j < 8; j += pieces) {
      __m256i pairs;
      if constexpr (pieces == 1) {
        pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes[j]), _mm256_sign_epi8(broadcast_bytes(x + 4 * j), codes[j]));
      } else {
        pairs = _mm256_maddubs_epi16(codes[j], broadcast_bytes(x + 4 * j));
        for (int k = j + 1; k < j + pieces; ++k) {
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes[k], broadcast_bytes(x + 4 * k)));
        }
      }
      const __m256i sums = _mm256_madd_epi16(pairs, ones);
      total = j == 0 ? sums : _mm256_add_epi32(total, sums);
    }
    return total;
  }

  // sums[i][b] = 8 such sums of block b and activation row i.
  template <int count>
  static void dot_tile(const __m256i* codes, const int8_t* x, size_t x_stride, __m256i (*sums)[kTogether]) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i pairs[count][kTogether];
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      __m256i w[kTogether];
      for (int b = 0; b < kTogether; ++b) w[b] = codes[kTogether * j + b];
      for (int i = 0; i < count; ++i) {
        const __m256i four = broadcast_bytes(x + i * x_stride + 4 * j);
        for (int b = 0; b < kTogether; ++b) {
          const __m256i product = pieces == 1
                                      ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[b]), _mm256_sign_epi8(four, w[b]))
                                      : _mm256_maddubs_epi16(w[b], four);
          pairs[i][b] = j % pieces == 0 ? product : _mm256_add_epi16(pairs[i][b], product);
          keep(pairs[i][b]);
          if (j % pieces != pieces - 1) continue;
          const __m256i fours = _mm256_madd_epi16(pairs[i][b], ones);
          sums[i][b] = j < pieces ? fours : _mm256_add_epi32(sums[i][b], fours);
        }
      }
    }
  }
};

// Codes and activations of 16 bits, in `vectors` vectors of 2 columns of 8 rows.
template <int vectors>
struct Int16Dots {
  using Code = int16_t;

  // 8 sums of 2 * vectors products.
  static __m256i dot(const __m256i* codes, const int16_t* x) {
    __m256i even = _mm256_madd_epi16(codes[0], broadcast_bytes(x));
    __m256i odd = _mm256_madd_epi16(codes[1], broadcast_bytes(x + 2));
    for (int p = 2; p < vectors; p += 2) {
      even = _mm256_add_epi32(even, _mm256_madd_epi16(codes[p], broadcast_bytes(x + 2 * p)));
      odd = _mm256_add_epi32(odd, _mm256_madd_epi16(codes[p + 1], broadcast_bytes(x + 2 * p + 2)));
    }
    return _mm256_add_epi32(even, odd);
  }

  // sums[i][b] = 8 such sums of block b and activation row i.
  template <int count>
  static void dot_tile(const __m256i* codes, const int16_t* x, size_t x_stride, __m256i (*sums)[kTogether]) {
#pragma GCC unroll 16
    for (int p = 0; p < vectors; ++p) {
      __m256i w[kTogether];
      for (int b = 0; b < kTogether; ++b) w[b] = codes[kTogether * p + b];
      for (int i = 0; i < count; ++i) {
        const __m256i two = broadcast_bytes(x + i * x_stride + 2 * p);
        for (int b = 0; b < kTogether; ++b) {
          const __m256i product = _mm256_madd_epi16(w[b], two);
          sums[i][b] = p == 0 ? product : _mm256_add_epi32(sums[i][b], product);
          keep(sums[i][b]);
        }
      }
    }
  }
};

}  // namespace
}  // namespace mlx_lm::kernels
