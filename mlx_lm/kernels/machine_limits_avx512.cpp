// AVX-512 with VNNI: multiplications from registers alone.
#if defined(__x86_64__)
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kChains = 12, kTimes = 4;  // 2 a cycle that take 5 cycles each, and some to spare

// The sums of kChains chains of add(sum), which the compiler may neither merge nor leave out.
template <class Vector, class F>
inline double chains(int64_t rounds, int products, F add) {
  Vector sums[kChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
    for (int time = 0; time < kTimes; ++time) {
#pragma GCC unroll 12
      for (int k = 0; k < kChains; ++k) {
        sums[k] = add(sums[k]);
        asm volatile("" : "+v"(sums[k]));
      }
    }
  }
  return static_cast<double>(rounds) * kChains * kTimes * products;
}

}  // namespace

namespace avx512 {

double int8_peak(int64_t rounds) {
  const __m512i codes = _mm512_set1_epi8(7), x = _mm512_set1_epi8(-3);
  return chains<__m512i>(rounds, 64, [&](__m512i sum) { return _mm512_dpbusd_epi32(sum, codes, x); });
}

double int16_peak(int64_t rounds) {
  const __m512i codes = _mm512_set1_epi16(7), x = _mm512_set1_epi16(-3);
  return chains<__m512i>(rounds, 32, [&](__m512i sum) { return _mm512_dpwssd_epi32(sum, codes, x); });
}

double float32_peak(int64_t rounds) {
  const __m512 w = _mm512_set1_ps(1e-3f), x = _mm512_set1_ps(1e-3f);
  return chains<__m512>(rounds, 16, [&](__m512 sum) { return _mm512_fmadd_ps(w, x, sum); });
}

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
