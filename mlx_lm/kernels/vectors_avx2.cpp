// AVX2: floating-point products, conversions and elementwise loops.
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

template <Type type>
void dots_of(const Rows& w, int rows, int cols, const float* x, float* y) {
  constexpr int kTogether = 4;  // rows that share the loads of x, and give the adders enough independent sums
  for (int r0 = 0; r0 < rows; r0 += kTogether) {
    const char* row[kTogether];
    __m256 even[kTogether], odd[kTogether];
    for (int r = 0; r < kTogether; ++r) {
      row[r] = static_cast<const char*>(w.from(r0 + r < rows ? r0 + r : r0, 0).data);
      even[r] = odd[r] = _mm256_setzero_ps();
    }
    int c = 0;
    for (; c + 16 <= cols; c += 16) {
      const __m256 x0 = _mm256_loadu_ps(x + c), x1 = _mm256_loadu_ps(x + c + 8);
      for (int r = 0; r < kTogether; ++r) {
        even[r] = _mm256_fmadd_ps(load8<type>(row[r] + c * size_of(type)), x0, even[r]);
        odd[r] = _mm256_fmadd_ps(load8<type>(row[r] + (c + 8) * size_of(type)), x1, odd[r]);
      }
    }
    for (; c < cols; c += 8) {
      const int n = cols - c < 8 ? cols - c : 8;
      const __m256 x0 = load_part<Type::f32>(x + c, n);
      for (int r = 0; r < kTogether; ++r) {
        even[r] = _mm256_fmadd_ps(load_part<type>(row[r] + c * size_of(type), n), x0, even[r]);
      }
    }
    for (int r = 0; r < kTogether && r0 + r < rows; ++r) y[r0 + r] = sum8(_mm256_add_ps(even[r], odd[r]));
  }
}

template <Type type>
void weighted_sum_of(const Rows& w, int rows, int cols, const float* p, float* out) {
  const char* data = static_cast<const char*>(w.data);
  const size_t stride = w.stride * size_of(type);
  int c = 0;
  for (; c + 32 <= cols; c += 32) {
    __m256 sums[4];
    for (int k = 0; k < 4; ++k) sums[k] = _mm256_loadu_ps(out + c + 8 * k);
    for (int r = 0; r < rows; ++r) {
      const __m256 factor = _mm256_set1_ps(p[r]);
      const char* from = data + r * stride + c * size_of(type);
      for (int k = 0; k < 4; ++k) {
        sums[k] = _mm256_fmadd_ps(factor, load8<type>(from + 8 * k * size_of(type)), sums[k]);
      }
    }
    for (int k = 0; k < 4; ++k) _mm256_storeu_ps(out + c + 8 * k, sums[k]);
  }
  for (; c < cols; c += 8) {
    const int n = cols - c < 8 ? cols - c : 8;
    __m256 sum = load_part<Type::f32>(out + c, n);
    for (int r = 0; r < rows; ++r) {
      sum = _mm256_fmadd_ps(_mm256_set1_ps(p[r]), load_part<type>(data + r * stride + c * size_of(type), n), sum);
    }
    store_part(out + c, sum, n);
  }
}

inline void transpose8(__m256* v) {
  __m256 pairs[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pairs[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    pairs[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
  }
}

template <Type type>
void panel_of(const Rows& w, int rows, int cols, float* panel) {
  const char* data = static_cast<const char*>(w.data);
  const size_t stride = w.stride * size_of(type);
  int c = 0;
  for (; rows == kBlock && c + 8 <= cols; c += 8) {
    const char* from = data + c * size_of(type);
    __m256 v[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) v[r] = load8<type>(from + r * stride);
    transpose8(v);
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) _mm256_storeu_ps(panel + (c + k) * kBlock, v[k]);
  }
  for (; c < cols; ++c) {
    for (int r = 0; r < kBlock; ++r) {
      panel[c * kBlock + r] = r < rows ? load_number(type, data + r * stride, c) : 0.f;
    }
  }
}

template <int count>
void product_tile(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, float* y,
                  size_t y_stride, int rows, bool add) {
  __m256 sums[count];
  for (int i = 0; i < count; ++i) {
    sums[i] = !add        ? _mm256_setzero_ps()
              : rows == 8 ? _mm256_loadu_ps(y + i * y_stride)
                          : load_part<Type::f32>(y + i * y_stride, rows);
  }
  // Row i is reached as trio[i / 3] + i % 3 strides, which the address modes can say: 12 pointers would not fit into
  // the general registers.
  const float* trio[(count + 2) / 3];
  for (int k = 0; k < (count + 2) / 3; ++k) trio[k] = x + 3 * k * x_stride;
  const char* from = reinterpret_cast<const char*>(panel);
  for (int c = 0; c < depth; ++c, from += panel_stride * sizeof(float)) {
    const __m256 w = _mm256_loadu_ps(reinterpret_cast<const float*>(from));
    for (int i = 0; i < count; ++i) {
      sums[i] = _mm256_fmadd_ps(w, _mm256_broadcast_ss(trio[i / 3] + c + i % 3 * x_stride), sums[i]);
    }
  }
  for (int i = 0; i < count; ++i) {
    if (rows == 8) {
      _mm256_storeu_ps(y + i * y_stride, sums[i]);
    } else {
      store_part(y + i * y_stride, sums[i], rows);
    }
  }
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

void dots(const Rows& w, int rows, int cols, const float* x, float* y) {
  MLX_LM_FOR_TYPE(w.type, dots_of, w, rows, cols, x, y);
}

void weighted_sum(const Rows& w, int rows, int cols, const float* p, float* out) {
  MLX_LM_FOR_TYPE(w.type, weighted_sum_of, w, rows, cols, p, out);
}

void panel(const Rows& w, int rows, int cols, float* panel) { MLX_LM_FOR_TYPE(w.type, panel_of, w, rows, cols, panel); }

// 12 activation rows make 12 sums, which with a weight and an activation nearly fill the 16 registers.
void panel_product(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, int n, float* y,
                   size_t y_stride, int rows, bool add) {
  int i = 0;
  const auto tiles = [&](auto tile, int count) {
    for (; i + count <= n; i += count) {
      tile(panel, panel_stride, depth, x + i * x_stride, x_stride, y + i * y_stride, y_stride, rows, add);
    }
  };
  tiles(product_tile<12>, 12);
  tiles(product_tile<4>, 4);
  tiles(product_tile<1>, 1);
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
