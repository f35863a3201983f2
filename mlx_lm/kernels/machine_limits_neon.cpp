// NEON: multiplications from registers alone.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/chains.h"

namespace mlx_lm::kernels::neon {

// As products with codes of up to 4 bits: those of 8 pieces are added in 16 bits, then once in 32.
double int8_peak(int64_t rounds) {
  const int8x8_t codes = vdup_n_s8(7);
  int8x8_t x = vdup_n_s8(-3);
  return chains<int32x4_t>(rounds, 64, [&](int32x4_t sum) {
    int16x8_t products = vmull_s8(codes, x);
#pragma GCC unroll 7
    for (int piece = 1; piece < 8; ++piece) {
      unknown(x);
      products = vmlal_s8(products, codes, x);
    }
    return vpadalq_s16(sum, products);
  });
}

double int16_peak(int64_t rounds) {
  const int16x4_t codes = vdup_n_s16(7), x = vdup_n_s16(-3);
  return chains<int32x4_t>(rounds, 4, [&](int32x4_t sum) { return vmlal_s16(sum, codes, x); });
}

double float32_peak(int64_t rounds) {
  const float32x4_t w = vdupq_n_f32(1e-3f), x = vdupq_n_f32(1e-3f);
  return chains<float32x4_t>(rounds, 4, [&](float32x4_t sum) { return vfmaq_f32(sum, w, x); });
}

}  // namespace mlx_lm::kernels::neon
#endif
