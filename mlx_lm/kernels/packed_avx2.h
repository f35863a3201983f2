// The loops that the AVX2 products of packed matrices share, whatever their activations are. A Kind says how codes are
// unpacked and multiplied:
//   Code                                 an activation
//   kVectors                             that 8 rows by 32 columns of codes unpack to
//   kPackedBytes                         those codes before that
//   kDepth                               columns to unpack at a time: about 20 KiB of the first-level cache
//   kBiased                              whether there are biases to add
//   unpack(from, vectors)
//   shifted(bias, scale)                 the bias for what unpack() makes of the codes
//   dot(vectors, x)                      8 sums of the products of a part
//   dot_tile<count>(vectors, x, stride, sums)
//                                        the same for `count` activation rows and two blocks, whose vectors alternate
// and Scales, what stands in front of a group of codes:
//   kBytes                               of it
//   kParts                               1, or 2: the halves of 32 columns have scales of their own
//   scale(from, part), bias(from)        of 8 rows
// Included only where AVX2, FMA and F16C are on; everything is `static` or in an unnamed namespace, see convert.h.
#pragma once

#include "mlx_lm/kernels/avx2.h"

namespace mlx_lm::kernels {
namespace {

// Keeps the compiler from turning a running sum into a tree of sums: GCC 12 does, and then spills 24 registers.
inline void keep(__m256i& sum) { asm("" : "+x"(sum)); }

inline __m256i broadcast_bytes(const void* four) {
  int32_t value;
  std::memcpy(&value, four, 4);
  return _mm256_set1_epi32(value);
}

inline __m256 add_bias(__m256 sum, __m256 bias, const Factor& factor) {
  return _mm256_fmadd_ps(bias, _mm256_broadcast_ss(&factor.sum), sum);
}

inline __m256 add_products(__m256 sum, __m256i products, __m256 scale, const Factor& factor) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scale, _mm256_broadcast_ss(&factor.scale)), sum);
}

template <Type type>
struct AffineScales {
  static constexpr int kParts = 1;
  static constexpr size_t kBytes = 16 * size_of(type);
  static __m256 scale(const uint8_t* from, int) { return load8<type>(from); }
  static __m256 bias(const uint8_t* from) { return load8<type>(from + 8 * size_of(type)); }
};

// The 32 activations at x as whole numbers of up to `most_code`, 8 in each of n.
inline Factor round_group(const float* x, float most_code, __m256i* n) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256 top = _mm256_set1_ps(most_code), bottom = _mm256_set1_ps(-most_code);
  __m256 v[4], high = _mm256_setzero_ps();
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm256_loadu_ps(x + 8 * k);
    high = _mm256_max_ps(high, _mm256_and_ps(v[k], magnitude));
  }
  const float most = max8(high);
  const __m256 inverse = _mm256_set1_ps(most > 0 ? most_code / most : 0);
  for (int k = 0; k < 4; ++k) {
    n[k] = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(v[k], inverse), bottom), top));
  }
  const int sum = sum8(_mm256_add_epi32(_mm256_add_epi32(n[0], n[1]), _mm256_add_epi32(n[2], n[3])));
  const float scale = most / most_code;
  return {scale, scale * static_cast<float>(sum)};
}

inline void store(float* y, __m256 value, int rows) {
  if (rows >= 8) {
    _mm256_storeu_ps(y, value);
  } else {
    store_part(y, value, rows);
  }
}

