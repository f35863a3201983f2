// AVX2: products of matrices of small floats.
//
// Twice an e2m1 is one of 0, 1, 2, 3, 4, 6, 8, 12 with a sign: a whole number that a shuffle looks up, and the scale
// becomes half of what it was. Activations of 16 bits meet it with its sign; those of 8 meet it plus 12, without one,
// as a code of 5 bits with a bias. An e4m3 spans 18 bits as a whole number, so that its products are those of floats.
#if defined(__x86_64__)
#include "mlx_lm/kernels/dots_avx2.h"
#include "mlx_lm/kernels/packed_avx2.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

inline __m256i load32(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline __m128i load_8_bytes(const uint8_t* from) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)); }

// 8 e8m0: powers of two, of which the smallest has no exponent of its own in float32, and 255 gives infinity.
inline __m256 e8m0(const uint8_t* from) {
  const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu8_epi32(load_8_bytes(from)), 23);
  return _mm256_castsi256_ps(_mm256_max_epi32(bits, _mm256_set1_epi32(0x00400000)));
}

// 2^-120 times 8 e4m3, which are in dwords and extended by their sign: sign and magnitude in float32's places.
inline __m256 tiny_e4m3(__m256i codes) {
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0x87f00000));
  return _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(codes, 20), mask));
}

// 8 e4m3 from memory.
inline __m256 e4m3(const uint8_t* from) {
  const __m256i codes = _mm256_cvtepi8_epi32(load_8_bytes(from));
  const __m256 values = _mm256_mul_ps(tiny_e4m3(codes), _mm256_set1_ps(0x1p120f));
  const __m256i none = _mm256_cmpeq_epi32(_mm256_or_si256(codes, _mm256_set1_epi32(-128)), _mm256_set1_epi32(-1));
  return _mm256_or_ps(values, _mm256_castsi256_ps(none));  // all ones where the code is no number
}

// Halved, for codes that are doubled.
struct Mxfp4Scales {
  static constexpr int kParts = 1;
  static constexpr size_t kBytes = 8;
  static __m256 scale(const uint8_t* from, int) { return _mm256_mul_ps(e8m0(from), _mm256_set1_ps(0.5f)); }
  static __m256 bias(const uint8_t*) { return _mm256_setzero_ps(); }
};

struct Nvfp4Scales {
  static constexpr int kParts = 2;
  static constexpr size_t kBytes = 16;
  static __m256 scale(const uint8_t* from, int part) {
    return _mm256_mul_ps(e4m3(from + 8 * part), _mm256_set1_ps(0.5f));
  }
};

// The codes of 8 rows by 32 columns, looked up in a table of 16 bytes.
inline void look_up(const uint8_t* from, __m128i table16, __m256i* codes) {
  const __m256i low = _mm256_set1_epi8(15), table = _mm256_broadcastsi128_si256(table16);
  for (int j = 0; j < 4; ++j) {
    const __m256i both = load32(from + 32 * j);
    codes[j] = _mm256_shuffle_epi8(table, _mm256_and_si256(both, low));
    codes[j + 4] = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(both, 4), low));
  }
}

struct Int8E2m1 : Int8Dots<4> {  // 127 * 2 * 4 * 24 < 2^15
  static constexpr int kVectors = 8;
  static constexpr size_t kPackedBytes = 128;
  static constexpr int kDepth = 1024;
  static constexpr bool kBiased = true;

  static void unpack(const uint8_t* from, __m256i* codes) {
    look_up(from, _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0), codes);
  }

  static __m256 shifted(__m256, __m256 scale) { return _mm256_mul_ps(scale, _mm256_set1_ps(-12.f)); }
};

template <int parts>
struct Int16E2m1 : Int16Dots<16 / parts> {
  static constexpr int kVectors = 16;
  static constexpr size_t kPackedBytes = 128;
  static constexpr int kDepth = 512;
  static constexpr bool kBiased = false;

  // In 16 bits, in the order of the activations (packed_int16_avx2.cpp).
  static void unpack(const uint8_t* from, __m256i* codes) {
    __m256i bytes[8];
    look_up(from, _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12), bytes);
    for (int j = 0; j < 8; ++j) {
      codes[2 * j] = _mm256_srai_epi16(_mm256_slli_epi16(bytes[j], 8), 8);
      codes[2 * j + 1] = _mm256_srai_epi16(bytes[j], 8);
    }
  }
};

