// AVX2: multiplications from registers alone.
#if defined(__x86_64__)
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

// A value of which the compiler knows nothing: what is computed from it is computed again each time.
inline void unknown(__m256i& value) { asm volatile("" : "+x"(value)); }
inline void unknown(__m256& value) { asm volatile("" : "+x"(value)); }

}  // namespace

namespace avx2 {

// As products with codes of up to 4 bits: the pairs of 8 pieces are added in 16 bits, then once in 32.
double int8_peak(int64_t rounds) {
  constexpr int kChains = 4, kPieces = 8;
  __m256i codes = _mm256_set1_epi8(7), x = _mm256_set1_epi8(-3), ones = _mm256_set1_epi16(1);
  __m256i sums[kChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    __m256i pairs[kChains];
#pragma GCC unroll 8
    for (int piece = 0; piece < kPieces; ++piece) {
#pragma GCC unroll 4
      for (int k = 0; k < kChains; ++k) {
        unknown(x);
        const __m256i products = _mm256_maddubs_epi16(codes, x);
        pairs[k] = piece == 0 ? products : _mm256_add_epi16(pairs[k], products);
        unknown(pairs[k]);
      }
    }
    for (int k = 0; k < kChains; ++k) sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(pairs[k], ones));
  }
  for (auto& sum : sums) unknown(sum);
  return static_cast<double>(rounds) * kChains * kPieces * 32;
}

double int16_peak(int64_t rounds) {
  constexpr int kChains = 8, kTimes = 4;
  __m256i codes = _mm256_set1_epi16(7), x = _mm256_set1_epi16(-3);
  __m256i sums[kChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
    for (int time = 0; time < kTimes; ++time) {
#pragma GCC unroll 8
      for (int k = 0; k < kChains; ++k) {
        unknown(x);
        sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(codes, x));
        unknown(sums[k]);
      }
    }
  }
  return static_cast<double>(rounds) * kChains * kTimes * 16;
}

double float32_peak(int64_t rounds) {
  constexpr int kChains = 12, kTimes = 4;  // 2 a cycle that take 4 cycles each, and some to spare
  __m256 w = _mm256_set1_ps(1e-3f), x = _mm256_set1_ps(1e-3f);
  __m256 sums[kChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
    for (int time = 0; time < kTimes; ++time) {
#pragma GCC unroll 12
      for (int k = 0; k < kChains; ++k) {
        sums[k] = _mm256_fmadd_ps(w, x, sums[k]);
        unknown(sums[k]);
      }
    }
  }
  return static_cast<double>(rounds) * kChains * kTimes * 8;
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
