// AVX-512 with VNNI: products of mxfp4 and nvfp4 matrices; see floats_avx2.cpp.
#if defined(__x86_64__)
#include "mlx_lm/kernels/packed_avx512.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

// 8 bytes of each of two blocks.
inline __m128i load_bytes(const Pair& from) {
  int64_t first, second;
  std::memcpy(&first, from.first, 8);
  std::memcpy(&second, from.second, 8);
  return _mm_set_epi64x(second, first);
}

// Halved, for codes that are doubled.
struct Mxfp4Scales {
  static constexpr int kParts = 1;
  static constexpr size_t kBytes = 8;
  static __m512 scale(const Pair& from, int) {
    const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu8_epi32(load_bytes(from)), 23);
    const __m512 powers = _mm512_castsi512_ps(_mm512_max_epi32(bits, _mm512_set1_epi32(0x00400000)));
    return _mm512_mul_ps(powers, _mm512_set1_ps(0.5f));
  }
  static __m512 bias(const Pair&) { return _mm512_setzero_ps(); }
};

struct Nvfp4Scales {
  static constexpr int kParts = 2;
  static constexpr size_t kBytes = 16;
  static __m512 scale(const Pair& from, int part) {
    const __m128i bytes = load_bytes({from.first + 8 * part, from.second + 8 * part});
    const __m512i codes = _mm512_cvtepi8_epi32(bytes);
    const __m512i bits =
        _mm512_and_si512(_mm512_slli_epi32(codes, 20), _mm512_set1_epi32(static_cast<int>(0x87f00000)));
    const __m128i none = _mm_cmpeq_epi8(_mm_or_si128(bytes, _mm_set1_epi8(-128)), _mm_set1_epi8(-1));
    const __m512 values = _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p119f));
    return _mm512_or_ps(values, _mm512_castsi512_ps(_mm512_cvtepi8_epi32(none)));
  }
};

// The codes of 16 rows by 32 columns, looked up in a table of 16 bytes.
inline void look_up(const Pair& from, __m128i table16, __m512i* codes) {
  const __m512i low = _mm512_set1_epi8(15), table = _mm512_broadcast_i32x4(table16);
  for (int j = 0; j < 4; ++j) {
    const __m512i both = load_codes(from, j);
    codes[j] = _mm512_shuffle_epi8(table, _mm512_and_si512(both, low));
    codes[j + 4] = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
  }
}

struct Int8E2m1 : Int8Dots<8> {
  static constexpr int kVectors = 8;
  static constexpr size_t kPackedBytes = 128;
  static constexpr int kDepth = 1024;
  static constexpr bool kBiased = true;

  static void unpack(const Pair& from, __m512i* codes) {
    look_up(from, _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0), codes);
  }

  static __m512 shifted(__m512, __m512 scale) { return _mm512_mul_ps(scale, _mm512_set1_ps(-12.f)); }
};

template <int parts>
struct Int16E2m1 : Int16Dots<16 / parts> {
  static constexpr int kVectors = 16;
  static constexpr size_t kPackedBytes = 128;
  static constexpr int kDepth = 512;
  static constexpr bool kBiased = false;

  // In 16 bits, in the order of the activations.
  static void unpack(const Pair& from, __m512i* codes) {
    __m512i bytes[8];
    look_up(from, _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12), bytes);
    for (int j = 0; j < 8; ++j) {
      codes[2 * j] = _mm512_srai_epi16(_mm512_slli_epi16(bytes[j], 8), 8);
      codes[2 * j + 1] = _mm512_srai_epi16(bytes[j], 8);
    }
  }
};

}  // namespace

namespace avx512 {

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

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
