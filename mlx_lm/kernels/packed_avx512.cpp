// AVX-512 with VNNI: products of quantized weights and 8-bit activations. vpdpbusd adds 4 products at a time into 32
// bits, so every sum of 32 products is exact.
#if defined(__x86_64__)
#include "mlx_lm/kernels/packed_avx512.h"

#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

template <bool nibbles>
struct Int8 {
  using Code = int8_t;
  static constexpr int kVectors = 8;
  static constexpr size_t kPackedBytes = nibbles ? 128 : 256;
  static constexpr int kDepth = 1024;

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

  // 16 sums of 32 products.
  static __m512i dot32(const __m512i* codes, const int8_t* x) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (int j = 0; j < 8; j += 2) {
      even = _mm512_dpbusd_epi32(even, codes[j], broadcast_bytes(x + 4 * j));
      odd = _mm512_dpbusd_epi32(odd, codes[j + 1], broadcast_bytes(x + 4 * j + 4));
    }
    return _mm512_add_epi32(even, odd);
  }
};

}  // namespace

namespace avx512 {

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  (w.nibbles() ? packed_few_of<Int8<true>> : packed_few_of<Int8<false>>)(w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  (w.nibbles() ? packed_many_of<Int8<true>> : packed_many_of<Int8<false>>)(w, first, last, x, n, y);
}

}  // namespace avx512
}  // namespace mlx_lm::kernels
#endif
