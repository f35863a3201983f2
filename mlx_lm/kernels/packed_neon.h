// The loops that the arm64 products of packed matrices share, whatever their activations and instructions are. A Kind
// says how codes are unpacked and multiplied:
//   Code                                 an activation
//   Vector                               16 bytes of unpacked codes
//   kVectors                             that 8 rows by 32 columns of codes unpack to
//   kPackedBytes                         those codes before that
//   kDepth                               columns to unpack at a time: about 10 KiB of the first-level cache
//   kTile                                activation rows of a tile of `many`: as many as the registers hold
//   unpack(from, vectors)
//   shifted(bias, scale)                 the bias for what unpack() makes of the codes
//   dot32<count>(vectors, x, stride, sums)
//                                        sums[i]: 8 sums of 32 products with activation row i, rows 0-3 and 4-7.
//                                        Always inline: a call would pass the sums through memory
// Everything is `static` or in an unnamed namespace, see convert.h.
#pragma once

#include "mlx_lm/kernels/neon.h"

namespace mlx_lm::kernels {
namespace {

// The two halves of 8 rows.
using Sums = int32x4_t[2];

// Codes as one signed byte each. bits: 4 for up to 4, 6 for 5 and 6, 8 for 8, whose codes are made signed: less 128.
template <int bits>
struct Bytes {
  static constexpr size_t kPackedBytes = bits == 4 ? 128 : 256;

  // Vectors 2j and 2j + 1 are piece j.
  static void unpack(const uint8_t* from, int8x16_t* codes) {
    if constexpr (bits == 4) {
      for (int j = 0; j < 8; ++j) {
        const uint8x16_t both = vld1q_u8(from + 16 * j);
        codes[j] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
        codes[j + 8] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
      }
    } else {
      for (int j = 0; j < 16; ++j) {
        const uint8x16_t code = vld1q_u8(from + 16 * j);
        codes[j] = vreinterpretq_s8_u8(bits == 8 ? veorq_u8(code, vdupq_n_u8(128)) : code);
      }
    }
  }

  static float32x4x2_t shifted(float32x4x2_t bias, float32x4x2_t scale) {
    if constexpr (bits == 8) {
      for (int h = 0; h < 2; ++h) bias.val[h] = vfmaq_n_f32(bias.val[h], scale.val[h], 128.f);
    }
    return bias;
  }
};

// f<Kind<bits>>(...) for a number of bits.
#define MLX_LM_FOR_BITS(bits, f, Kind, ...) \
  ((bits) <= 4 ? f<Kind<4>>(__VA_ARGS__) : (bits) <= 6 ? f<Kind<6>>(__VA_ARGS__) : f<Kind<8>>(__VA_ARGS__))

// The 32 activations at x as whole numbers of up to `most_code`, 4 in each of n.
inline Factor round_group(const float* x, float most_code, int32x4_t* n) {
  float32x4_t v[8], high = vdupq_n_f32(0);
  for (int k = 0; k < 8; ++k) {
    v[k] = vld1q_f32(x + 4 * k);
    high = vmaxq_f32(high, vabsq_f32(v[k]));
  }
  const float most = vmaxvq_f32(high);
  const float inverse = most > 0 ? most_code / most : 0;
  const float32x4_t top = vdupq_n_f32(most_code), bottom = vdupq_n_f32(-most_code);
  int32x4_t sums = vdupq_n_s32(0);
  for (int k = 0; k < 8; ++k) {
    n[k] = vcvtnq_s32_f32(vminq_f32(vmaxq_f32(vmulq_n_f32(v[k], inverse), bottom), top));
    sums = vaddq_s32(sums, n[k]);
  }
  const float scale = most / most_code;
  return {scale, scale * static_cast<float>(vaddvq_s32(sums))};
}

inline void add_group(float32x4_t (&sums)[2], const Sums& products, float32x4x2_t scale, float32x4x2_t bias,
                      const Factor& factor) {
  const float32x2_t f = vld1_f32(&factor.scale);  // and its sum
  for (int h = 0; h < 2; ++h) {
    sums[h] = vfmaq_lane_f32(sums[h], bias.val[h], f, 1);
    sums[h] = vfmaq_f32(sums[h], vcvtq_f32_s32(products[h]), vmulq_lane_f32(scale.val[h], f, 0));
  }
}

// y rows [0, count) of blocks [first, last), reading the packed weights once.
template <class Kind, Type type, int count>
void few(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, float* y) {
  const int subgroups = w.group_size / kGroup;
  const int factors = w.cols / kGroup;
  for (int block = first; block < last; ++block) {
    const uint8_t* from = w.data + block * w.block_bytes();
    float32x4_t sums[count][2];
    for (int i = 0; i < count; ++i) sums[i][0] = sums[i][1] = vdupq_n_f32(0);
    for (int g = 0; g < factors; g += subgroups) {
      const float32x4x2_t scale = load8<type>(from);
      const float32x4x2_t bias = Kind::shifted(load8<type>(from + 8 * size_of(type)), scale);
      from += 16 * size_of(type);
      for (int s = g; s < g + subgroups; ++s, from += Kind::kPackedBytes) {
        typename Kind::Vector codes[Kind::kVectors];
        Kind::unpack(from, codes);
        Sums products[count];
        Kind::template dot32<count>(codes, x.codes + s * kGroup, w.cols, products);
        for (int i = 0; i < count; ++i) {
          add_group(sums[i], products[i], scale, bias, x.factors[static_cast<size_t>(i) * factors + s]);
        }
      }
    }
#pragma GCC unroll 4  // or the sums would stay in memory
    for (int i = 0; i < count; ++i) {
      float* to = y + static_cast<size_t>(i) * w.rows + block * kBlock;
      for (int h = 0; h < 2; ++h) store_up_to(to + 4 * h, sums[i][h], w.rows - block * kBlock - 4 * h);
    }
  }
}

template <class Kind, Type type>
void few_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  int i = 0;
  for (; i + 4 <= n; i += 4) few<Kind, type, 4>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i + 2 <= n; i += 2) few<Kind, type, 2>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i < n; ++i) few<Kind, type, 1>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
}