// y rows [0, count) of blocks [first, last), reading the packed weights once.
template <class Kind, class Scales, int count>
void few(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, float* y) {
  constexpr size_t kAhead = 1536;  // bytes; 10-15% on Zen 3, whose own prefetcher stops at page ends
  const int subgroups = w.group_size / kGroup;
  const int factors = w.cols / kGroup;
  for (int block = first; block < last; ++block) {
    const uint8_t* from = w.data + block * w.block_bytes();
    __m256 sums[count];
    for (int i = 0; i < count; ++i) sums[i] = _mm256_setzero_ps();
    for (int g = 0; g < factors; g += subgroups) {
      __m256 scales[Scales::kParts], bias;
      for (int p = 0; p < Scales::kParts; ++p) scales[p] = Scales::scale(from, p);
      if constexpr (Kind::kBiased) bias = Kind::shifted(Scales::bias(from), scales[0]);
      from += Scales::kBytes;
      for (int s = g; s < g + subgroups; ++s, from += Kind::kPackedBytes) {
        for (size_t k = 0; k <= Kind::kPackedBytes; k += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(from + kAhead + k), _MM_HINT_T0);
        }
        __m256i codes[Kind::kVectors];
        Kind::unpack(from, codes);
        for (int i = 0; i < count; ++i) {
          const typename Kind::Code* x_codes = x.codes + static_cast<size_t>(i) * w.cols + s * kGroup;
          const Factor& factor = x.factors[static_cast<size_t>(i) * factors + s];
          if constexpr (Kind::kBiased) sums[i] = add_bias(sums[i], bias, factor);
          for (int p = 0; p < Scales::kParts; ++p) {
            const __m256i products =
                Kind::dot(codes + p * Kind::kVectors / Scales::kParts, x_codes + p * kGroup / Scales::kParts);
            sums[i] = add_products(sums[i], products, scales[p], factor);
          }
        }
      }
    }
    for (int i = 0; i < count; ++i) {
      store(y + static_cast<size_t>(i) * w.rows + block * kBlock, sums[i], w.rows - block * kBlock);
    }
  }
}

template <class Kind, class Scales>
void few_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  int i = 0;
  for (; i + 4 <= n; i += 4) few<Kind, Scales, 4>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i + 2 <= n; i += 2) few<Kind, Scales, 2>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i < n; ++i) few<Kind, Scales, 1>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
}

// Blocks that are multiplied together: one broadcast of activations serves them all. With a single block the loads, of
// which the processor does one or two per product, were the bottleneck.
constexpr int kTogether = 2;
// Columns of two blocks unpacked; for each part of them the vectors of both in turn.
template <class Kind, class Scales>
struct Unpacked {
  static constexpr int kColumns = kGroup / Scales::kParts;          // of a part
  static constexpr int kVectors = Kind::kVectors / Scales::kParts;  // of a part
  alignas(32) __m256i codes[Kind::kDepth / kColumns * kVectors * kTogether];
  alignas(32) float scales[Kind::kDepth / kColumns * kTogether * kBlock];
  alignas(32) float biases[Kind::kBiased ? Kind::kDepth / kColumns * kTogether * kBlock : 1];
};

// Columns [begin, begin + depth) of a block. which: 0 or 1, its place in `to`.
template <class Kind, class Scales>
void unpack_block(const PackedView& w, int block, int which, int begin, int depth, Unpacked<Kind, Scales>& to) {
  for (int g = 0; g < depth / kGroup; ++g) {
    const int column = begin + g * kGroup;
    const uint8_t* group = w.data + block * w.block_bytes() + column / w.group_size * w.group_bytes();
    __m256i codes[Kind::kVectors];
    Kind::unpack(group + Scales::kBytes + column % w.group_size / kGroup * w.piece_bytes(), codes);
    for (int j = 0; j < Kind::kVectors; ++j) to.codes[(g * Kind::kVectors + j) * kTogether + which] = codes[j];
    for (int p = 0; p < Scales::kParts; ++p) {
      const int at = ((g * Scales::kParts + p) * kTogether + which) * kBlock;
      const __m256 scale = Scales::scale(group, p);
      _mm256_store_ps(to.scales + at, scale);
      if constexpr (Kind::kBiased) _mm256_store_ps(to.biases + at, Kind::shifted(Scales::bias(group), scale));
    }
  }
}

