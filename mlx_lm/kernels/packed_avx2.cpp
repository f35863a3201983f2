// AVX2: products of quantized weights and 8-bit activations.
//
// vpmaddubsw multiplies 32 unsigned codes by 32 signed activations and adds pairs into 16 bits, saturating. The pairs
// of several pieces fit into the same 16 bits as long as 127 * 2 * pieces * (largest code) < 2^15: all 8 pieces for
// codes of up to 4 bits, 4 for 5, 2 for 6. Codes of 8 bits are made signed first: |w - 128| <= 128 times x with the
// sign of w - 128 fits for one piece. So every sum of 32 products is exact.
#if defined(__x86_64__)
#include "mlx_lm/kernels/packed_avx2.h"

#include "mlx_lm/kernels/dots_avx2.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels {
namespace {

// pieces: whose pairs fit into 16 bits; 1 stands for 8-bit codes.
template <int pieces>
struct Int8 : Int8Dots<pieces> {
  static constexpr int kVectors = 8;
  static constexpr size_t kPackedBytes = pieces == 8 ? 128 : 256;
  static constexpr int kDepth = 1024;
  static constexpr bool kBiased = true;

  // The codes of 8 rows by 32 columns, one byte each; for 8-bit codes less 128.
  static void unpack(const uint8_t* from, __m256i* codes) {
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

  // The biases for codes less 128.
  static __m256 shifted(__m256 bias, __m256 scale) {
    return pieces == 1 ? _mm256_fmadd_ps(scale, _mm256_set1_ps(128.f), bias) : bias;
  }
};

// f<Int8<pieces>>(...) for a number of bits.
#define MLX_LM_FOR_BITS(bits, f, ...)      \
  ((bits) <= 4   ? f<Int8<8>>(__VA_ARGS__) \
   : (bits) == 5 ? f<Int8<4>>(__VA_ARGS__) \
   : (bits) == 6 ? f<Int8<2>>(__VA_ARGS__) \
                 : f<Int8<1>>(__VA_ARGS__))

template <class Kind, Type type>
void dequantize_of(const PackedView& w, int block, int begin, int end, float* panel) {
  for (int c = begin; c < end; c += kGroup, panel += kGroup * kBlock) {
    const uint8_t* group = w.data + block * w.block_bytes() + c / w.group_size * w.group_bytes();
    const uint8_t* from = group + 16 * size_of(type) + c % w.group_size / kGroup * w.piece_bytes();
    __m256i codes[8];
    Kind::unpack(from, codes);
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

template <Type type>
constexpr auto dequantize_nibbles = dequantize_of<Int8<8>, type>;
template <Type type>
constexpr auto dequantize_bytes = dequantize_of<Int8<2>, type>;  // any kind that leaves the bytes as they are

}  // namespace

namespace avx2 {

void quantize(const float* x, int cols, int8_t* codes, Factor* factors) {
  for (int g = 0; g < cols / kGroup; ++g, x += kGroup, codes += kGroup) {
    __m256i n[4];
    factors[g] = round_group(x, 127, n);
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // the packs work in each half on its own
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), _mm256_permutevar8x32_epi32(bytes, order));
  }
}

void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_few(w, first, last, x, n, y);
  MLX_LM_FOR_BITS(w.bits, packed_few_of, w, first, last, x, n, y);
}

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y) {
  if (w.format != Format::affine) return e2m1_many(w, first, last, x, n, y);
  MLX_LM_FOR_BITS(w.bits, packed_many_of, w, first, last, x, n, y);
}

void dequantize(const PackedView& w, int block, int begin, int end, float* panel) {
  if (w.format != Format::affine) return dequantize_floats(w, block, begin, end, panel);
  if (w.nibbles()) {
    MLX_LM_FOR_TYPE(w.type, dequantize_nibbles, w, block, begin, end, panel);
  } else {
    MLX_LM_FOR_TYPE(w.type, dequantize_bytes, w, block, begin, end, panel);
  }
}

}  // namespace avx2
}  // namespace mlx_lm::kernels
#endif
