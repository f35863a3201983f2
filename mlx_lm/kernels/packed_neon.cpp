// NEON: products of quantized weights and 8-bit activations, for processors without dotprod.
//
// smlal adds 8 products of bytes to 16 bits each. Several pieces fit as long as 127 * pieces * (largest code) < 2^15:
// all 8 for codes of up to 4 bits, 4 for up to 6, 2 for 8-bit codes less 128. So every sum of 32 products is exact.
#if defined(__aarch64__)
#include "mlx_lm/kernels/packed_neon.h"

#include "mlx_lm/kernels/arm.h"

namespace mlx_lm::kernels {
namespace {

template <int bits>
struct Int8 : Bytes<bits> {
  using Code = int8_t;
  using Vector = int8x16_t;
  static constexpr int kVectors = 16;
  static constexpr int kDepth = 1024;
  static constexpr int kPieces = bits == 4 ? 8 : bits == 6 ? 4 : 2;  // whose products fit into 16 bits
  static constexpr int kTile = 2;

  // Piece 4 * half + lane. pairs[k]: 4 sums each for rows 2k and 2k + 1, in 32 bits 2 each.
  template <int half, int lane, int count>
  static void add_piece(const int8x16_t* codes, const int8x16_t* x, int16x8_t (*sums)[4], int32x4_t (*pairs)[4]) {
    constexpr int kPiece = 4 * half + lane;
    for (int i = 0; i < count; ++i) {
      const int8x16_t four = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x[i]), lane));
      for (int h = 0; h < 2; ++h) {
        const int8x16_t w = codes[2 * kPiece + h];
        int16x8_t* to = sums[i] + 2 * h;
        if constexpr (kPiece % kPieces == 0) {
          to[0] = vmull_s8(vget_low_s8(w), vget_low_s8(four));
          to[1] = vmull_high_s8(w, four);
        } else {
          to[0] = vmlal_s8(to[0], vget_low_s8(w), vget_low_s8(four));
          to[1] = vmlal_high_s8(to[1], w, four);
        }
      }
      if constexpr (kPiece % kPieces == kPieces - 1) {
        for (int k = 0; k < 4; ++k) {
          pairs[i][k] = kPiece < kPieces ? vpaddlq_s16(sums[i][k]) : vpadalq_s16(pairs[i][k], sums[i][k]);
        }
      }
    }
  }

  template <int count>
  [[gnu::always_inline]] static void dot32(const int8x16_t* codes, const int8_t* x, size_t x_stride, Sums* sums) {
    int16x8_t products[count][4];
    int32x4_t pairs[count][4];
    int8x16_t v[count];
    for (int i = 0; i < count; ++i) v[i] = vld1q_s8(x + i * x_stride);
    add_piece<0, 0, count>(codes, v, products, pairs);
    add_piece<0, 1, count>(codes, v, products, pairs);
    add_piece<0, 2, count>(codes, v, products, pairs);
    add_piece<0, 3, count>(codes, v, products, pairs);
    for (int i = 0; i < count; ++i) v[i] = vld1q_s8(x + i * x_stride + 16);
    add_piece<1, 0, count>(codes, v, products, pairs);
    add_piece<1, 1, count>(codes, v, products, pairs);
    add_piece<1, 2, count>(codes, v, products, pairs);
    add_piece<1, 3, count>(codes, v, products, pairs);
    for (int i = 0; i < count; ++i) {
      for (int h = 0; h < 2; ++h) sums[i][h] = vpaddq_s32(pairs[i][2 * h], pairs[i][2 * h + 1]);
    }
  }
};

// Codes of a piece, in the low bytes, as a column of the panel.
inline void store_column(uint8x8_t codes, float32x4x2_t scale, float32x4x2_t bias, float* column) {
  const uint16x8_t wide = vmovl_u8(codes);
  const uint32x4_t code[2] = {vmovl_u16(vget_low_u16(wide)), vmovl_high_u16(wide)};
  for (int h = 0; h < 2; ++h) {
    // Product and sum are rounded apart, as in MLX's dequantize.
    vst1q_f32(column + 4 * h, vaddq_f32(vmulq_f32(vcvtq_f32_u32(code[h]), scale.val[h]), bias.val[h]));
  }
}

template <bool nibbles, Type type>
void dequantize_of(const PackedView& w, int block, int begin, int end, float* panel) {
  for (int c = begin; c < end; c += kGroup, panel += kGroup * kBlock) {
    const uint8_t* group = w.data + block * w.block_bytes() + c / w.group_size * w.group_bytes();
    const uint8_t* from = group + 16 * size_of(type) + c % w.group_size / kGroup * w.piece_bytes();
    const float32x4x2_t scale = load8<type>(group), bias = load8<type>(group + 8 * size_of(type));
    int8x16_t codes[16];
    Bytes<nibbles ? 4 : 6>::unpack(from, codes);  // 6: any number that leaves the bytes as they are
    for (int j = 0; j < 8; ++j) {
      const uint8x16_t a = vreinterpretq_u8_s8(codes[2 * j]), b = vreinterpretq_u8_s8(codes[2 * j + 1]);
      const uint8x16_t even = vuzp1q_u8(a, b), odd = vuzp2q_u8(a, b);  // columns 0, 2, 0, 2, ... and 1, 3, 1, 3, ...
      const uint8x16_t first = vuzp1q_u8(even, odd), second = vuzp2q_u8(even, odd);  // 0 then 1; 2 then 3
      float* to = panel + 4 * j * kBlock;
      store_column(vget_low_u8(first), scale, bias, to);
      store_column(vget_high_u8(first), scale, bias, to + kBlock);
      store_column(vget_low_u8(second), scale, bias, to + 2 * kBlock);
      store_column(vget_high_u8(second), scale, bias, to + 3 * kBlock);
    }
  }
}

template <Type type>
constexpr auto dequantize_nibbles = dequantize_of<true, type>;
template <Type type>
constexpr auto dequantize_bytes = dequantize_of<false, type>;

}  // namespace

namespace neon {

void quantize(const float* x, int cols, int8_t* codes, Factor* factors) {
  for (int g = 0; g < cols / kGroup; ++g, x += kGroup, codes += kGroup) {
    int32x4_t n[8];
    factors[g] = round_group(x, 127, n);
    for (int k = 0; k < 8; k += 4) {
      const int16x8_t low = vcombine_s16(vmovn_s32(n[k]), vmovn_s32(n[k + 1]));
      const int16x8_t high = vcombine_s16(vmovn_s32(n[k + 2]), vmovn_s32(n[k + 3]));
      vst1q_s8(codes + 4 * k, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    }
  }
}

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_few_of, Int8, w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  MLX_LM_FOR_BITS(w.bits, packed_many_of, Int8, w, first, last, x, n, y);
}

void dequantize(const PackedView& w, int block, int begin, int end, float* panel) {
  if (w.nibbles()) {
    MLX_LM_FOR_TYPE(w.type, dequantize_nibbles, w, block, begin, end, panel);
  } else {
    MLX_LM_FOR_TYPE(w.type, dequantize_bytes, w, block, begin, end, panel);
  }
}

}  // namespace neon
}  // namespace mlx_lm::kernels
#endif
