// AVX-512 with VNNI: products of quantized weights and 8-bit activations. Two neighbouring blocks of 8 rows are
// multiplied together; vpdpbusd adds 4 products at a time into 32 bits, so every sum of 32 products is exact.
#if defined(__x86_64__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own AVX-512 header (GCC bug 105593)
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/x86.h"

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

template <bool nibbles>
inline void unpack(const Pair& from, __m512i* codes) {
  if constexpr (nibbles) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
      const __m512i both = load_codes(from, j);
      codes[j] = _mm512_and_si512(both, low);
      codes[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  } else {
    for (int j = 0; j < 8; ++j) codes[j] = load_codes(from, j);
  }
}

inline __m512i broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
}

// 16 sums of 32 products.
inline __m512i dot32(const __m512i* codes, const int8_t* x) {
  __m512i even = _mm512_setzero_si512(), odd = even;
  for (int j = 0; j < 8; j += 2) {
    even = _mm512_dpbusd_epi32(even, codes[j], broadcast4(x + 4 * j));
    odd = _mm512_dpbusd_epi32(odd, codes[j + 1], broadcast4(x + 4 * j + 4));
  }
  return _mm512_add_epi32(even, odd);
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

template <bool nibbles, Type type, int count>
void few(const PackedView& w, int first, int last, const QuantizedRows& x, float* y) {
  constexpr size_t kPieceBytes = nibbles ? 128 : 256;
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
        __m512i codes[8];
        unpack<nibbles>(from, codes);
        from = {from.first + kPieceBytes, from.second + kPieceBytes};
        for (int i = 0; i < count; ++i) {
          const __m512i products = dot32(codes, x.codes + static_cast<size_t>(i) * w.cols + s * kGroup);
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

template <bool nibbles, Type type>
void few_of(const PackedView& w, int first, int last, const QuantizedRows& x, int n, float* y) {
  int i = 0;
  for (; i + 4 <= n; i += 4) few<nibbles, type, 4>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i < n; ++i) few<nibbles, type, 1>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
}

constexpr int kDepth = 1024;  // columns that are unpacked at a time: with their scales 20 KiB

// A pair's columns [begin, begin + depth) unpacked.
struct Unpacked {
  alignas(64) uint8_t codes[kDepth * 16];
  alignas(64) float scales[kDepth / kGroup * 16];
  alignas(64) float biases[kDepth / kGroup * 16];
};

template <bool nibbles, Type type>
void unpack_pair(const PackedView& w, int block, int last, int begin, int depth, Unpacked& to) {
  for (int c = 0; c < depth; c += kGroup) {
    const int column = begin + c;
    const size_t offset = column / w.group_size * w.group_bytes();
    const size_t codes_offset = 16 * size_of(type) + column % w.group_size / kGroup * w.piece_bytes();
    __m512i codes[8];
    unpack<nibbles>(pair_at(w, block, last, offset + codes_offset), codes);
    for (int j = 0; j < 8; ++j) _mm512_store_si512(to.codes + c * 16 + 64 * j, codes[j]);
    const Pair group = pair_at(w, block, last, offset);
    _mm512_store_ps(to.scales + c / kGroup * 16, load_numbers<type>(group, 0));
    _mm512_store_ps(to.biases + c / kGroup * 16, load_numbers<type>(group, 8 * size_of(type)));
  }
}

// y rows [0, count) of one pair; adds to what y holds unless the columns are the first.
template <int count>
void tile(const Unpacked& w, int begin, int depth, const QuantizedRows& x, float* y, size_t y_stride, __mmask16 rows) {
  const int factors = x.cols / kGroup;
  const int8_t* x_codes = x.codes + begin;
  const Factor* x_factors = x.factors + begin / kGroup;
  __m512 sums[count];
  for (int i = 0; i < count; ++i) {
    sums[i] = begin == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(rows, y + i * y_stride);
  }
  for (int g = 0; g < depth / kGroup; ++g) {
    __m512i codes[8];
    for (int j = 0; j < 8; ++j) codes[j] = _mm512_load_si512(w.codes + g * 512 + 64 * j);
    const __m512 scale = _mm512_load_ps(w.scales + g * 16), bias = _mm512_load_ps(w.biases + g * 16);
    for (int i = 0; i < count; ++i) {
      const __m512i products = dot32(codes, x_codes + static_cast<size_t>(i) * x.cols + g * kGroup);
      sums[i] = add_group(sums[i], products, scale, bias, x_factors[static_cast<size_t>(i) * factors + g]);
    }
  }
  for (int i = 0; i < count; ++i) _mm512_mask_storeu_ps(y + i * y_stride, rows, sums[i]);
}

template <bool nibbles, Type type>
void many_of(const PackedView& w, int first, int last, const QuantizedRows& x, int n, float* y) {
  Unpacked unpacked;
  for (int block = first; block < last; block += 2) {
    const __mmask16 rows = rows_of(w, block, last);
    for (int begin = 0; begin < w.cols; begin += kDepth) {
      const int depth = w.cols - begin < kDepth ? w.cols - begin : kDepth;
      unpack_pair<nibbles, type>(w, block, last, begin, depth, unpacked);
      int i = 0;
      const auto tiles = [&](auto run, int count) {
        for (; i + count <= n; i += count) {
          run(unpacked, begin, depth, x.from(i), y + static_cast<size_t>(i) * w.rows + block * kBlock, w.rows, rows);
        }
      };
      tiles(tile<8>, 8);
      tiles(tile<1>, 1);
    }
  }
}

template <Type type>
constexpr auto few_nibbles = few_of<true, type>;
template <Type type>
constexpr auto few_bytes = few_of<false, type>;
template <Type type>
constexpr auto many_nibbles = many_of<true, type>;
template <Type type>
constexpr auto many_bytes = many_of<false, type>;

}  // namespace

namespace avx512 {

void packed_few(const PackedView& w, int first, int last, const QuantizedRows& x, int n, float* y) {
  if (w.nibbles()) {
    MLX_LM_FOR_TYPE(w.type, few_nibbles, w, first, last, x, n, y);
  } else {
    MLX_LM_FOR_TYPE(w.type, few_bytes, w, first, last, x, n, y);
  }
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows& x, int n, float* y) {
  if (w.nibbles()) {
    MLX_LM_FOR_TYPE(w.type, many_nibbles, w, first, last, x, n, y);
  } else {
    MLX_LM_FOR_TYPE(w.type, many_bytes, w, first, last, x, n, y);
  }
}

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
