// AVX-512: floating-point products.
#if defined(__x86_64__)
#include "mlx_lm/kernels/vectors_avx512.h"
// After the above, which silences a warning of GCC's header.
#include "mlx_lm/kernels/dense_loops.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

struct Avx512 {
  using F = __m512;
  static constexpr int kWidth = 16;
  // With 32 registers: 16 sums and what they are made from.
  static constexpr int kTogether[] = {8, 8, 4, 4};
  static constexpr int kChunks[] = {4, 4, 4, 4};

  static F zero() { return _mm512_setzero_ps(); }
  static F set(float x) { return _mm512_set1_ps(x); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  template <Type type>
  static F load(const void* from) {
    return load16<type>(from);
  }
  template <Type type>
  static F load_part(const void* from, int n) {
    return load_part16<type>(from, n);
  }
  static void store(float* to, F v) { _mm512_storeu_ps(to, v); }
  static void store_part(float* to, F v, int n) { _mm512_mask_storeu_ps(to, first16(n), v); }
  static __m128 sums4(const F* v) {
    const F ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const F cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const F quarters = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps(quarters, 1));
    return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
  }
};

template <Type type>
void dots_by(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride) {
  dots_of<Avx512, type>(w, rows, cols, x, x_stride, n, y, y_stride);
}

template <Type type>
void weighted_sums_by(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                      size_t out_stride) {
  weighted_sums_of<Avx512, type>(w, rows, cols, p, p_stride, n, out, out_stride);
}

// y[i] (+)= the products of two panels, as the halves of a vector, with `count` activation rows.
template <int count>
void tile(const float* panel, size_t apart, size_t panel_stride, int depth, const float* x, size_t x_stride, float* y,
          size_t y_stride, __mmask16 rows, bool add) {
  __m512 sums[count];
#pragma GCC unroll 12
  for (int i = 0; i < count; ++i) {
    sums[i] = _mm512_maskz_loadu_ps(add ? rows : static_cast<__mmask16>(0), y + i * y_stride);
  }
  // Row i is reached as trio[i / 3] + i % 3 strides, which the address modes can say.
  const float* trio[(count + 2) / 3];
#pragma GCC unroll 4
  for (int k = 0; k < (count + 2) / 3; ++k) trio[k] = x + 3 * k * x_stride;
  for (int c = 0; c < depth; ++c, panel += panel_stride) {
    const __m512 w =
        _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(panel)), _mm256_loadu_ps(panel + apart), 1);
#pragma GCC unroll 12
    for (int i = 0; i < count; ++i) {
      sums[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(trio[i / 3][c + i % 3 * x_stride]), sums[i]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < count; ++i) _mm512_mask_storeu_ps(y + i * y_stride, rows, sums[i]);
}

}  // namespace

namespace avx512 {

void dots(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride) {
  MLX_LM_FOR_ANY_TYPE(w.type, dots_by, w, rows, cols, x, x_stride, n, y, y_stride);
}

void weighted_sums(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                   size_t out_stride) {
  MLX_LM_FOR_ANY_TYPE(w.type, weighted_sums_by, w, rows, cols, p, p_stride, n, out, out_stride);
}

void panel_products(const float* panels, size_t apart, size_t panel_stride, int depth, const float* x, size_t x_stride,
                    int n, float* y, size_t y_stride, int rows, bool add) {
  const __mmask16 exist = static_cast<__mmask16>((1u << rows) - 1);
  int i = 0;
  const auto tiles = [&](auto tile, int count) {
    for (; i + count <= n; i += count) {
      tile(panels, apart, panel_stride, depth, x + i * x_stride, x_stride, y + i * y_stride, y_stride, exist, add);
    }
  };
  tiles(tile<12>, 12);
  tiles(tile<4>, 4);
  tiles(tile<1>, 1);
}

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
