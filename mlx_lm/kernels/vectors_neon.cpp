// NEON: floating-point products, conversions and elementwise loops.
#if defined(__aarch64__)
#include <cmath>

#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/convert.h"
#include "mlx_lm/kernels/neon.h"

namespace mlx_lm::kernels {
namespace {

template <Type type>
void to_float_as(const void* from, size_t n, float* to) {
  const char* bytes = static_cast<const char*>(from);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const float32x4x2_t v = load8<type>(bytes + i * size_of(type));
    vst1q_f32(to + i, v.val[0]);
    vst1q_f32(to + i + 4, v.val[1]);
  }
  for (; i < n; ++i) to[i] = load_number(type, from, i);
}

inline uint16x4_t bfloats_of(float32x4_t v) {
  const uint32x4_t bits = vreinterpretq_u32_f32(v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint16x4_t rounded = vaddhn_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint16x4_t quiet = vorr_u16(vshrn_n_u32(bits, 16), vdup_n_u16(0x40));  // for a NaN
  return vbsl_u16(vmovn_u32(vceqq_f32(v, v)), rounded, quiet);
}

template <Type type>
void dots_of(const Rows& w, int rows, int cols, const float* x, float* y) {
  constexpr int kTogether = 4;  // rows that share the loads of x
  for (int r0 = 0; r0 < rows; r0 += kTogether) {
    const char* row[kTogether];
    float32x4_t sums[kTogether][4];
    for (int r = 0; r < kTogether; ++r) {
      row[r] = static_cast<const char*>(w.from(r0 + r < rows ? r0 + r : r0, 0).data);
      for (int k = 0; k < 4; ++k) sums[r][k] = vdupq_n_f32(0);
    }
    int c = 0;
    for (; c + 16 <= cols; c += 16) {
      float32x4_t v[4];
      for (int k = 0; k < 4; ++k) v[k] = load4<Type::f32>(x + c + 4 * k);
      for (int r = 0; r < kTogether; ++r) {
        const float32x4x2_t w0 = load8<type>(row[r] + c * size_of(type));
        const float32x4x2_t w1 = load8<type>(row[r] + (c + 8) * size_of(type));
        sums[r][0] = vfmaq_f32(sums[r][0], w0.val[0], v[0]);
        sums[r][1] = vfmaq_f32(sums[r][1], w0.val[1], v[1]);
        sums[r][2] = vfmaq_f32(sums[r][2], w1.val[0], v[2]);
        sums[r][3] = vfmaq_f32(sums[r][3], w1.val[1], v[3]);
      }
    }
    for (; c < cols; c += 4) {
      const int n = cols - c < 4 ? cols - c : 4;
      const float32x4_t v = load_part<Type::f32>(x + c, n);
#pragma GCC unroll 4  // or the sums would stay in memory
      for (int r = 0; r < kTogether; ++r) {
        sums[r][0] = vfmaq_f32(sums[r][0], load_part<type>(row[r] + c * size_of(type), n), v);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kTogether; ++r) {
      if (r0 + r >= rows) break;
      y[r0 + r] = vaddvq_f32(vaddq_f32(vaddq_f32(sums[r][0], sums[r][1]), vaddq_f32(sums[r][2], sums[r][3])));
    }
  }
}

template <Type type>
void weighted_sum_of(const Rows& w, int rows, int cols, const float* p, float* out) {
  const char* data = static_cast<const char*>(w.data);
  const size_t stride = w.stride * size_of(type);
  int c = 0;
  for (; c + 32 <= cols; c += 32) {
    float32x4_t sums[8];
    for (int k = 0; k < 8; ++k) sums[k] = vld1q_f32(out + c + 4 * k);
    for (int r = 0; r < rows; ++r) {
      const char* from = data + r * stride + c * size_of(type);
      for (int k = 0; k < 8; k += 2) {
        const float32x4x2_t v = load8<type>(from + 4 * k * size_of(type));
        sums[k] = vfmaq_n_f32(sums[k], v.val[0], p[r]);
        sums[k + 1] = vfmaq_n_f32(sums[k + 1], v.val[1], p[r]);
      }
    }
    for (int k = 0; k < 8; ++k) vst1q_f32(out + c + 4 * k, sums[k]);
  }
  for (; c < cols; c += 4) {
    const int n = cols - c < 4 ? cols - c : 4;
    float32x4_t sum = load_part<Type::f32>(out + c, n);
    for (int r = 0; r < rows; ++r) {
      sum = vfmaq_n_f32(sum, load_part<type>(data + r * stride + c * size_of(type), n), p[r]);
    }
    store_part(out + c, sum, n);
  }
}

inline void transpose4(float32x4_t* v) {
  const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(v[0], v[1]));
  const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(v[0], v[1]));
  const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(v[2], v[3]));
  const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(v[2], v[3]));
  v[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
  v[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
  v[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
  v[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

template <Type type>
void panel_of(const Rows& w, int rows, int cols, float* panel) {
  const char* data = static_cast<const char*>(w.data);
  const size_t stride = w.stride * size_of(type);
  int c = 0;
  for (; rows == kBlock && c + 4 <= cols; c += 4) {
    const char* from = data + c * size_of(type);
    for (int half = 0; half < 8; half += 4) {
      float32x4_t v[4];
      for (int r = 0; r < 4; ++r) v[r] = load4<type>(from + (half + r) * stride);
      transpose4(v);
      for (int k = 0; k < 4; ++k) vst1q_f32(panel + (c + k) * kBlock + half, v[k]);
    }
  }
  for (; c < cols; ++c) {
    for (int r = 0; r < kBlock; ++r) {
      panel[c * kBlock + r] = r < rows ? load_number(type, data + r * stride, c) : 0.f;
    }
  }
}

// One column of the panel; its activations are lane `lane` of x.
template <int lane, int count>
inline void add_column(const float* panel, const float32x4_t* x, float32x4_t (*sums)[2]) {
  const float32x4_t w0 = vld1q_f32(panel), w1 = vld1q_f32(panel + 4);
  for (int i = 0; i < count; ++i) {
    sums[i][0] = vfmaq_laneq_f32(sums[i][0], w0, x[i], lane);
    sums[i][1] = vfmaq_laneq_f32(sums[i][1], w1, x[i], lane);
  }
}

template <int count>
void product_tile(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, float* y,
                  size_t y_stride, int rows, bool add) {
  float32x4_t sums[count][2];
#pragma GCC unroll 8  // or the sums would stay in memory
  for (int i = 0; i < count; ++i) {
    for (int h = 0; h < 2; ++h) {
      sums[i][h] = add ? load_up_to(y + i * y_stride + 4 * h, rows - 4 * h) : vdupq_n_f32(0);
    }
  }
  int c = 0;
  for (; c + 4 <= depth; c += 4, panel += 4 * panel_stride) {
    float32x4_t four[count];
    for (int i = 0; i < count; ++i) four[i] = vld1q_f32(x + i * x_stride + c);
    add_column<0, count>(panel, four, sums);
    add_column<1, count>(panel + panel_stride, four, sums);
    add_column<2, count>(panel + 2 * panel_stride, four, sums);
    add_column<3, count>(panel + 3 * panel_stride, four, sums);
  }
  for (; c < depth; ++c, panel += panel_stride) {
    float32x4_t one[count];
    for (int i = 0; i < count; ++i) one[i] = vdupq_n_f32(x[i * x_stride + c]);
    add_column<0, count>(panel, one, sums);
  }
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) {
    for (int h = 0; h < 2; ++h) store_up_to(y + i * y_stride + 4 * h, sums[i][h], rows - 4 * h);
  }
}

}  // namespace

namespace neon {

void to_float(Type type, const void* from, size_t n, float* to) { MLX_LM_FOR_ANY_TYPE(type, to_float_as, from, n, to); }

void from_float(const float* from, size_t n, Type type, void* to) {
  size_t i = 0;
  if (type != Type::f32) {
    uint8_t* bytes = static_cast<uint8_t*>(to);
    for (; i + 4 <= n; i += 4) {
      const float32x4_t v = vld1q_f32(from + i);
      vst1_u8(bytes + 2 * i,
              type == Type::f16 ? vreinterpret_u8_f16(vcvt_f16_f32(v)) : vreinterpret_u8_u16(bfloats_of(v)));
    }
  }
  for (; i < n; ++i) store_number(from[i], type, to, i);
}

void dots(const Rows& w, int rows, int cols, const float* x, float* y) {
  MLX_LM_FOR_ANY_TYPE(w.type, dots_of, w, rows, cols, x, y);
}

void weighted_sum(const Rows& w, int rows, int cols, const float* p, float* out) {
  MLX_LM_FOR_ANY_TYPE(w.type, weighted_sum_of, w, rows, cols, p, out);
}

void panel(const Rows& w, int rows, int cols, float* panel) { MLX_LM_FOR_TYPE(w.type, panel_of, w, rows, cols, panel); }

// 8 activation rows make 16 sums, which with 8 vectors of activations and the weights nearly fill the 32 registers.
void panel_product(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, int n, float* y,
                   size_t y_stride, int rows, bool add) {
  int i = 0;
  const auto tiles = [&](auto tile, int count) {
    for (; i + count <= n; i += count) {
      tile(panel, panel_stride, depth, x + i * x_stride, x_stride, y + i * y_stride, y_stride, rows, add);
    }
  };
  tiles(product_tile<8>, 8);
  tiles(product_tile<4>, 4);
  tiles(product_tile<1>, 1);
}

float exp_sum(float* s, int n, float high) {
  const float32x4_t shift = vdupq_n_f32(high);
  float32x4_t even = vdupq_n_f32(0), odd = even;
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    const float32x4_t e0 = exp4(vsubq_f32(vld1q_f32(s + i), shift));
    const float32x4_t e1 = exp4(vsubq_f32(vld1q_f32(s + i + 4), shift));
    vst1q_f32(s + i, e0);
    vst1q_f32(s + i + 4, e1);
    even = vaddq_f32(even, e0);
    odd = vaddq_f32(odd, e1);
  }
  float sum = vaddvq_f32(vaddq_f32(even, odd));
  for (; i < n; i += 4) {
    const int left = n - i < 4 ? n - i : 4;
    store_part(s + i, exp4(vsubq_f32(load_part<Type::f32>(s + i, left), shift)), left);
    for (int k = i; k < i + left; ++k) sum += s[k];
  }
  return sum;
}

void scale(float* y, int n, float factor) {
  for (int i = 0; i < n; ++i) y[i] *= factor;
}

void rms_norm(const float* x, const float* weight, int size, float eps, float* out) {
  float32x4_t sums[4];
  for (auto& sum : sums) sum = vdupq_n_f32(0);
  int i = 0;
  for (; i + 16 <= size; i += 16) {
    for (int k = 0; k < 4; ++k) {
      const float32x4_t v = vld1q_f32(x + i + 4 * k);
      sums[k] = vfmaq_f32(sums[k], v, v);
    }
  }
  float sum = vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
  for (; i < size; ++i) sum += x[i] * x[i];
  const float factor = 1 / std::sqrt(sum / static_cast<float>(size) + eps);
  for (int k = 0; k < size; ++k) out[k] = x[k] * factor * (weight == nullptr ? 1 : weight[k]);
}

void swiglu(const float* gate, const float* up, size_t n, float* out) {
  const auto value = [](float32x4_t g, float32x4_t u) {
    return vmulq_f32(vdivq_f32(g, vaddq_f32(vdupq_n_f32(1.f), exp4(vnegq_f32(g)))), u);
  };
  size_t i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(out + i, value(vld1q_f32(gate + i), vld1q_f32(up + i)));
  const int left = static_cast<int>(n - i);
  if (left > 0) {
    store_part(out + i, value(load_part<Type::f32>(gate + i, left), load_part<Type::f32>(up + i, left)), left);
  }
}

}  // namespace neon
}  // namespace mlx_lm::kernels
#endif
