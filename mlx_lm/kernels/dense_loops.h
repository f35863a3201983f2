// The loops over rows of floating-point numbers that the vector instruction sets share. A set V has
//   F, kWidth                          a vector of float32, its numbers
//   kTogether                          rows of w that are multiplied at once by 1, 2, 3 and 4 rows of x
//   kChunks                            vectors of columns that 1, 2, 3 and 4 sums of rows are taken over at once
//   zero(), set(x), fma(a, b, c)
//   load<type>(p), load_part<type>(p, n), store(p, v), store_part(p, v, n)
//   sums4(v)                           the sums of v[0], ..., v[3], each over its vector
// Included only where the set is on; everything is in an unnamed namespace, see convert.h.
#pragma once

#include "mlx_lm/kernels/avx2.h"

namespace mlx_lm::kernels {
namespace {

// y[i][r] for `together` rows r of w and `count` rows i of x. Every number of w is loaded and converted once, and every
// sum stays in a register, for which all short loops have to be unrolled.
template <class V, Type type, int together, int count>
void dots_tile(const char* row, size_t stride, int cols, const float* x, size_t x_stride, float* y, size_t y_stride) {
  constexpr int kFours = (together + 3) / 4;
  typename V::F sums[count][4 * kFours];
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < 4 * kFours; ++r) sums[i][r] = V::zero();
  }
  int c = 0;
  for (; c + V::kWidth <= cols; c += V::kWidth, row += V::kWidth * size_of(type)) {
    // With one or two rows of x memory is waited for: fetch the next rows of w, for the processor does not guess them
    // where rows are short. Measured on (49152, 576) in float16: 8.8 GB/s instead of 6.4, in one thread of a busy
    // machine.
    if (count <= 2 && c % static_cast<int>(64 / size_of(type)) == 0) {
#pragma GCC unroll 8
      for (int r = 0; r < together; ++r) _mm_prefetch(row + (together + r) * stride, _MM_HINT_T0);
    }
    typename V::F from[together];
#pragma GCC unroll 8
    for (int r = 0; r < together; ++r) from[r] = V::template load<type>(row + r * stride);
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
      const typename V::F by = V::template load<Type::f32>(x + i * x_stride + c);
#pragma GCC unroll 8
      for (int r = 0; r < together; ++r) sums[i][r] = V::fma(from[r], by, sums[i][r]);
    }
  }
  if (c < cols) {
    typename V::F from[together];
#pragma GCC unroll 8
    for (int r = 0; r < together; ++r) from[r] = V::template load_part<type>(row + r * stride, cols - c);
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
      const typename V::F by = V::template load_part<Type::f32>(x + i * x_stride + c, cols - c);
#pragma GCC unroll 8
      for (int r = 0; r < together; ++r) sums[i][r] = V::fma(from[r], by, sums[i][r]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) {
#pragma GCC unroll 2
    for (int k = 0; k < kFours; ++k) {
      float* to = y + i * y_stride + 4 * k;
      const __m128 four = V::sums4(sums[i] + 4 * k);
      if constexpr (together >= 4) {
        _mm_storeu_ps(to, four);
      } else {
        if constexpr (together >= 2) _mm_storel_pi(reinterpret_cast<__m64*>(to), four);
        if constexpr (together == 3) _mm_store_ss(to + 2, _mm_movehl_ps(four, four));
        if constexpr (together == 1) _mm_store_ss(to, four);
      }
    }
  }
}

template <class V, Type type, int count>
void dots_by(const Rows& w, int rows, int cols, const float* x, size_t x_stride, float* y, size_t y_stride) {
  constexpr int kTogether = V::kTogether[count - 1];
  const size_t stride = w.stride * size_of(type);
  const char* row = static_cast<const char*>(w.data);
  int r = 0;
  for (; r + kTogether <= rows; r += kTogether, row += kTogether * stride) {
    dots_tile<V, type, kTogether, count>(row, stride, cols, x, x_stride, y + r, y_stride);
  }
  for (; r < rows; ++r, row += stride) dots_tile<V, type, 1, count>(row, stride, cols, x, x_stride, y + r, y_stride);
}