// y rows [0, count) of two blocks; adds to what y holds unless the columns are the first. rows: of both, 16 or fewer.
template <class Kind, class Scales, int count>
void tile(const Unpacked<Kind, Scales>& w, int begin, int depth, const QuantizedRows<typename Kind::Code>& x, float* y,
          size_t y_stride, int rows) {
  const size_t factors = x.cols / kGroup;
  const typename Kind::Code* x_codes = x.codes + begin;
  const Factor* x_factors = x.factors + begin / kGroup;
  __m256 sums[count][kTogether];
  for (int i = 0; i < count; ++i) {
    for (int b = 0; b < kTogether; ++b) {
      const float* from = y + i * y_stride + b * kBlock;
      const int left = rows - b * kBlock;
      sums[i][b] = begin == 0 || left <= 0 ? _mm256_setzero_ps()
                   : left >= kBlock        ? _mm256_loadu_ps(from)
                                           : load_part<Type::f32>(from, left);
    }
  }
  for (int g = 0; g < depth / w.kColumns; ++g) {
    __m256i products[count][kTogether];
    Kind::template dot_tile<count>(w.codes + g * w.kVectors * kTogether, x_codes + g * w.kColumns, x.cols, products);
    for (int i = 0; i < count; ++i) {
      const Factor& factor = x_factors[i * factors + g / Scales::kParts];
      for (int b = 0; b < kTogether; ++b) {
        const int at = (g * kTogether + b) * kBlock;
        if constexpr (Kind::kBiased) sums[i][b] = add_bias(sums[i][b], _mm256_load_ps(w.biases + at), factor);
        sums[i][b] = add_products(sums[i][b], products[i][b], _mm256_load_ps(w.scales + at), factor);
      }
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int b = 0; b < kTogether && rows > b * kBlock; ++b) {
      store(y + i * y_stride + b * kBlock, sums[i][b], rows - b * kBlock);
    }
  }
}

template <class Kind, class Scales>
void many_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  Unpacked<Kind, Scales> unpacked;
  for (int block = first; block < last; block += kTogether) {
    const int blocks = last - block < kTogether ? last - block : kTogether;
    const int rows = w.rows - block * kBlock < blocks * kBlock ? w.rows - block * kBlock : blocks * kBlock;
    for (int begin = 0; begin < w.cols; begin += Kind::kDepth) {
      const int depth = w.cols - begin < Kind::kDepth ? w.cols - begin : Kind::kDepth;
      for (int b = 0; b < kTogether; ++b) {
        unpack_block<Kind, Scales>(w, b < blocks ? block + b : block, b, begin, depth, unpacked);
      }
      int i = 0;
      const auto tiles = [&](auto run, int count) {
        for (; i + count <= n; i += count) {
          float* out = y + static_cast<size_t>(i) * w.rows + block * kBlock;
          run(unpacked, begin, depth, x.from(i), out, w.rows, rows);
        }
      };
      tiles(tile<Kind, Scales, 4>, 4);
      tiles(tile<Kind, Scales, 1>, 1);
    }
  }
}

// few_of or many_of for the type of the scales.
template <class Kind>
void packed_few_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n,
                   float* y) {
  (w.type == Type::f32   ? few_of<Kind, AffineScales<Type::f32>>
   : w.type == Type::f16 ? few_of<Kind, AffineScales<Type::f16>>
                         : few_of<Kind, AffineScales<Type::bf16>>)(w, first, last, x, n, y);
}

template <class Kind>
void packed_many_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n,
                    float* y) {
  (w.type == Type::f32   ? many_of<Kind, AffineScales<Type::f32>>
   : w.type == Type::f16 ? many_of<Kind, AffineScales<Type::f16>>
                         : many_of<Kind, AffineScales<Type::bf16>>)(w, first, last, x, n, y);
}

}  // namespace
}  // namespace mlx_lm::kernels
