// NEON: the loops of recurrent layers.
#if defined(__aarch64__)
#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/neon.h"
#include "mlx_lm/kernels/state_loops_of.h"

namespace mlx_lm::kernels {
namespace {

struct Neon {
  using F = float32x4_t;
  static constexpr int kWidth = 4;
  static F set(float x) { return vdupq_n_f32(x); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F max(F a, F b) { return vmaxq_f32(a, b); }
  static F exp(F x) { return exp4(x); }
  static float sum(F x) { return vaddvq_f32(x); }
  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F v) { vst1q_f32(p, v); }
  static F load_part(const float* p, int n) { return kernels::load_part<Type::f32>(p, n); }
  static void store_part(float* p, F v, int n) { kernels::store_part(p, v, n); }
};

}  // namespace

const StateLoops neon::kStates = StateLoopsOf<Neon>::kLoops;

}  // namespace mlx_lm::kernels
#endif
