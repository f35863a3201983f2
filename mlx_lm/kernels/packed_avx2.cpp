// AVX2: products of quantized weights and 8-bit activations.
//
// vpmaddubsw multiplies 32 unsigned codes by 32 signed activations and adds pairs into 16 bits, saturating. The pairs
// of several pieces fit into the same 16 bits as long as 127 * 2 * pieces * (largest code) < 2^15: all 8 pieces for
// codes of up to 4 bits, 4 for 5, 2 for 6. Codes of 8 bits are made signed first: |w - 128| <= 128 times x with the
// sign of w - 128 fits for one piece. So every sum of 32 products is exact.
#if defined(__x86_64__)
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

// How many pieces' pairs fit into 16 bits; 1 stands for 8-bit codes.
constexpr int pieces_for(int bits) { return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; }

inline __m256i broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

// Keeps the compiler from turning a running sum into a tree of sums: GCC 12 does, and then spills 24 registers.
inline void keep(__m256i& sum) { asm("" : "+x"(sum)); }

// The codes of 8 rows by 32 columns, one byte each; for 8-bit codes less 128.
template <int pieces>
inline void unpack(const uint8_t* from, __m256i* codes) {
  const __m256i* packed = reinterpret_cast<const __m256i*>(from);
  if constexpr (pieces == 8) {
    const __m256i low = _mm256_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
      const __m256i both = _mm256_load_si256(packed + j);
      codes[j] = _mm256_and_si256(both, low);
      codes[j + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
  } else {
    for (int j = 0; j < 8; ++j) {
      codes[j] = _mm256_load_si256(packed + j);
      if constexpr (pieces == 1) codes[j] = _mm256_xor_si256(codes[j], _mm256_set1_epi8(-128));
    }
  }
}

// 8 sums of 32 products.
template <int pieces>
inline __m256i dot32(const __m256i* codes, const int8_t* x) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i total = _mm256_setzero_si256();
  for (int j = 0; j < 8; j += pieces) {
    __m256i pairs;
    if constexpr (pieces == 1) {
      pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes[j]), _mm256_sign_epi8(broadcast4(x + 4 * j), codes[j]));
    } else {
      pairs = _mm256_maddubs_epi16(codes[j], broadcast4(x + 4 * j));
      for (int k = j + 1; k < j + pieces; ++k) {
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes[k], broadcast4(x + 4 * k)));
      }
    }
    const __m256i sums = _mm256_madd_epi16(pairs, ones);
    total = j == 0 ? sums : _mm256_add_epi32(total, sums);
  }
  return total;
}

inline __m256 add_group(__m256 sum, __m256i products, __m256 scale, __m256 bias, const Factor& factor) {
  sum = _mm256_fmadd_ps(bias, _mm256_broadcast_ss(&factor.sum), sum);
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scale, _mm256_broadcast_ss(&factor.scale)), sum);
}

// The biases for codes less 128.
template <int pieces>
inline __m256 shifted(__m256 bias, __m256 scale) {
  return pieces == 1 ? _mm256_fmadd_ps(scale, _mm256_set1_ps(128.f), bias) : bias;
}

inline void store(float* y, __m256 value, int rows) {
  if (rows >= 8) {
    _mm256_storeu_ps(y, value);
  } else {
    store_part(y, value, rows);
  }
}

// y rows [0, count) of blocks [first, last), reading the packed weights once.
template <int pieces, Type type, int count>
void few(const PackedView& w, int first, int last, const QuantizedRows& x, float* y) {
  constexpr size_t kPieceBytes = pieces == 8 ? 128 : 256;
  constexpr size_t kAhead = 1536;  // bytes; 10-15% on Zen 3, whose own prefetcher stops at page ends
  const int subgroups = w.group_size / kGroup;
  const int factors = w.cols / kGroup;
  for (int block = first; block < last; ++block) {
    const uint8_t* from = w.data + block * w.block_bytes();
    __m256 sums[count];
    for (int i = 0; i < count; ++i) sums[i] = _mm256_setzero_ps();
    for (int g = 0; g < factors; g += subgroups) {
      const __m256 scale = load8<type>(from);
      const __m256 bias = shifted<pieces>(load8<type>(from + 8 * size_of(type)), scale);
      from += 16 * size_of(type);
      for (int s = g; s < g + subgroups; ++s, from += kPieceBytes) {
        for (size_t k = 0; k <= kPieceBytes; k += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(from + kAhead + k), _MM_HINT_T0);
        }
        __m256i codes[8];
        unpack<pieces>(from, codes);
        for (int i = 0; i < count; ++i) {
          const __m256i products = dot32<pieces>(codes, x.codes + static_cast<size_t>(i) * w.cols + s * kGroup);
          sums[i] = add_group(sums[i], products, scale, bias, x.factors[static_cast<size_t>(i) * factors + s]);
        }
      }
    }
    for (int i = 0; i < count; ++i) {
      store(y + static_cast<size_t>(i) * w.rows + block * kBlock, sums[i], w.rows - block * kBlock);
    }
  }
}

