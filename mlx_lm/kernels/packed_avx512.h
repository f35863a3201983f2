// The loops that the AVX-512 products of packed matrices share, whatever their activations are. Two neighbouring blocks
// of 8 rows are multiplied together. A Kind says how codes are unpacked and multiplied:
//   Code                 an activation
//   kVectors             that 16 rows by 32 columns of codes unpack to
//   kPackedBytes         those codes of one block before that
//   kDepth               columns to unpack at a time: about 20 KiB
//   kBiased              whether there are biases to add
//   unpack(from, vectors)
//   dot(vectors, x)      16 sums of the products of a part
// and Scales, what stands in front of a group of codes, as in packed_avx2.h.
// Included only where AVX-512 with VNNI is on; everything is in an unnamed namespace, see convert.h.
#pragma once

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own AVX-512 header (GCC bug 105593)
#include "mlx_lm/kernels/avx2.h"

namespace mlx_lm::kernels {
namespace {

// Two blocks; the second is the first again where there is none.
struct Pair {
  const uint8_t* first;
  const uint8_t* second;
};

inline __m512i load_codes(const Pair& from, int piece) {
  const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.first) + piece));
  return _mm512_inserti64x4(low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.second) + piece), 1);
}

template <Type type>
inline __m512 load_numbers(const Pair& from, size_t offset) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(load8<type>(from.first + offset)), load8<type>(from.second + offset),
                            1);
}

inline __m512i broadcast_bytes(const void* four) {
  int32_t value;
  std::memcpy(&value, four, 4);
  return _mm512_set1_epi32(value);
}

template <Type type>
struct AffineScales {
  static constexpr int kParts = 1;
  static constexpr size_t kBytes = 16 * size_of(type);
  static __m512 scale(const Pair& from, int) { return load_numbers<type>(from, 0); }
  static __m512 bias(const Pair& from) { return load_numbers<type>(from, 8 * size_of(type)); }
};

// 16 sums of 4 * vectors products: codes of 8 bits without a sign, activations of 8.
template <int vectors>
struct Int8Dots {
  using Code = int8_t;
  static __m512i dot(const __m512i* codes, const int8_t* x) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (int j = 0; j < vectors; j += 2) {
      even = _mm512_dpbusd_epi32(even, codes[j], broadcast_bytes(x + 4 * j));
      odd = _mm512_dpbusd_epi32(odd, codes[j + 1], broadcast_bytes(x + 4 * j + 4));
    }
    return _mm512_add_epi32(even, odd);
  }
};

// 16 sums of 2 * vectors products of 16 bits.
template <int vectors>
struct Int16Dots {
  using Code = int16_t;
  static __m512i dot(const __m512i* codes, const int16_t* x) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (int p = 0; p < vectors; p += 2) {
      even = _mm512_dpwssd_epi32(even, codes[p], broadcast_bytes(x + 2 * p));
      odd = _mm512_dpwssd_epi32(odd, codes[p + 1], broadcast_bytes(x + 2 * p + 2));
    }
    return _mm512_add_epi32(even, odd);
  }
};

inline __m512 add_bias(__m512 sum, __m512 bias, const Factor& factor) {
  return _mm512_fmadd_ps(bias, _mm512_set1_ps(factor.sum), sum);
}

inline __m512 add_products(__m512 sum, __m512i products, __m512 scale, const Factor& factor) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(scale, _mm512_set1_ps(factor.scale)), sum);
}

// Which of the 16 rows of a pair exist.
inline __mmask16 rows_of(const PackedView& w, int block, int last) {
  int rows = w.rows - block * kBlock;
  if (block + 1 >= last && rows > kBlock) rows = kBlock;
  return rows >= 16 ? 0xffff : static_cast<__mmask16>((1u << rows) - 1);
}

Pair pair_at(const PackedView& w, int block, int last, size_t offset) {
  const uint8_t* first = w.data + block * w.block_bytes() + offset;
  return {first, block + 1 < last ? first + w.block_bytes() : first};
}

template <class Kind, class Scales, int count>
void few(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, float* y) {
  const int subgroups = w.group_size / kGroup;
  const int factors = w.cols / kGroup;
  for (int block = first; block < last; block += 2) {
    Pair from = pair_at(w, block, last, 0);
    __m512 sums[count];
    for (int i = 0; i < count; ++i) sums[i] = _mm512_setzero_ps();
    for (int g = 0; g < factors; g += subgroups) {
      __m512 scales[Scales::kParts], bias;
      for (int p = 0; p < Scales::kParts; ++p) scales[p] = Scales::scale(from, p);
      if constexpr (Kind::kBiased) bias = Kind::shifted(Scales::bias(from), scales[0]);
      from = {from.first + Scales::kBytes, from.second + Scales::kBytes};
      for (int s = g; s < g + subgroups; ++s) {
        __m512i codes[Kind::kVectors];
        Kind::unpack(from, codes);
        from = {from.first + Kind::kPackedBytes, from.second + Kind::kPackedBytes};
        for (int i = 0; i < count; ++i) {
          const typename Kind::Code* x_codes = x.codes + static_cast<size_t>(i) * w.cols + s * kGroup;
          const Factor& factor = x.factors[static_cast<size_t>(i) * factors + s];
          if constexpr (Kind::kBiased) sums[i] = add_bias(sums[i], bias, factor);
          for (int p = 0; p < Scales::kParts; ++p) {
            const __m512i products =
                Kind::dot(codes + p * Kind::kVectors / Scales::kParts, x_codes + p * kGroup / Scales::kParts);
            sums[i] = add_products(sums[i], products, scales[p], factor);
          }
        }
      }
    }
    const __mmask16 rows = rows_of(w, block, last);
    for (int i = 0; i < count; ++i) {
      _mm512_mask_storeu_ps(y + static_cast<size_t>(i) * w.rows + block * kBlock, rows, sums[i]);
    }
  }
}

