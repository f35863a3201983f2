// AVX2: the loops of recurrent layers.
#if defined(__x86_64__)
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/state_loops_of.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

struct Avx2 {
  using F = __m256;
  static constexpr int kWidth = 8;
  static F set(float x) { return _mm256_set1_ps(x); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F exp(F x) { return exp8(x); }
  static float sum(F x) { return sum8(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static F load_part(const float* p, int n) { return kernels::load_part<Type::f32>(p, n); }
  static void store_part(float* p, F v, int n) { kernels::store_part(p, v, n); }
};

}  // namespace

const StateLoops avx2::kStates = StateLoopsOf<Avx2>::kLoops;

}  // namespace mlx_lm::kernels
#endif
