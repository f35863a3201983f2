// AVX2: products of quantized weights and 16-bit activations. vpmaddwd multiplies 16 codes by 16 activations and adds
// pairs into 32 bits: 32 products of at most 255 * 32767 fit, so every sum of 32 products is exact.
#if defined(__x86_64__)
#include "mlx_lm/kernels/dots_avx2.h"
#include "mlx_lm/kernels/packed_avx2.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

template <bool nibbles>
struct Int16 : Int16Dots<16> {
  static constexpr int kVectors = 16;
  static constexpr size_t kPackedBytes = nibbles ? 128 : 256;
  static constexpr int kDepth = 512;
  static constexpr bool kBiased = true;

  // The codes of 8 rows by 32 columns in 16 bits: vector p holds two columns of each row, in the order of the
  // activations.
  static void unpack(const uint8_t* from, __m256i* codes) {
    const __m256i* packed = reinterpret_cast<const __m256i*>(from);
    if constexpr (nibbles) {
      const __m256i low = _mm256_set1_epi16(15);
      for (int j = 0; j < 4; ++j) {
        const __m256i four = _mm256_load_si256(packed + j);
        codes[2 * j] = _mm256_and_si256(four, low);
        codes[2 * j + 1] = _mm256_and_si256(_mm256_srli_epi16(four, 8), low);
        codes[2 * j + 8] = _mm256_and_si256(_mm256_srli_epi16(four, 4), low);
        codes[2 * j + 9] = _mm256_srli_epi16(four, 12);
      }
    } else {
      const __m256i low = _mm256_set1_epi16(255);
      for (int j = 0; j < 8; ++j) {
        const __m256i two = _mm256_load_si256(packed + j);
        codes[2 * j] = _mm256_and_si256(two, low);
        codes[2 * j + 1] = _mm256_srli_epi16(two, 8);
      }
    }
  }

  static __m256 shifted(__m256 bias, __m256) { return bias; }
};

}  // namespace

namespace avx2 {

void quantize(const float* x, int cols, int16_t* codes, Factor* factors) {
  for (int g = 0; g < cols / kGroup; ++g, x += kGroup, codes += kGroup) {
    __m256i n[4];
    factors[g] = round_group(x, 32767, n);
    for (int k = 0; k < 4; k += 2) {
      // The pack works in each half on its own: the first permutation mends that, the shuffles make 0, 2, 1, 3.
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(n[k], n[k + 1]), 0xd8);
      const __m256i order = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xd8), 0xd8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 8 * k), order);
    }
  }
}

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_few(w, first, last, x, n, y);
  (w.nibbles() ? packed_few_of<Int16<true>> : packed_few_of<Int16<false>>)(w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_many(w, first, last, x, n, y);
  (w.nibbles() ? packed_many_of<Int16<true>> : packed_many_of<Int16<false>>)(w, first, last, x, n, y);
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