template <int pieces, Type type>
void few_of(const PackedView& w, int first, int last, QuantizedRows x, int n, float* y) {
  int i = 0;
  for (; i + 4 <= n; i += 4) few<pieces, type, 4>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i + 2 <= n; i += 2) few<pieces, type, 2>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
  for (; i < n; ++i) few<pieces, type, 1>(w, first, last, x.from(i), y + static_cast<size_t>(i) * w.rows);
}

// Blocks that are multiplied together: one broadcast of activations serves them all. With a single block the loads, of
// which the processor does one or two per product, were the bottleneck.
constexpr int kTogether = 2;
// Columns that are unpacked at a time: with their scales 20 KiB, which leaves room in the first-level cache.
constexpr int kDepth = 1024;

// The columns [begin, begin + depth) of two blocks unpacked; for each 32 of them the pieces of both in turn.
struct Unpacked {
  alignas(32) uint8_t codes[kDepth * kTogether * kBlock];
  alignas(32) float scales[kDepth / kGroup * kTogether * kBlock];
  alignas(32) float biases[kDepth / kGroup * kTogether * kBlock];
};

// which: 0 or 1, the block's place in `to`.
template <int pieces, Type type>
void unpack_block(const PackedView& w, int block, int which, int begin, int depth, Unpacked& to) {
  for (int c = 0; c < depth; c += kGroup) {
    const int column = begin + c;
    const uint8_t* group = w.data + block * w.block_bytes() + column / w.group_size * w.group_bytes();
    const uint8_t* from = group + 16 * size_of(type) + column % w.group_size / kGroup * w.piece_bytes();
    __m256i codes[8];
    unpack<pieces>(from, codes);
    const int g = c / kGroup * kTogether;
    for (int j = 0; j < 8; ++j) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to.codes + g * 256 + (kTogether * j + which) * 32), codes[j]);
    }
    const __m256 scale = load8<type>(group);
    _mm256_store_ps(to.scales + (g + which) * kBlock, scale);
    _mm256_store_ps(to.biases + (g + which) * kBlock, shifted<pieces>(load8<type>(group + 8 * size_of(type)), scale));
  }
}

// sums[i][b] = 8 sums of 32 products of block b and activation row i.
template <int pieces, int count>
inline void dot32(const uint8_t* codes, const int8_t* x, size_t x_stride, __m256i (*sums)[kTogether]) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i pairs[count][kTogether];
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    __m256i w[kTogether];
    for (int b = 0; b < kTogether; ++b) {
      w[b] = _mm256_load_si256(reinterpret_cast<const __m256i*>(codes) + kTogether * j + b);
    }
    for (int i = 0; i < count; ++i) {
      const __m256i four = broadcast4(x + i * x_stride + 4 * j);
      for (int b = 0; b < kTogether; ++b) {
        const __m256i product = pieces == 1 ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[b]), _mm256_sign_epi8(four, w[b]))
                                            : _mm256_maddubs_epi16(w[b], four);
        pairs[i][b] = j % pieces == 0 ? product : _mm256_add_epi16(pairs[i][b], product);
        keep(pairs[i][b]);
        if (j % pieces != pieces - 1) continue;
        const __m256i fours = _mm256_madd_epi16(pairs[i][b], ones);
        sums[i][b] = j < pieces ? fours : _mm256_add_epi32(sums[i][b], fours);
      }
    }
  }
}

// y rows [0, count) of two blocks; adds to what y holds unless the columns are the first. rows: of both, 16 or fewer.
template <int pieces, int count>
void tile(const Unpacked& w, int begin, int depth, const QuantizedRows& x, float* y, size_t y_stride, int rows) {
  const size_t factors = x.cols / kGroup;
  const int8_t* x_codes = x.codes + begin;
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
  for (int g = 0; g < depth / kGroup; ++g) {
    __m256i products[count][kTogether];
    dot32<pieces, count>(w.codes + g * kTogether * 256, x_codes + g * kGroup, x.cols, products);
    for (int i = 0; i < count; ++i) {
      for (int b = 0; b < kTogether; ++b) {
        const int at = (g * kTogether + b) * kBlock;
        sums[i][b] = add_group(sums[i][b], products[i][b], _mm256_load_ps(w.scales + at), _mm256_load_ps(w.biases + at),
                               x_factors[i * factors + g]);
      }
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int b = 0; b < kTogether && rows > b * kBlock; ++b) {
      store(y + i * y_stride + b * kBlock, sums[i][b], rows - b * kBlock);
    }
  }
}