// y rows [0, count) of 8 rows in each of `together` blocks: as many sums as hide the latency of adding to one. A
// product with 2^120 times the scale, which a plain matrix allows, makes a weight in one step.
template <int together, int count>
void mxfp8_rows(const PackedView& w, int first, int last, const float* x, float* y) {
  constexpr size_t kAhead = 1024;  // bytes
  const size_t block_bytes = w.block_bytes();
  for (int block = first; block < last; block += together) {
    const uint8_t* from[together];
    __m256 sums[together][count];
    for (int b = 0; b < together; ++b) {
      from[b] = w.data + (block + b < last ? block + b : block) * block_bytes;
      for (int i = 0; i < count; ++i) sums[b][i] = _mm256_setzero_ps();
    }
    const float* numbers = x;
    for (int c = 0; c < w.cols; c += kGroup) {
      __m256 scales[together];
      for (int b = 0; b < together; ++b) {
        scales[b] = _mm256_mul_ps(e8m0(from[b]), _mm256_set1_ps(0x1p120f));
        from[b] += kBlock;
      }
      for (int k = 0; k < kGroup; k += 8) {
        for (int b = 0; b < together; ++b) _mm_prefetch(reinterpret_cast<const char*>(from[b] + kAhead), _MM_HINT_T0);
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j) {
          for (int b = 0; b < together; ++b) {
            const __m256i codes = _mm256_cvtepi8_epi32(load_8_bytes(from[b] + j * kBlock));
            const __m256 weight = _mm256_mul_ps(tiny_e4m3(codes), scales[b]);
            for (int i = 0; i < count; ++i) {
              const __m256 number = _mm256_broadcast_ss(numbers + static_cast<size_t>(i) * w.cols + j);
              sums[b][i] = _mm256_fmadd_ps(weight, number, sums[b][i]);
            }
          }
        }
        numbers += 8;
        for (int b = 0; b < together; ++b) from[b] += 8 * kBlock;
      }
    }
    for (int b = 0; b < together && block + b < last; ++b) {
      const int at = (block + b) * kBlock;
      for (int i = 0; i < count; ++i) store(y + static_cast<size_t>(i) * w.rows + at, sums[b][i], w.rows - at);
    }
  }
}

// A panel's 32 columns of 8 rows.
void dequantize_e2m1(const uint8_t* codes, const __m256* scales, float* panel) {
  const __m256 values = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
  for (int j = 0; j < 8; ++j) {
    const __m256i piece = load32(codes + j % 4 * 32);
    for (int k = 0; k < 4; ++k) {
      const __m256i code = _mm256_srl_epi32(piece, _mm_cvtsi32_si128(8 * k + j / 4 * 4));
      const __m256i sign = _mm256_and_si256(_mm256_slli_epi32(code, 28), _mm256_set1_epi32(INT32_MIN));
      // The permutation looks at the lowest 3 bits only.
      const __m256 value = _mm256_xor_ps(_mm256_permutevar8x32_ps(values, code), _mm256_castsi256_ps(sign));
      _mm256_storeu_ps(panel + (4 * j + k) * kBlock, _mm256_mul_ps(value, scales[j / 4]));
    }
  }
}

}  // namespace

namespace avx2 {

void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  few_of<Int8E2m1, Mxfp4Scales>(w, first, last, x, n, y);
}

void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  many_of<Int8E2m1, Mxfp4Scales>(w, first, last, x, n, y);
}

void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  (w.format == Format::mxfp4 ? few_of<Int16E2m1<1>, Mxfp4Scales> : few_of<Int16E2m1<2>, Nvfp4Scales>)(w, first, last, x,
                                                                                                      n, y);
}

void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  (w.format == Format::mxfp4 ? many_of<Int16E2m1<1>, Mxfp4Scales> : many_of<Int16E2m1<2>, Nvfp4Scales>)(w, first, last,
                                                                                                        x, n, y);
}

void mxfp8_few(const PackedView& w, int first, int last, const float* x, int n, float* y) {
  const auto rows = [&](int i) { return x + static_cast<size_t>(i) * w.cols; };
  const auto out = [&](int i) { return y + static_cast<size_t>(i) * w.rows; };
  int i = 0;
  for (; i + 4 <= n; i += 4) mxfp8_rows<2, 4>(w, first, last, rows(i), out(i));
  for (; i + 2 <= n; i += 2) mxfp8_rows<4, 2>(w, first, last, rows(i), out(i));
  for (; i < n; ++i) mxfp8_rows<4, 1>(w, first, last, rows(i), out(i));
}

void dequantize_floats(const PackedView& w, int block, int begin, int end, float* panel) {
  const uint8_t* group = w.data + block * w.block_bytes() + begin / kGroup * w.group_bytes();
  for (int c = begin; c < end; c += kGroup, group += w.group_bytes(), panel += kGroup * kBlock) {
    if (w.format == Format::mxfp8) {
      for (int k = 0; k < kGroup; ++k) {
        _mm256_storeu_ps(panel + k * kBlock, _mm256_mul_ps(e4m3(group + kBlock + k * kBlock), e8m0(group)));
      }
    } else {
      const bool mx = w.format == Format::mxfp4;
      const __m256 scales[] = {mx ? e8m0(group) : e4m3(group), mx ? e8m0(group) : e4m3(group + kBlock)};
      dequantize_e2m1(group + w.header_bytes(), scales, panel);
    }
  }
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
