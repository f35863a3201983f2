// AVX-512: the loops of recurrent layers.
#if defined(__x86_64__)
#include "mlx_lm/kernels/state_loops_of.h"
#include "mlx_lm/kernels/vectors_avx512.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

struct Avx512 {
  using F = __m512;
  static constexpr int kWidth = 16;
  static F set(float x) { return _mm512_set1_ps(x); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F exp(F x) { return exp16(x); }
  static float sum(F x) { return _mm512_reduce_add_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static F load_part(const float* p, int n) { return load_part16<Type::f32>(p, n); }
  static void store_part(float* p, F v, int n) { _mm512_mask_storeu_ps(p, first16(n), v); }
};

}  // namespace

const StateLoops avx512::kStates = StateLoopsOf<Avx512>::kLoops;

}  // namespace mlx_lm::kernels
#endif
