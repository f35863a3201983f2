// AVX-512 with VNNI: products of quantized weights and 8-bit activations. vpdpbusd adds 4 products at a time into 32
// bits, so every sum of 32 products is exact.
#if defined(__x86_64__)
#include "mlx_lm/kernels/packed_avx512.h"

#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

template <bool nibbles>
struct Int8 : Int8Dots<8> {
  static constexpr int kVectors = 8;
  static constexpr size_t kPackedBytes = nibbles ? 128 : 256;
  static constexpr int kDepth = 1024;
  static constexpr bool kBiased = true;

  static void unpack(const Pair& from, __m512i* codes) {
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

  static __m512 shifted(__m512 bias, __m512) { return bias; }
};

}  // namespace

namespace avx512 {

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_few(w, first, last, x, n, y);
  (w.nibbles() ? packed_few_of<Int8<true>> : packed_few_of<Int8<false>>)(w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_many(w, first, last, x, n, y);
  (w.nibbles() ? packed_many_of<Int8<true>> : packed_many_of<Int8<false>>)(w, first, last, x, n, y);
}

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