// Four rows of x at a time: as many as keep two multipliers busy with the registers of AVX2.
template <class V, Type type>
void dots_of(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride) {
  for (; n >= 4; n -= 4, x += 4 * x_stride, y += 4 * y_stride) {
    dots_by<V, type, 4>(w, rows, cols, x, x_stride, y, y_stride);
  }
  if (n == 3) dots_by<V, type, 3>(w, rows, cols, x, x_stride, y, y_stride);
  if (n == 2) dots_by<V, type, 2>(w, rows, cols, x, x_stride, y, y_stride);
  if (n == 1) dots_by<V, type, 1>(w, rows, cols, x, x_stride, y, y_stride);
}

// As many columns as `chunks` vectors hold, again and again; returns the first column that is left.
template <class V, Type type, int count, int chunks>
int weighted_chunks(const Rows& w, int rows, int c, int cols, const float* p, size_t p_stride, float* out,
                    size_t out_stride) {
  const size_t stride = w.stride * size_of(type);
  for (; c + chunks * V::kWidth <= cols; c += chunks * V::kWidth) {
    typename V::F sums[count][chunks];
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 8
      for (int k = 0; k < chunks; ++k) {
        sums[i][k] = V::template load<Type::f32>(out + i * out_stride + c + k * V::kWidth);
      }
    }
    const char* from = static_cast<const char*>(w.data) + c * size_of(type);
    for (int r = 0; r < rows; ++r, from += stride) {
      typename V::F factors[count];
#pragma GCC unroll 4
      for (int i = 0; i < count; ++i) factors[i] = V::set(p[i * p_stride + r]);
#pragma GCC unroll 8
      for (int k = 0; k < chunks; ++k) {
        const typename V::F value = V::template load<type>(from + k * V::kWidth * size_of(type));
#pragma GCC unroll 4
        for (int i = 0; i < count; ++i) sums[i][k] = V::fma(factors[i], value, sums[i][k]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 8
      for (int k = 0; k < chunks; ++k) V::store(out + i * out_stride + c + k * V::kWidth, sums[i][k]);
    }
  }
  return c;
}

template <class V, Type type, int count>
void weighted_by(const Rows& w, int rows, int cols, const float* p, size_t p_stride, float* out, size_t out_stride) {
  int c = weighted_chunks<V, type, count, V::kChunks[count - 1]>(w, rows, 0, cols, p, p_stride, out, out_stride);
  c = weighted_chunks<V, type, count, 2>(w, rows, c, cols, p, p_stride, out, out_stride);
  c = weighted_chunks<V, type, count, 1>(w, rows, c, cols, p, p_stride, out, out_stride);
  if (c == cols) return;
  typename V::F sums[count];
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) sums[i] = V::template load_part<Type::f32>(out + i * out_stride + c, cols - c);
  for (int r = 0; r < rows; ++r) {
    const typename V::F value = V::template load_part<type>(w.from(r, c).data, cols - c);
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) sums[i] = V::fma(V::set(p[i * p_stride + r]), value, sums[i]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) V::store_part(out + i * out_stride + c, sums[i], cols - c);
}

template <class V, Type type>
void weighted_sums_of(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                      size_t out_stride) {
  for (; n >= 4; n -= 4, p += 4 * p_stride, out += 4 * out_stride) {
    weighted_by<V, type, 4>(w, rows, cols, p, p_stride, out, out_stride);
  }
  if (n == 3) weighted_by<V, type, 3>(w, rows, cols, p, p_stride, out, out_stride);
  if (n == 2) weighted_by<V, type, 2>(w, rows, cols, p, p_stride, out, out_stride);
  if (n == 1) weighted_by<V, type, 1>(w, rows, cols, p, p_stride, out, out_stride);
}

}  // namespace
}  // namespace mlx_lm::kernels
