// NEON: products of quantized weights and 16-bit activations, for processors without dotprod. smlal adds 4 products to
// 32 bits each: 32 products of at most 255 * 32767 fit, so every sum of 32 products is exact.
//
// Codes are unpacked to a vector of 8 rows for each column, so that an activation is a lane of the instruction. With
// the order of the packed bytes (4 columns of a row side by side) each would have to be spread over a vector first.
#if defined(__aarch64__)
#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/packed_neon.h"

namespace mlx_lm::kernels {
namespace {

template <bool nibbles>
struct Int16 {
  using Code = int16_t;
  using Vector = int16x8_t;
  static constexpr int kVectors = 32;
  static constexpr size_t kPackedBytes = nibbles ? 128 : 256;
  static constexpr int kDepth = 512;
  static constexpr int kTile = 4;

  // 4 columns, whose first 2 are in `first`.
  static void widen(uint8x16_t first, uint8x16_t second, int16x8_t* codes) {
    codes[0] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(first)));
    codes[1] = vreinterpretq_s16_u16(vmovl_high_u8(first));
    codes[2] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(second)));
    codes[3] = vreinterpretq_s16_u16(vmovl_high_u8(second));
  }

  static void unpack(const uint8_t* from, int16x8_t* codes) {
    for (int j = 0; j < (nibbles ? 4 : 8); ++j) {
      const uint8x16_t a = vld1q_u8(from + 32 * j), b = vld1q_u8(from + 32 * j + 16);
      const uint8x16_t even = vuzp1q_u8(a, b), odd = vuzp2q_u8(a, b);
      const uint8x16_t first = vuzp1q_u8(even, odd), second = vuzp2q_u8(even, odd);
      if constexpr (nibbles) {
        const uint8x16_t low = vdupq_n_u8(15);
        widen(vandq_u8(first, low), vandq_u8(second, low), codes + 4 * j);
        widen(vshrq_n_u8(first, 4), vshrq_n_u8(second, 4), codes + 4 * j + 16);
      } else {
        widen(first, second, codes + 4 * j);
      }
    }
  }

  static float32x4x2_t shifted(float32x4x2_t bias, float32x4x2_t) { return bias; }

  template <int lane, int count>
  static void add_column(int16x8_t w, const int16x8_t* x, Sums* sums) {
    for (int i = 0; i < count; ++i) {
      sums[i][0] = vmlal_laneq_s16(sums[i][0], vget_low_s16(w), x[i], lane);
      sums[i][1] = vmlal_high_laneq_s16(sums[i][1], w, x[i], lane);
    }
  }

  template <int count>
  [[gnu::always_inline]] static void dot32(const int16x8_t* codes, const int16_t* x, size_t x_stride, Sums* sums) {
    for (int i = 0; i < count; ++i) sums[i][0] = sums[i][1] = vdupq_n_s32(0);
    for (int c = 0; c < kGroup; c += 8) {
      int16x8_t v[count];
      for (int i = 0; i < count; ++i) v[i] = vld1q_s16(x + i * x_stride + c);
      add_column<0, count>(codes[c], v, sums);
      add_column<1, count>(codes[c + 1], v, sums);
      add_column<2, count>(codes[c + 2], v, sums);
      add_column<3, count>(codes[c + 3], v, sums);
      add_column<4, count>(codes[c + 4], v, sums);
      add_column<5, count>(codes[c + 5], v, sums);
      add_column<6, count>(codes[c + 6], v, sums);
      add_column<7, count>(codes[c + 7], v, sums);
    }
  }
};

}  // namespace

namespace neon {

void quantize(const float* x, int cols, int16_t* codes, Factor* factors) {
  for (int g = 0; g < cols / kGroup; ++g, x += kGroup, codes += kGroup) {
    int32x4_t n[8];
    factors[g] = round_group(x, 32767, n);
    for (int k = 0; k < 8; ++k) vst1_s16(codes + 4 * k, vmovn_s32(n[k]));
  }
}

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  (w.nibbles() ? packed_few_of<Int16<true>> : packed_few_of<Int16<false>>)(w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  (w.nibbles() ? packed_many_of<Int16<true>> : packed_many_of<Int16<false>>)(w, first, last, x, n, y);
}

}  // namespace neon
}  // namespace mlx_lm::kernels
#endif
