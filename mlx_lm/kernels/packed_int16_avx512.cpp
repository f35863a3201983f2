// AVX-512 with VNNI: products of quantized weights and 16-bit activations. vpdpwssd adds 2 products at a time into 32
// bits: 32 products of at most 255 * 32767 fit, so every sum of 32 products is exact.
#if defined(__x86_64__)
#include "mlx_lm/kernels/packed_avx512.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

template <bool nibbles>
struct Int16 : Int16Dots<16> {
  static constexpr int kVectors = 16;
  static constexpr size_t kPackedBytes = nibbles ? 128 : 256;
  static constexpr int kDepth = 512;
  static constexpr bool kBiased = true;

  // In 16 bits: vector p holds two columns of each row, in the order of the activations.
  static void unpack(const Pair& from, __m512i* codes) {
    if constexpr (nibbles) {
      const __m512i low = _mm512_set1_epi16(15);
      for (int j = 0; j < 4; ++j) {
        const __m512i four = load_codes(from, j);
        codes[2 * j] = _mm512_and_si512(four, low);
        codes[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(four, 8), low);
        codes[2 * j + 8] = _mm512_and_si512(_mm512_srli_epi16(four, 4), low);
        codes[2 * j + 9] = _mm512_srli_epi16(four, 12);
      }
    } else {
      const __m512i low = _mm512_set1_epi16(255);
      for (int j = 0; j < 8; ++j) {
        const __m512i two = load_codes(from, j);
        codes[2 * j] = _mm512_and_si512(two, low);
        codes[2 * j + 1] = _mm512_srli_epi16(two, 8);
      }
    }
  }

  static __m512 shifted(__m512 bias, __m512) { return bias; }
};

}  // namespace

namespace avx512 {

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_few(w, first, last, x, n, y);
  (w.nibbles() ? packed_few_of<Int16<true>> : packed_few_of<Int16<false>>)(w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_many(w, first, last, x, n, y);
  (w.nibbles() ? packed_many_of<Int16<true>> : packed_many_of<Int16<false>>)(w, first, last, x, n, y);
}

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