// A block's columns [begin, begin + depth) unpacked.
template <class Kind>
struct Unpacked {
  typename Kind::Vector codes[Kind::kDepth / kGroup * Kind::kVectors];
  float32x4x2_t scales[Kind::kDepth / kGroup], biases[Kind::kDepth / kGroup];
};

template <class Kind, Type type>
void unpack_block(const PackedView& w, int block, int begin, int depth, Unpacked<Kind>& to) {
  for (int g = 0; g < depth / kGroup; ++g) {
    const int column = begin + g * kGroup;
    const uint8_t* group = w.data + block * w.block_bytes() + column / w.group_size * w.group_bytes();
    Kind::unpack(group + 16 * size_of(type) + column % w.group_size / kGroup * w.piece_bytes(),
                 to.codes + g * Kind::kVectors);
    to.scales[g] = load8<type>(group);
    to.biases[g] = Kind::shifted(load8<type>(group + 8 * size_of(type)), to.scales[g]);
  }
}

// y rows [0, count) of a block; adds to what y holds unless the columns are the first.
template <class Kind, int count>
void tile(const Unpacked<Kind>& w, int begin, int depth, const QuantizedRows<typename Kind::Code>& x, float* y,
          size_t y_stride, int rows) {
  const size_t factors = x.cols / kGroup;
  const typename Kind::Code* x_codes = x.codes + begin;
  const Factor* x_factors = x.factors + begin / kGroup;
  float32x4_t sums[count][2];
#pragma GCC unroll 4  // or the sums would stay in memory
  for (int i = 0; i < count; ++i) {
    for (int h = 0; h < 2; ++h) sums[i][h] = load_up_to(y + i * y_stride + 4 * h, begin == 0 ? 0 : rows - 4 * h);
  }
  for (int g = 0; g < depth / kGroup; ++g) {
    Sums products[count];
    Kind::template dot32<count>(w.codes + g * Kind::kVectors, x_codes + g * kGroup, x.cols, products);
    for (int i = 0; i < count; ++i) {
      add_group(sums[i], products[i], w.scales[g], w.biases[g], x_factors[i * factors + g]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) {
    for (int h = 0; h < 2; ++h) store_up_to(y + i * y_stride + 4 * h, sums[i][h], rows - 4 * h);
  }
}

template <class Kind, Type type>
void many_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  Unpacked<Kind> unpacked;
  for (int block = first; block < last; ++block) {
    const int rows = w.rows - block * kBlock;
    for (int begin = 0; begin < w.cols; begin += Kind::kDepth) {
      const int depth = w.cols - begin < Kind::kDepth ? w.cols - begin : Kind::kDepth;
      unpack_block<Kind, type>(w, block, begin, depth, unpacked);
      int i = 0;
      const auto tiles = [&](auto run, int count) {
        for (; i + count <= n; i += count) {
          run(unpacked, begin, depth, x.from(i), y + static_cast<size_t>(i) * w.rows + block * kBlock, w.rows, rows);
        }
      };
      tiles(tile<Kind, Kind::kTile>, Kind::kTile);
      tiles(tile<Kind, 1>, 1);
    }
  }
}

// few_of or many_of for the type of the scales.
template <class Kind>
void packed_few_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n,
                   float* y) {
  (w.type == Type::f32   ? few_of<Kind, Type::f32>
   : w.type == Type::f16 ? few_of<Kind, Type::f16>
                         : few_of<Kind, Type::bf16>)(w, first, last, x, n, y);
}

template <class Kind>
void packed_many_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n,
                    float* y) {
  (w.type == Type::f32   ? many_of<Kind, Type::f32>
   : w.type == Type::f16 ? many_of<Kind, Type::f16>
                         : many_of<Kind, Type::bf16>)(w, first, last, x, n, y);
}

}  // namespace
}  // namespace mlx_lm::kernels