template <class Kind, class Scales>
void few_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  int i = 0;
  for (; i + 4 <= n; i += 4) few<Kind, Scales, 4>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i < n; ++i) few<Kind, Scales, 1>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
}

// A pair's columns [begin, begin + depth) unpacked.
template <class Kind, class Scales>
struct Unpacked {
  static constexpr int kColumns = kGroup / Scales::kParts;          // of a part
  static constexpr int kVectors = Kind::kVectors / Scales::kParts;  // of a part
  alignas(64) __m512i codes[Kind::kDepth / kColumns * kVectors];
  alignas(64) float scales[Kind::kDepth / kColumns * 16];
  alignas(64) float biases[Kind::kBiased ? Kind::kDepth / kColumns * 16 : 1];
};

template <class Kind, class Scales>
void unpack_pair(const PackedView& w, int block, int last, int begin, int depth, Unpacked<Kind, Scales>& to) {
  for (int c = 0; c < depth; c += kGroup) {
    const int column = begin + c;
    const size_t offset = column / w.group_size * w.group_bytes();
    const size_t codes_offset = Scales::kBytes + column % w.group_size / kGroup * w.piece_bytes();
    __m512i codes[Kind::kVectors];
    Kind::unpack(pair_at(w, block, last, offset + codes_offset), codes);
    for (int j = 0; j < Kind::kVectors; ++j) to.codes[c / kGroup * Kind::kVectors + j] = codes[j];
    const Pair group = pair_at(w, block, last, offset);
    for (int p = 0; p < Scales::kParts; ++p) {
      const int at = (c / kGroup * Scales::kParts + p) * 16;
      const __m512 scale = Scales::scale(group, p);
      _mm512_store_ps(to.scales + at, scale);
      if constexpr (Kind::kBiased) _mm512_store_ps(to.biases + at, Kind::shifted(Scales::bias(group), scale));
    }
  }
}

// y rows [0, count) of one pair; adds to what y holds unless the columns are the first.
template <class Kind, class Scales, int count>
void tile(const Unpacked<Kind, Scales>& w, int begin, int depth, const QuantizedRows<typename Kind::Code>& x, float* y,
          size_t y_stride, __mmask16 rows) {
  const int factors = x.cols / kGroup;
  const typename Kind::Code* x_codes = x.codes + begin;
  const Factor* x_factors = x.factors + begin / kGroup;
  __m512 sums[count];
  for (int i = 0; i < count; ++i) {
    sums[i] = begin == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(rows, y + i * y_stride);
  }
  for (int g = 0; g < depth / w.kColumns; ++g) {
    __m512i codes[w.kVectors];
    for (int j = 0; j < w.kVectors; ++j) codes[j] = w.codes[g * w.kVectors + j];
    const __m512 scale = _mm512_load_ps(w.scales + g * 16);
    for (int i = 0; i < count; ++i) {
      const __m512i products = Kind::dot(codes, x_codes + static_cast<size_t>(i) * x.cols + g * w.kColumns);
      const Factor& factor = x_factors[static_cast<size_t>(i) * factors + g / Scales::kParts];
      if constexpr (Kind::kBiased) sums[i] = add_bias(sums[i], _mm512_load_ps(w.biases + g * 16), factor);
      sums[i] = add_products(sums[i], products, scale, factor);
    }
  }
  for (int i = 0; i < count; ++i) _mm512_mask_storeu_ps(y + i * y_stride, rows, sums[i]);
}

template <class Kind, class Scales>
void many_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  Unpacked<Kind, Scales> unpacked;
  for (int block = first; block < last; block += 2) {
    const __mmask16 rows = rows_of(w, block, last);
    for (int begin = 0; begin < w.cols; begin += Kind::kDepth) {
      const int depth = w.cols - begin < Kind::kDepth ? w.cols - begin : Kind::kDepth;
      unpack_pair<Kind, Scales>(w, block, last, begin, depth, unpacked);
      int i = 0;
      const auto tiles = [&](auto run, int count) {
        for (; i + count <= n; i += count) {
          run(unpacked, begin, depth, x.from(i), y + static_cast<size_t>(i) * w.rows + block * kBlock, w.rows, rows);
        }
      };
      tiles(tile<Kind, Scales, 8>, 8);
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
