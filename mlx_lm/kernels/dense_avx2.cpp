// AVX2: floating-point products.
#if defined(__x86_64__)
#include "mlx_lm/kernels/dense_loops.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

struct Avx2 {
  using F = __m256;
  static constexpr int kWidth = 8;
  // 8 or 12 sums at once, so that their latency is hidden, beside what they are made from: 16 registers.
  static constexpr int kTogether[] = {8, 4, 4, 3};
  static constexpr int kChunks[] = {8, 4, 4, 2};

  static F zero() { return _mm256_setzero_ps(); }
  static F set(float x) { return _mm256_set1_ps(x); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  template <Type type>
  static F load(const void* from) {
    return load8<type>(from);
  }
  template <Type type>
  static F load_part(const void* from, int n) {
    return kernels::load_part<type>(from, n);
  }
  static void store(float* to, F v) { _mm256_storeu_ps(to, v); }
  static void store_part(float* to, F v, int n) { kernels::store_part(to, v, n); }
  static __m128 sums4(const F* v) { return kernels::sums4(v[0], v[1], v[2], v[3]); }
};

template <Type type>
void dots_by(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride) {
  dots_of<Avx2, type>(w, rows, cols, x, x_stride, n, y, y_stride);
}

template <Type type>
void weighted_sums_by(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                      size_t out_stride) {
  weighted_sums_of<Avx2, type>(w, rows, cols, p, p_stride, n, out, out_stride);
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
  for (; c < cols; c += 8) {
    const int n = cols - c < 8 ? cols - c : 8;
    __m256 v[8];
    for (int r = 0; r < 8; ++r) {
      const char* from = data + r * stride + c * size_of(type);
      v[r] = r >= rows ? _mm256_setzero_ps() : n == 8 ? load8<type>(from) : load_part<type>(from, n);
    }
    transpose8(v);
    for (int k = 0; k < n; ++k) _mm256_storeu_ps(panel + (c + k) * kBlock, v[k]);
  }
}

// y[i] (+)= the products of `panels` panels, all of whose rows are stored, with `count` activation rows. Row i is
// reached as trio[i / 3] + i % 3 strides, which the address modes can say: 12 pointers would not fit into the general
// registers.
template <int panels, int count>
void tile(const float* panel, size_t apart, size_t panel_stride, int depth, const float* x, size_t x_stride, float* y,
          size_t y_stride, bool add) {
  __m256 sums[count][panels];
  if (add) {
#pragma GCC unroll 12
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) sums[i][p] = _mm256_loadu_ps(y + i * y_stride + p * kBlock);
    }
  } else {
#pragma GCC unroll 12
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) sums[i][p] = _mm256_setzero_ps();
    }
  }
  const float* trio[(count + 2) / 3];
#pragma GCC unroll 4
  for (int k = 0; k < (count + 2) / 3; ++k) trio[k] = x + 3 * k * x_stride;
  for (int c = 0; c < depth; ++c, panel += panel_stride) {
    __m256 w[panels];
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) w[p] = _mm256_loadu_ps(panel + p * apart);
#pragma GCC unroll 12
    for (int i = 0; i < count; ++i) {
      const __m256 by = _mm256_broadcast_ss(trio[i / 3] + c + i % 3 * x_stride);
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) sums[i][p] = _mm256_fmadd_ps(w[p], by, sums[i][p]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < count; ++i) {
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) _mm256_storeu_ps(y + i * y_stride + p * kBlock, sums[i][p]);
  }
}

// Of the last panel only the first rows may exist: then a copy of y's rows is worked on.
template <int panels, int count>
void tiles(int& i, const float* panel, size_t apart, size_t panel_stride, int depth, const float* x, size_t x_stride,
           int n, float* y, size_t y_stride, int rows, bool add) {
  for (; i + count <= n; i += count) {
    const float* xi = x + i * x_stride;
    float* yi = y + i * y_stride;
    if (rows == panels * kBlock) {
      tile<panels, count>(panel, apart, panel_stride, depth, xi, x_stride, yi, y_stride, add);
      continue;
    }
    float copy[count][panels * kBlock];
    for (int k = 0; add && k < count; ++k) std::memcpy(copy[k], yi + k * y_stride, rows * sizeof(float));
    tile<panels, count>(panel, apart, panel_stride, depth, xi, x_stride, copy[0], panels * kBlock, add);
    for (int k = 0; k < count; ++k) std::memcpy(yi + k * y_stride, copy[k], rows * sizeof(float));
  }
}

}  // namespace

namespace avx2 {

void dots(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride) {
  MLX_LM_FOR_ANY_TYPE(w.type, dots_by, w, rows, cols, x, x_stride, n, y, y_stride);
}

void weighted_sums(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                   size_t out_stride) {
  MLX_LM_FOR_ANY_TYPE(w.type, weighted_sums_by, w, rows, cols, p, p_stride, n, out, out_stride);
}

void panel(const Rows& w, int rows, int cols, float* panel) { MLX_LM_FOR_TYPE(w.type, panel_of, w, rows, cols, panel); }

// 12 activation rows make 12 sums, which with a weight and an activation nearly fill the 16 registers.
void panel_product(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, int n, float* y,
                   size_t y_stride, int rows, bool add) {
  int i = 0;
  tiles<1, 12>(i, panel, 0, panel_stride, depth, x, x_stride, n, y, y_stride, rows, add);
  tiles<1, 4>(i, panel, 0, panel_stride, depth, x, x_stride, n, y, y_stride, rows, add);
  tiles<1, 1>(i, panel, 0, panel_stride, depth, x, x_stride, n, y, y_stride, rows, add);
}

// 6 activation rows by two weights make 12 sums too, from 8 loads where the above needs 13.
void panel_products(const float* panels, size_t apart, size_t panel_stride, int depth, const float* x, size_t x_stride,
                    int n, float* y, size_t y_stride, int rows, bool add) {
  int i = 0;
  tiles<2, 6>(i, panels, apart, panel_stride, depth, x, x_stride, n, y, y_stride, rows, add);
  tiles<2, 3>(i, panels, apart, panel_stride, depth, x, x_stride, n, y, y_stride, rows, add);
  tiles<2, 1>(i, panels, apart, panel_stride, depth, x, x_stride, n, y, y_stride, rows, add);
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