template <int pieces, Type type>
void many_of(const PackedView& w, int first, int last, const QuantizedRows& x, int n, float* y) {
  Unpacked unpacked;
  for (int block = first; block < last; block += kTogether) {
    const int blocks = last - block < kTogether ? last - block : kTogether;
    const int rows = w.rows - block * kBlock < blocks * kBlock ? w.rows - block * kBlock : blocks * kBlock;
    for (int begin = 0; begin < w.cols; begin += kDepth) {
      const int depth = w.cols - begin < kDepth ? w.cols - begin : kDepth;
      for (int b = 0; b < kTogether; ++b) {
        unpack_block<pieces, type>(w, b < blocks ? block + b : block, b, begin, depth, unpacked);
      }
      int i = 0;
      const auto tiles = [&](auto run, int count) {
        for (; i + count <= n; i += count) {
          float* out = y + static_cast<size_t>(i) * w.rows + block * kBlock;
          run(unpacked, begin, depth, x.from(i), out, w.rows, rows);
        }
      };
      tiles(tile<pieces, 4>, 4);
      tiles(tile<pieces, 1>, 1);
    }
  }
}

#define MLX_LM_FOR_PACKED(f, ...)            \
  switch (pieces_for(w.bits)) {              \
    case 8:                                  \
      MLX_LM_PACKED_TYPE(f, 8, __VA_ARGS__); \
      break;                                 \
    case 4:                                  \
      MLX_LM_PACKED_TYPE(f, 4, __VA_ARGS__); \
      break;                                 \
    case 2:                                  \
      MLX_LM_PACKED_TYPE(f, 2, __VA_ARGS__); \
      break;                                 \
    default:                                 \
      MLX_LM_PACKED_TYPE(f, 1, __VA_ARGS__); \
  }
#define MLX_LM_PACKED_TYPE(f, pieces, ...)                   \
  (w.type == Type::f32   ? f<pieces, Type::f32>(__VA_ARGS__) \
   : w.type == Type::f16 ? f<pieces, Type::f16>(__VA_ARGS__) \
                         : f<pieces, Type::bf16>(__VA_ARGS__))

template <int pieces, Type type>
void dequantize_of(const PackedView& w, int block, int begin, int end, float* panel) {
  for (int c = begin; c < end; c += kGroup, panel += kGroup * kBlock) {
    const uint8_t* group = w.data + block * w.block_bytes() + c / w.group_size * w.group_bytes();
    const uint8_t* from = group + 16 * size_of(type) + c % w.group_size / kGroup * w.piece_bytes();
    __m256i codes[8];
    unpack<pieces == 1 ? 2 : pieces>(from, codes);
    const __m256 scale = load8<type>(group), bias = load8<type>(group + 8 * size_of(type));
    const __m256i low = _mm256_set1_epi32(255);
    for (int j = 0; j < 8; ++j) {
      for (int k = 0; k < 4; ++k) {
        const __m256i code = _mm256_and_si256(_mm256_srl_epi32(codes[j], _mm_cvtsi32_si128(8 * k)), low);
        // Product and sum are rounded apart, as in MLX's dequantize.
        const __m256 value = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(code), scale), bias);
        _mm256_storeu_ps(panel + (4 * j + k) * kBlock, value);
      }
    }
  }
}

}  // namespace

namespace avx2 {

void quantize(const float* x, int cols, int8_t* codes, Factor* factors) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256 top = _mm256_set1_ps(127.f), bottom = _mm256_set1_ps(-127.f);
  for (int g = 0; g < cols / kGroup; ++g, x += kGroup, codes += kGroup) {
    __m256 v[4];
    for (int k = 0; k < 4; ++k) v[k] = _mm256_loadu_ps(x + 8 * k);
    const __m256 high = _mm256_max_ps(_mm256_max_ps(_mm256_and_ps(v[0], magnitude), _mm256_and_ps(v[1], magnitude)),
                                      _mm256_max_ps(_mm256_and_ps(v[2], magnitude), _mm256_and_ps(v[3], magnitude)));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(high), _mm256_extractf128_ps(high, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    const float most = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
    const __m256 inverse = _mm256_set1_ps(most > 0 ? 127 / most : 0);
    __m256i n[4];
    for (int k = 0; k < 4; ++k) {
      v[k] = _mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(v[k], inverse), bottom), top);
      n[k] = _mm256_cvtps_epi32(v[k]);
    }
    const __m256i total = _mm256_add_epi32(_mm256_add_epi32(n[0], n[1]), _mm256_add_epi32(n[2], n[3]));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // the packs work in each half on its own
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), _mm256_permutevar8x32_epi32(bytes, order));
    const float scale = most / 127;
    factors[g] = {scale, scale * static_cast<float>(_mm_cvtsi128_si32(sum))};
  }
}

void packed_few(const PackedView& w, int first, int last, const QuantizedRows& x, int n, float* y) {
  MLX_LM_FOR_PACKED(few_of, w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows& x, int n, float* y) {
  MLX_LM_FOR_PACKED(many_of, w, first, last, x, n, y);
}

void dequantize(const PackedView& w, int block, int begin, int end, float* panel) {
  MLX_LM_FOR_PACKED(dequantize_of, w, block, begin, end, panel);
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
