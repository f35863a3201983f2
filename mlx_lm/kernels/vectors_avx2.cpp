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

// erf(x) by the quotient of polynomials that XLA and Eigen use; beyond 4 it is 1 in float32, but for 2e-8.
inline __m256 erf8(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-4.f), _mm256_min_ps(_mm256_set1_ps(4.f), x));  // this order lets a NaN through
  const __m256 z = _mm256_mul_ps(x, x);
  __m256 p = _mm256_set1_ps(-2.72614225801306e-10f);
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.77068142495902e-08f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-2.10102402082508e-06f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.69250639462346e-05f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-7.34990630326855e-04f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-2.95459980854025e-03f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-1.60960333262415e-02f));
  __m256 q = _mm256_set1_ps(-1.45660718464996e-05f);
  q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(-2.13374055278905e-04f));
  q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(-1.68282697438203e-03f));
  q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(-7.37332916720468e-03f));
  q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(-1.42647390514189e-02f));
  return _mm256_div_ps(_mm256_mul_ps(x, p), q);
}

template <Gelu kind>
__m256 gelu8(__m256 x) {
  __m256 share;
  if constexpr (kind == Gelu::erf) {
    share = erf8(_mm256_mul_ps(x, _mm256_set1_ps(0.70710678f)));
  } else {
    const __m256 cubic = _mm256_mul_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f));
    share = tanh8(_mm256_mul_ps(_mm256_set1_ps(0.79788456f), _mm256_fmadd_ps(cubic, x, x)));
  }
  const __m256 half = _mm256_mul_ps(x, _mm256_set1_ps(0.5f));
  return _mm256_fmadd_ps(half, share, half);
}

template <Gelu kind>
void geglu_of(const float* gate, const float* up, size_t n, float* out) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 value = gelu8<kind>(_mm256_loadu_ps(gate + i));
    _mm256_storeu_ps(out + i, up == nullptr ? value : _mm256_mul_ps(value, _mm256_loadu_ps(up + i)));
  }
  const int left = static_cast<int>(n - i);
  if (left == 0) return;
  const __m256 value = gelu8<kind>(load_part<Type::f32>(gate + i, left));
  store_part(out + i, up == nullptr ? value : _mm256_mul_ps(value, load_part<Type::f32>(up + i, left)), left);
}

}  // namespace

namespace avx2 {

void to_float(Type type, const void* from, size_t n, float* to) { MLX_LM_FOR_ANY_TYPE(type, to_float_as, from, n, to); }

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
  for (; i + 16 <= n; i += 16) {  // vmaxps gives its second operand when one is a NaN
    even = _mm256_max_ps(_mm256_loadu_ps(s + i), even);
    odd = _mm256_max_ps(_mm256_loadu_ps(s + i + 8), odd);
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
  if (weight == nullptr) {
    for (int k = 0; k < size; ++k) out[k] = x[k] * factor;
  } else {
    for (int k = 0; k < size; ++k) out[k] = x[k] * factor * weight[k];
  }
}

void layer_norm(const float* x, const float* weight, const float* bias, int size, float eps, float* out) {
  // Two passes, because the squares' mean less the mean's square loses what a large mean hides.
  const auto sum_of = [&](auto term) {
    __m256 sums = _mm256_setzero_ps();
    int i = 0;
    for (; i + 8 <= size; i += 8) sums = _mm256_add_ps(sums, term(_mm256_loadu_ps(x + i)));
    if (i < size) {
      const __m256 exist = _mm256_castsi256_ps(first(size - i));
      sums = _mm256_add_ps(sums, _mm256_and_ps(exist, term(load_part<Type::f32>(x + i, size - i))));
    }
    return sum8(sums);
  };
  const float mean = sum_of([](__m256 v) { return v; }) / static_cast<float>(size);
  const __m256 shift = _mm256_set1_ps(mean);
  const float squares = sum_of([&](__m256 v) {
    const __m256 off = _mm256_sub_ps(v, shift);
    return _mm256_mul_ps(off, off);
  });
  const float factor = 1 / std::sqrt(squares / static_cast<float>(size) + eps);
  for (int k = 0; k < size; ++k) out[k] = (x[k] - mean) * factor;
  for (int k = 0; weight != nullptr && k < size; ++k) out[k] *= weight[k];
  for (int k = 0; bias != nullptr && k < size; ++k) out[k] += bias[k];
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

void geglu(const float* gate, const float* up, size_t n, Gelu kind, float* out) {
  (kind == Gelu::erf ? geglu_of<Gelu::erf> : geglu_of<Gelu::tanh>)(gate, up, n, out);
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
