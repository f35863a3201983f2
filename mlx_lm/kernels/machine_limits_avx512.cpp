// AVX-512 with VNNI: multiplications from registers alone.
#if defined(__x86_64__)
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/chains.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
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
