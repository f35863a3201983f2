// NEON with i8mm: products of quantized weights and many rows of activations. smmla multiplies 2 rows of 8 signed bytes
// by 2 others: 32 products, where sdot makes 16. Every sum of 32 products is exact.
//
// With 8-bit activations the 2 others are two rows of them; with 16-bit ones the high and the low halves of one row,
// which stand side by side for that (dotprod::quantize).
#if defined(__aarch64__)
#include "mlx_lm/kernels/arm.h"
#include "mlx_lm/kernels/packed_neon.h"

namespace mlx_lm::kernels {
namespace {

// Codes in pairs of rows: vector 4k + p holds columns 8k..8k+7 of row 2p, then of row 2p + 1.
template <int bits>
struct PairedBytes : Bytes<bits> {
  using Vector = int8x16_t;
  static constexpr int kVectors = 16;
  static constexpr int kDepth = 512;
  static constexpr int kTile = 4;

  static void unpack(const uint8_t* from, int8x16_t* codes) {
    int8x16_t bytes[16];
    Bytes<bits>::unpack(from, bytes);
    for (int k = 0; k < 16; k += 4) {
      for (int h = 0; h < 2; ++h) {
        const int32x4_t a = vreinterpretq_s32_s8(bytes[k + h]), b = vreinterpretq_s32_s8(bytes[k + 2 + h]);
        codes[k + 2 * h] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
        codes[k + 2 * h + 1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
      }
    }
  }
};

template <int bits>
struct Int8 : PairedBytes<bits> {
  using Code = int8_t;

  template <int count>
  [[gnu::always_inline]] static void dot32(const int8x16_t* codes, const int8_t* x, size_t x_stride, Sums* sums) {
    constexpr int kPairs = (count + 1) / 2;  // of activation rows; a single one is paired with itself
    int32x4_t products[kPairs][4];           // [p]: row 2p with both activation rows, then row 2p + 1
    for (int i = 0; i < kPairs; ++i) {
      for (int p = 0; p < 4; ++p) products[i][p] = vdupq_n_s32(0);
    }
    for (int c = 0; c < kGroup; c += 16, codes += 8) {
      int8x16_t v[kPairs][2];
      for (int i = 0; i < kPairs; ++i) {
        const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(x + 2 * i * x_stride + c));
        const int64x2_t b = count == 1 ? a : vreinterpretq_s64_s8(vld1q_s8(x + (2 * i + 1) * x_stride + c));
        v[i][0] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
        v[i][1] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
      }
      for (int k = 0; k < 2; ++k) {
        for (int p = 0; p < 4; ++p) {
          for (int i = 0; i < kPairs; ++i) products[i][p] = vmmlaq_s32(products[i][p], codes[4 * k + p], v[i][k]);
        }
      }
    }
    for (int i = 0; i < count; ++i) {
      const int32x4_t* of = products[i / 2];
      for (int h = 0; h < 2; ++h) {
        sums[i][h] = i % 2 == 0 ? vuzp1q_s32(of[2 * h], of[2 * h + 1]) : vuzp2q_s32(of[2 * h], of[2 * h + 1]);
      }
    }
  }
};

template <int bits>
struct Int16 : PairedBytes<bits> {
  using Code = int16_t;

  template <int count>
  [[gnu::always_inline]] static void dot32(const int8x16_t* codes, const int16_t* x, size_t x_stride, Sums* sums) {
    for (int h = 0; h < 2; ++h) {  // one half after the other: both at once need more registers than there are
      int32x4_t first[count], second[count];  // of rows 4h: high halves, low ones; of row 4h + 1 the same; 4h + 2, ...
      for (int i = 0; i < count; ++i) first[i] = second[i] = vdupq_n_s32(0);
      for (int c = 0; c < kGroup; c += 8) {
        const int8x16_t w0 = codes[c / 2 + 2 * h], w1 = codes[c / 2 + 2 * h + 1];
        for (int i = 0; i < count; ++i) {
          const int8x16_t v = vreinterpretq_s8_s16(vld1q_s16(x + i * x_stride + c));
          first[i] = vmmlaq_s32(first[i], w0, v);
          second[i] = vmmlaq_s32(second[i], w1, v);
        }
      }
      for (int i = 0; i < count; ++i) {
        const int32x4_t high = vuzp1q_s32(first[i], second[i]), low = vuzp2q_s32(first[i], second[i]);
        sums[i][h] = vaddq_s32(vshlq_n_s32(high, 8), low);
      }
    }
  }
};

}  // namespace

namespace i8mm {

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_many_of, Int8, w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_many_of, Int16, w, first, last, x, n, y);
}

}  // namespace i8mm
}  // namespace mlx_lm::kernels
#endif
