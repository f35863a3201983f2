// The loops that the AVX-512 products of packed matrices share, whatever their activations are. Two neighbouring blocks
// of 8 rows are multiplied together. A Kind says how codes are unpacked and multiplied:
//   Code                 an activation
//   kVectors             that 16 rows by 32 columns of codes unpack to
//   kPackedBytes         those codes of one block before that
//   kDepth               columns to unpack at a time: about 20 KiB
//   unpack(from, vectors)
//   dot32(vectors, x)    16 sums of 32 products
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
  const __m512i low = _mm512_castsi256_si512(_mm256_load_si256(reinterpret_cast<const __m256i*>(from.first) + piece));
  return _mm512_inserti64x4(low, _mm256_load_si256(reinterpret_cast<const __m256i*>(from.second) + piece), 1);
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

inline __m512 add_group(__m512 sum, __m512i products, __m512 scale, __m512 bias, const Factor& factor) {
  sum = _mm512_fmadd_ps(bias, _mm512_set1_ps(factor.sum), sum);
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

template <class Kind, Type type, int count>
void few(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, float* y) {
  const int subgroups = w.group_size / kGroup;
  const int factors = w.cols / kGroup;
  for (int block = first; block < last; block += 2) {
    Pair from = pair_at(w, block, last, 0);
    __m512 sums[count];
    for (int i = 0; i < count; ++i) sums[i] = _mm512_setzero_ps();
    for (int g = 0; g < factors; g += subgroups) {
      const __m512 scale = load_numbers<type>(from, 0), bias = load_numbers<type>(from, 8 * size_of(type));
      from = {from.first + 16 * size_of(type), from.second + 16 * size_of(type)};
      for (int s = g; s < g + subgroups; ++s) {
        __m512i codes[Kind::kVectors];
        Kind::unpack(from, codes);
        from = {from.first + Kind::kPackedBytes, from.second + Kind::kPackedBytes};
        for (int i = 0; i < count; ++i) {
          const __m512i products = Kind::dot32(codes, x.codes + static_cast<size_t>(i) * w.cols + s * kGroup);
          sums[i] = add_group(sums[i], products, scale, bias, x.factors[static_cast<size_t>(i) * factors + s]);
        }
      }
    }
    const __mmask16 rows = rows_of(w, block, last);
    for (int i = 0; i < count; ++i) {
      _mm512_mask_storeu_ps(y + static_cast<size_t>(i) * w.rows + block * kBlock, rows, sums[i]);
    }
  }
}

template <class Kind, Type type>
void few_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  int i = 0;
  for (; i + 4 <= n; i += 4) few<Kind, type, 4>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i < n; ++i) few<Kind, type, 1>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
}

// A pair's columns [begin, begin + depth) unpacked.
template <class Kind>
struct Unpacked {
  alignas(64) __m512i codes[Kind::kDepth / kGroup * Kind::kVectors];
  alignas(64) float scales[Kind::kDepth / kGroup * 16];
  alignas(64) float biases[Kind::kDepth / kGroup * 16];
};

template <class Kind, Type type>
void unpack_pair(const PackedView& w, int block, int last, int begin, int depth, Unpacked<Kind>& to) {
  for (int c = 0; c < depth; c += kGroup) {
    const int column = begin + c;
    const size_t offset = column / w.group_size * w.group_bytes();
    const size_t codes_offset = 16 * size_of(type) + column % w.group_size / kGroup * w.piece_bytes();
    __m512i codes[Kind::kVectors];
    Kind::unpack(pair_at(w, block, last, offset + codes_offset), codes);
    for (int j = 0; j < Kind::kVectors; ++j) to.codes[c / kGroup * Kind::kVectors + j] = codes[j];
    const Pair group = pair_at(w, block, last, offset);
    _mm512_store_ps(to.scales + c / kGroup * 16, load_numbers<type>(group, 0));
    _mm512_store_ps(to.biases + c / kGroup * 16, load_numbers<type>(group, 8 * size_of(type)));
  }
}

// y rows [0, count) of one pair; adds to what y holds unless the columns are the first.
template <class Kind, int count>
void tile(const Unpacked<Kind>& w, int begin, int depth, const QuantizedRows<typename Kind::Code>& x, float* y,
          size_t y_stride, __mmask16 rows) {
  const int factors = x.cols / kGroup;
  const typename Kind::Code* x_codes = x.codes + begin;
  const Factor* x_factors = x.factors + begin / kGroup;
  __m512 sums[count];
  for (int i = 0; i < count; ++i) {
    sums[i] = begin == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(rows, y + i * y_stride);
  }
  for (int g = 0; g < depth / kGroup; ++g) {
    __m512i codes[Kind::kVectors];
    for (int j = 0; j < Kind::kVectors; ++j) codes[j] = w.codes[g * Kind::kVectors + j];
    const __m512 scale = _mm512_load_ps(w.scales + g * 16), bias = _mm512_load_ps(w.biases + g * 16);
    for (int i = 0; i < count; ++i) {
      const __m512i products = Kind::dot32(codes, x_codes + static_cast<size_t>(i) * x.cols + g * kGroup);
      sums[i] = add_group(sums[i], products, scale, bias, x_factors[static_cast<size_t>(i) * factors + g]);
    }
  }
  for (int i = 0; i < count; ++i) _mm512_mask_storeu_ps(y + i * y_stride, rows, sums[i]);
}

template <class Kind, Type type>
void many_of(const PackedView& w, int first, int last, const QuantizedRows<typename Kind::Code>& x, int n, float* y) {
  Unpacked<Kind> unpacked;
  for (int block = first; block < last; block += 2) {
    const __mmask16 rows = rows_of(w, block, last);
    for (int begin = 0; begin < w.cols; begin += Kind::kDepth) {
      const int depth = w.cols - begin < Kind::kDepth ? w.cols - begin : Kind::kDepth;
      unpack_pair<Kind, type>(w, block, last, begin, depth, unpacked);
      int i = 0;
      const auto tiles = [&](auto run, int count) {
        for (; i + count <= n; i += count) {
          run(unpacked, begin, depth, x.from(i), y + static_cast<size_t>(i) * w.rows + block * kBlock, w.rows, rows);
        }
      };
      tiles(tile<Kind, 8>, 8);
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
