// NEON with i8mm: multiplications from registers alone.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/chains.h"

namespace mlx_lm::kernels::i8mm {
namespace {

double peak(int64_t rounds, int products) {
  const int8x16_t codes = vdupq_n_s8(7), x = vdupq_n_s8(-3);
  return chains<int32x4_t>(rounds, products, [&](int32x4_t sum) { return vmmlaq_s32(sum, codes, x); });
}

}  // namespace

double int8_peak(int64_t rounds) { return peak(rounds, 32); }

// A high and a low half for each activation.
double int16_peak(int64_t rounds) { return peak(rounds, 16); }

}  // namespace mlx_lm::kernels::i8mm
#endif
