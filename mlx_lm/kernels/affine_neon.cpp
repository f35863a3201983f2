// NEON: affine rows.
#if defined(__aarch64__)
#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/neon.h"

namespace mlx_lm::kernels::neon {

void nibbles(const uint8_t* from, size_t n, uint8_t* codes) {
  for (size_t i = 0; i < n; i += 32, from += 16) {
    const uint8x16_t both = vld1q_u8(from), even = vandq_u8(both, vdupq_n_u8(15)), odd = vshrq_n_u8(both, 4);
    vst1q_u8(codes + i, vzip1q_u8(even, odd));
    vst1q_u8(codes + i + 16, vzip2q_u8(even, odd));
  }
}

void affine(const uint8_t* codes, size_t n, float scale, float bias, float* to) {
  const float32x4_t shift = vdupq_n_f32(bias);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const float32x4x2_t v = load8<Type::u8>(codes + i);
    vst1q_f32(to + i, vfmaq_n_f32(shift, v.val[0], scale));
    vst1q_f32(to + i + 4, vfmaq_n_f32(shift, v.val[1], scale));
  }
  for (; i < n; ++i) to[i] = scale * codes[i] + bias;
}

}  // namespace mlx_lm::kernels::neon
#endif
