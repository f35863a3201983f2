// AVX2: multiplications from registers alone.
#if defined(__x86_64__)
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/chains.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
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
  __m256i codes = _mm256_set1_epi16(7), x = _mm256_set1_epi16(-3);
  return chains<__m256i>(rounds, 16, [&](__m256i sum) {
    unknown(x);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, x));
  });
}

double float32_peak(int64_t rounds) {
  const __m256 w = _mm256_set1_ps(1e-3f), x = _mm256_set1_ps(1e-3f);
  return chains<__m256>(rounds, 8, [&](__m256 sum) { return _mm256_fmadd_ps(w, x, sum); });
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
