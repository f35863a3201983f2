#include "mlx_lm/kernels/packed_floats.h"

#include <atomic>
#include <cstring>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/packed_matrix.h"
#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/small_floats.h"
#include "mlx_lm/kernels/weight_memory.h"

namespace mlx_lm::kernels {
namespace {

// Four nibbles as four bytes.
uint32_t spread(uint32_t nibbles) {
  nibbles = (nibbles | nibbles << 8) & 0x00ff00ff;
  return (nibbles | nibbles << 4) & 0x0f0f0f0f;
}

// 32 e2m1 codes of one row: piece j gets columns 4j.. in its low halves and 16 + 4j.. in the high ones.
void put_e2m1(const uint32_t* words, uint8_t* to) {
  for (int j = 0; j < 4; ++j) {
    const int shift = j % 2 * 16;
    const uint32_t low = words[j / 2] >> shift & 0xffff, high = words[2 + j / 2] >> shift & 0xffff;
    const uint32_t four = spread(low) | spread(high) << 4;
    std::memcpy(to + 32 * j, &four, 4);
  }
}

// Returns whether the block is plain.
bool pack_block(const FloatSource& s, const PackedView& view, int block, uint8_t* group) {
  const int rows = s.rows - block * kBlock < kBlock ? s.rows - block * kBlock : kBlock;
  const int scales = s.format == Format::nvfp4 ? 2 : 1;  // for 32 columns
  const int words = view.bits;                           // for the same
  const size_t groups = s.cols / kGroup, codes_at = view.header_bytes();
  bool plain = s.format == Format::mxfp8;
  for (size_t g = 0; g < groups; ++g, group += view.group_bytes()) {
    for (int r = 0; r < rows; ++r) {
      const size_t at = (static_cast<size_t>(block) * kBlock + r) * groups + g;
      for (int p = 0; p < scales; ++p) group[p * kBlock + r] = s.scales[at * scales + p];
      const uint32_t* from = s.weight + at * words;
      if (s.format != Format::mxfp8) {
        put_e2m1(from, group + codes_at + 4 * r);
        continue;
      }
      uint8_t codes[kGroup];
      std::memcpy(codes, from, kGroup);
      bool numbers = true;
      for (int k = 0; k < kGroup; ++k) {
        group[codes_at + k * kBlock + r] = codes[k];
        numbers &= (codes[k] | 0x80) != 0xff;
      }
      plain &= numbers && s.scales[at] <= 127 + 7;
    }
  }
  return plain;
}

}  // namespace

void take_small_floats(const PackedView& w, int r, float* out) {
  const uint8_t* group = w.data + r / kBlock * w.block_bytes();
  for (int c = 0; c < w.cols; c += kGroup, group += w.group_bytes()) {
    for (int k = 0; k < kGroup; ++k) {
      out[c + k] = small_float(w, group, r % kBlock, k) * small_float_scale(w, group, r % kBlock, k);
    }
  }
}

std::shared_ptr<const PackedMatrix> pack(const FloatSource& s) {
  if (s.format != Format::mxfp4 && s.format != Format::mxfp8 && s.format != Format::nvfp4) {
    fail<RequestError>("[cpu] pack: expected mxfp4, mxfp8 or nvfp4, found format {}", static_cast<int>(s.format));
  }
  if (s.rows < 1 || s.cols < 1 || s.cols % kGroup != 0) {
    fail<RequestError>("[cpu] pack: expected at least one row and columns in groups of {}, found ({}, {})", kGroup,
                       s.rows, s.cols);
  }
  PackedView view{.rows = s.rows,
                  .cols = s.cols,
                  .bits = s.format == Format::mxfp8 ? 8 : 4,
                  .group_size = kGroup,
                  .format = s.format};
  auto memory = weight_memory(view.nbytes());
  view.data = memory.get();
  std::atomic<bool> plain = s.format == Format::mxfp8;
  parallel_pieces(view.blocks(), 4, 4. * s.rows * s.cols, [&](int first, int last) {
    for (int block = first; block < last; ++block) {
      if (!pack_block(s, view, block, memory.get() + block * view.block_bytes())) plain = false;
    }
  });
  view.plain = plain;
  return packed_matrix(std::move(memory), view);
}

}  // namespace mlx_lm::kernels
