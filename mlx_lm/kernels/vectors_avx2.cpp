// AVX2: conversions and elementwise loops.
#if defined(__x86_64__)
#include <cmath>

#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/convert.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

template <Type type>
void to_float_as(const void* from, size_t n, float* to) {
  const char* bytes = static_cast<const char*>(from);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, load8<type>(bytes + i * size_of(type)));
  for (; i < n; ++i) to[i] = load_number(type, from, i);
}

}  // namespace

namespace avx2 {

void to_float(Type type, const void* from, size_t n, float* to) { MLX_LM_FOR_TYPE(type, to_float_as, from, n, to); }

void from_float(const float* from, size_t n, Type type, void* to) {
  size_t i = 0;
  if (type == Type::f16) {
    uint16_t* halves = static_cast<uint16_t*>(to);
    for (; i + 8 <= n; i += 8) {
      const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + i), bits);
    }
  }
  for (; i < n; ++i) store_number(from[i], type, to, i);
}

float max(const float* s, int n) {
  constexpr float kLeast = -__builtin_inff();
  __m256 even = _mm256_set1_ps(kLeast), odd = even;
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    even = _mm256_max_ps(even, _mm256_loadu_ps(s + i));
    odd = _mm256_max_ps(odd, _mm256_loadu_ps(s + i + 8));
  }
  float most = max8(_mm256_max_ps(even, odd));
  for (; i < n; ++i) most = s[i] > most ? s[i] : most;
  return most;
}

void soft_cap(float* s, int n, float cap) {
  const __m256 factor = _mm256_set1_ps(cap), inverse = _mm256_set1_ps(1 / cap);
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(s + i, _mm256_mul_ps(factor, tanh8(_mm256_mul_ps(_mm256_loadu_ps(s + i), inverse))));
  }
  if (i == n) return;
  const __m256 last = load_part<Type::f32>(s + i, n - i);
  store_part(s + i, _mm256_mul_ps(factor, tanh8(_mm256_mul_ps(last, inverse))), n - i);
}

float exp_sum(float* s, int n, float high) {
  const __m256 shift = _mm256_set1_ps(high);
  __m256 sums = _mm256_setzero_ps();
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 e = exp8(_mm256_sub_ps(_mm256_loadu_ps(s + i), shift));
    _mm256_storeu_ps(s + i, e);
    sums = _mm256_add_ps(sums, e);
  }
  float sum = sum8(sums);
  if (i < n) {
    store_part(s + i, exp8(_mm256_sub_ps(load_part<Type::f32>(s + i, n - i), shift)), n - i);
    for (; i < n; ++i) sum += s[i];
  }
  return sum;
}

void scale(float* y, int n, float factor) {
  for (int i = 0; i < n; ++i) y[i] *= factor;
}

void rms_norm(const float* x, const float* weight, int size, float eps, float* out) {
  __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
  int i = 0;
  for (; i + 16 <= size; i += 16) {
    const __m256 x0 = _mm256_loadu_ps(x + i), x1 = _mm256_loadu_ps(x + i + 8);
    even = _mm256_fmadd_ps(x0, x0, even);
    odd = _mm256_fmadd_ps(x1, x1, odd);
  }
  float sum = sum8(_mm256_add_ps(even, odd));
  for (; i < size; ++i) sum += x[i] * x[i];
  const float factor = 1 / std::sqrt(sum / static_cast<float>(size) + eps);
  for (int k = 0; k < size; ++k) out[k] = x[k] * factor * weight[k];
}

void swiglu(const float* gate, const float* up, size_t n, float* out) {
  const __m256 one = _mm256_set1_ps(1.f), sign = _mm256_set1_ps(-0.f);
  const auto value = [&](__m256 g, __m256 u) {
    return _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(one, exp8(_mm256_xor_ps(g, sign)))), u);
  };
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, value(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
  }
  const int left = static_cast<int>(n - i);
  if (left > 0) {
    store_part(out + i, value(load_part<Type::f32>(gate + i, left), load_part<Type::f32>(up + i, left)), left);
  }
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
