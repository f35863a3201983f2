// AVX2: affine rows.
#if defined(__x86_64__)
#include "mlx_lm/kernels/affine_group.h"
#include "mlx_lm/kernels/avx2.h"
#include "mlx_lm/kernels/x86.h"

namespace mlx_lm::kernels::avx2 {

void nibbles(const uint8_t* from, size_t n, uint8_t* codes) {
  const __m128i low = _mm_set1_epi8(15);
  for (size_t i = 0; i < n; i += 32, from += 16) {
    const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m128i even = _mm_and_si128(both, low), odd = _mm_and_si128(_mm_srli_epi16(both, 4), low);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm_unpacklo_epi8(even, odd));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i + 16), _mm_unpackhi_epi8(even, odd));
  }
}

void affine(const uint8_t* codes, size_t n, float scale, float bias, float* to) {
  const __m256 factor = _mm256_set1_ps(scale), shift = _mm256_set1_ps(bias);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_fmadd_ps(load8<Type::u8>(codes + i), factor, shift));
  const int left = static_cast<int>(n - i);
  if (left > 0) store_part(to + i, _mm256_fmadd_ps(load_part<Type::u8>(codes + i, left), factor, shift), left);
}

void quantize_affine(const float* x, int n, float most, uint8_t* codes, float* scale, float* bias) {
  __m256 low = _mm256_set1_ps(__builtin_inff()), high = _mm256_set1_ps(-__builtin_inff());
  for (int i = 0; i < n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    low = _mm256_min_ps(v, low);  // a NaN is passed over
    high = _mm256_max_ps(v, high);
  }
  const AffineGroup group(-max8(_mm256_sub_ps(_mm256_setzero_ps(), low)), max8(high), most);
  const __m256 step = _mm256_set1_ps(group.scale), start = _mm256_set1_ps(group.bias), end = _mm256_set1_ps(most);
  const auto eight = [&](const float* from) {
    const __m256 v = _mm256_div_ps(_mm256_sub_ps(_mm256_loadu_ps(from), start), step);
    const __m256 whole = _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_cvttps_epi32(_mm256_min_ps(_mm256_max_ps(whole, _mm256_setzero_ps()), end));
  };
  for (int i = 0; i < n; i += 32) {
    const __m256i first = _mm256_packs_epi32(eight(x + i), eight(x + i + 8));
    const __m256i second = _mm256_packs_epi32(eight(x + i + 16), eight(x + i + 24));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // the packs work in each half by itself
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), bytes);
  }
  *scale = group.scale, *bias = group.bias;
}

}  // namespace mlx_lm::kernels::avx2
#endif
