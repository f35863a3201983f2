// AVX-512: conversions and elementwise loops that twice the width speeds up.
#if defined(__x86_64__)
#include "mlx_lm/kernels/vectors_avx512.h"

#include <cmath>

#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

template <Type type>
void to_float_as(const void* from, size_t n, float* to) {
  const char* bytes = static_cast<const char*>(from);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(to + i, load16<type>(bytes + i * size_of(type)));
  if (i == n) return;
  const int left = static_cast<int>(n - i);
  _mm512_mask_storeu_ps(to + i, first16(left), load_part16<type>(bytes + i * size_of(type), left));
}

}  // namespace

namespace avx512 {

void to_float(Type type, const void* from, size_t n, float* to) { MLX_LM_FOR_ANY_TYPE(type, to_float_as, from, n, to); }

float max(const float* s, int n) {
  const __m512 least = _mm512_set1_ps(-__builtin_inff());
  __m512 most = least;
  int i = 0;
  for (; i + 16 <= n; i += 16) most = _mm512_max_ps(_mm512_loadu_ps(s + i), most);  // a NaN is passed over
  if (i < n) most = _mm512_max_ps(_mm512_mask_loadu_ps(least, first16(n - i), s + i), most);
  return _mm512_reduce_max_ps(most);
}

float exp_sum(float* s, int n, float high) {
  const __m512 shift = _mm512_set1_ps(high);
  __m512 sums = _mm512_setzero_ps();
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 e = exp16(_mm512_sub_ps(_mm512_loadu_ps(s + i), shift));
    _mm512_storeu_ps(s + i, e);
    sums = _mm512_add_ps(sums, e);
  }
  if (i < n) {
    const __mmask16 exist = first16(n - i);
    const __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(exist, s + i), shift));
    _mm512_mask_storeu_ps(s + i, exist, e);
    sums = _mm512_mask_add_ps(sums, exist, sums, e);
  }
  return _mm512_reduce_add_ps(sums);
}

void rms_norm(const float* x, const float* weight, int size, float eps, float* out) {
  __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
  int i = 0;
  for (; i + 32 <= size; i += 32) {
    const __m512 x0 = _mm512_loadu_ps(x + i), x1 = _mm512_loadu_ps(x + i + 16);
    even = _mm512_fmadd_ps(x0, x0, even);
    odd = _mm512_fmadd_ps(x1, x1, odd);
  }
  for (; i < size; i += 16) {
    const __m512 last = size - i < 16 ? load_part16<Type::f32>(x + i, size - i) : _mm512_loadu_ps(x + i);
    even = _mm512_fmadd_ps(last, last, even);
  }
  const float sum = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
  const float factor = 1 / std::sqrt(sum / static_cast<float>(size) + eps);
  if (weight == nullptr) {
    for (int k = 0; k < size; ++k) out[k] = x[k] * factor;
  } else {
    for (int k = 0; k < size; ++k) out[k] = x[k] * factor * weight[k];
  }
}

void swiglu(const float* gate, const float* up, size_t n, float* out) {
  const __m512 one = _mm512_set1_ps(1.f);
  const auto value = [&](__m512 g, __m512 u) {
    const __m512 e = exp16(_mm512_sub_ps(_mm512_setzero_ps(), g));
    return _mm512_mul_ps(_mm512_div_ps(g, _mm512_add_ps(one, e)), u);
  };
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(out + i, value(_mm512_loadu_ps(gate + i), _mm512_loadu_ps(up + i)));
  }
  if (i == n) return;
  const __mmask16 exist = first16(static_cast<int>(n - i));
  const __m512 last = value(_mm512_maskz_loadu_ps(exist, gate + i), _mm512_maskz_loadu_ps(exist, up + i));
  _mm512_mask_storeu_ps(out + i, exist, last);
}

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
