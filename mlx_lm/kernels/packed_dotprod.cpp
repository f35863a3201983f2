// NEON with dotprod: products of quantized weights and activations of 8 and 16 bits. sdot adds 4 products of signed
// bytes to 32 bits, 4 rows at a time, the 4 activations being a lane: the layout of PackedView as it is. Every sum of
// 32 products is exact.
//
// 16-bit activations are taken apart: 256 * high + low, both signed bytes. Two sdot do the work of eight smlal on whole
// activations. For high to fit, activations are rounded to 32639 = 127 * 257 instead of 32767 at most: steps are 0.4%
// larger. (An unsigned low would go up to 32767, but meets udot, which 8-bit codes less 128 do not fit.)
#if defined(__aarch64__)
#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/packed_neon.h"

namespace mlx_lm::kernels {
namespace {

template <int bits>
struct Int8 : Bytes<bits> {
  using Code = int8_t;
  using Vector = int8x16_t;
  static constexpr int kVectors = 16;
  static constexpr int kDepth = 512;
  static constexpr int kTile = 4;

  template <int lane, int count>
  static void add_piece(const int8x16_t* codes, const int8x16_t* x, Sums* sums) {
    for (int i = 0; i < count; ++i) {
      for (int h = 0; h < 2; ++h) sums[i][h] = vdotq_laneq_s32(sums[i][h], codes[h], x[i], lane);
    }
  }

  template <int count>
  [[gnu::always_inline]] static void dot32(const int8x16_t* codes, const int8_t* x, size_t x_stride, Sums* sums) {
    for (int i = 0; i < count; ++i) sums[i][0] = sums[i][1] = vdupq_n_s32(0);
    for (int c = 0; c < kGroup; c += 16, codes += 8) {
      int8x16_t v[count];
      for (int i = 0; i < count; ++i) v[i] = vld1q_s8(x + i * x_stride + c);
      add_piece<0, count>(codes, v, sums);
      add_piece<1, count>(codes + 2, v, sums);
      add_piece<2, count>(codes + 4, v, sums);
      add_piece<3, count>(codes + 6, v, sums);
    }
  }
};

template <int bits>
struct Int16 : Bytes<bits> {
  using Code = int16_t;
  using Vector = int8x16_t;
  static constexpr int kVectors = 16;
  static constexpr int kDepth = 512;
  static constexpr int kTile = 4;

  template <int count>
  [[gnu::always_inline]] static void dot32(const int8x16_t* codes, const int16_t* x, size_t x_stride, Sums* sums) {
    for (int h = 0; h < 2; ++h) {  // one half after the other: both at once need more registers than there are
      int32x4_t high[count], low[count];
      for (int i = 0; i < count; ++i) high[i] = low[i] = vdupq_n_s32(0);
      for (int c = 0; c < kGroup; c += 8) {
        const int8x16_t w0 = codes[c / 2 + h], w1 = codes[c / 2 + 2 + h];
        for (int i = 0; i < count; ++i) {
          const int8x16_t v = vreinterpretq_s8_s16(vld1q_s16(x + i * x_stride + c));
          high[i] = vdotq_laneq_s32(vdotq_laneq_s32(high[i], w0, v, 0), w1, v, 1);
          low[i] = vdotq_laneq_s32(vdotq_laneq_s32(low[i], w0, v, 2), w1, v, 3);
        }
      }
      for (int i = 0; i < count; ++i) sums[i][h] = vaddq_s32(vshlq_n_s32(high[i], 8), low[i]);
    }
  }
};

}  // namespace

namespace dotprod {

// For each 8 columns their high halves, then their low ones.
void quantize(const float* x, int cols, int16_t* codes, Factor* factors) {
  for (int g = 0; g < cols / kGroup; ++g, x += kGroup, codes += kGroup) {
    int32x4_t n[8];
    factors[g] = round_group(x, 32639, n);
    for (int k = 0; k < 8; k += 2) {
      const int16x8_t whole = vcombine_s16(vmovn_s32(n[k]), vmovn_s32(n[k + 1]));
      const int8x16_t halves = vcombine_s8(vrshrn_n_s16(whole, 8), vmovn_s16(whole));
      vst1q_s16(codes + 4 * k, vreinterpretq_s16_s8(halves));
    }
  }
}

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_few_of, Int8, w, first, last, x, n, y);
}

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_few_of, Int16, w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_many_of, Int8, w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_many_of, Int16, w, first, last, x, n, y);
}

}  // namespace dotprod
}  // namespace mlx_lm::kernels
#endif
