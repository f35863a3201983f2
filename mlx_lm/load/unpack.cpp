#include "mlx_lm/load/unpack.h"

#include <algorithm>
#include <array>

#include "mlx_lm/base/thread_pool.h"
#include "mlx_lm/kernels/small_floats.h"

namespace mlx_lm {
namespace {

constexpr int kTile = 16;                                     // words in a line of the processor's cache
constexpr int kAwqShifts[8] = {0, 16, 4, 20, 8, 24, 12, 28};  // of output 0, 1, 2, ..

std::array<float, 256> e4m3_values() {
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) values[code] = kernels::float_of_e4m3(uint8_t(code));
  return values;
}

}  // namespace

void transpose_words(const uint32_t* in, int rows, int cols, uint32_t* out) {
  ThreadPool::global().run((cols + kTile - 1) / kTile, [&](int tile) {
    const int begin = tile * kTile, end = std::min(cols, begin + kTile);
    for (int r = 0; r < rows; ++r) {
      for (int c = begin; c < end; ++c) out[int64_t(c) * rows + r] = in[int64_t(r) * cols + c];
    }
  });
}

void transpose_awq(const uint32_t* in, int inputs, int outputs, uint32_t* out) {
  const int words = outputs / 8, packed = inputs / 8;
  ThreadPool::global().run((words + kTile - 1) / kTile, [&](int tile) {
    const int begin = tile * kTile, end = std::min(words, begin + kTile);
    for (int p = 0; p < packed; ++p) {
      for (int w = begin; w < end; ++w) {
        const uint32_t* column = in + int64_t(p) * 8 * words + w;
        for (int o = 0; o < 8; ++o) {
          uint32_t word = 0;
          for (int i = 0; i < 8; ++i) word |= (column[int64_t(i) * words] >> kAwqShifts[o] & 15) << 4 * i;
          out[(int64_t(w) * 8 + o) * packed + p] = word;
        }
      }
    }
  });
}

uint32_t packed_code(const uint32_t* words, int64_t index, int bits) {
  const int64_t bit = index * bits;
  const int shift = int(bit % 32);
  uint32_t code = words[bit / 32] >> shift;
  if (shift + bits > 32) code |= words[bit / 32 + 1] << (32 - shift);
  return code & ((1u << bits) - 1);
}

uint32_t awq_code(const uint32_t* words, int64_t index) { return words[index / 8] >> kAwqShifts[index % 8] & 15; }

void dequantize_fp8(const uint8_t* codes, const float* scales, int rows, int cols, int block_rows, int block_cols,
                    uint16_t* out) {
  static const auto values = e4m3_values();
  const int blocks = (cols + block_cols - 1) / block_cols;
  constexpr int kRows = 16;
  ThreadPool::global().run((rows + kRows - 1) / kRows, [&](int piece) {
    for (int r = piece * kRows; r < std::min(rows, (piece + 1) * kRows); ++r) {
      const float* row_scales = scales + int64_t(r / block_rows) * blocks;
      const int64_t row = int64_t(r) * cols;
      for (int b = 0; b < blocks; ++b) {
        for (int c = b * block_cols; c < std::min(cols, (b + 1) * block_cols); ++c) {
          out[row + c] = kernels::bfloat_of_float(values[codes[row + c]] * row_scales[b]);
        }
      }
    }
  });
}

}  // namespace mlx_lm
