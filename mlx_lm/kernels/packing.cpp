// Quantized matrices rewritten into the layout of PackedView (table.h): 8 rows are read into a small buffer that stays
// in the first-level cache, and turned on their side from there.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/packed_matrix.h"
#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/row_source.h"
#include "mlx_lm/kernels/weight_memory.h"

namespace mlx_lm::kernels {
namespace {

// 32 codes in MLX's packing: a stream of bits, lowest first, which for 32 codes fills whole words.
template <int bits>
void unpack_codes(const uint32_t* words, uint8_t* codes) {
  for (int c = 0; c < kGroup; ++c) {
    const int word = c * bits / 32, shift = c * bits % 32;
    uint32_t code = words[word] >> shift;
    if (shift + bits > 32) code |= words[word + 1] << (32 - shift);
    codes[c] = static_cast<uint8_t>(code & ((1u << bits) - 1));
  }
}

template <>
void unpack_codes<8>(const uint32_t* words, uint8_t* codes) {
  std::memcpy(codes, words, kGroup);
}

// 8 codes at a time, spread by halves: 32 bits over 64, each 16 over 32, each 8 over 16.
template <>
void unpack_codes<4>(const uint32_t* words, uint8_t* codes) {
  for (int i = 0; i < kGroup / 8; ++i) {
    uint64_t x = words[i];
    x = (x | x << 16) & 0x0000ffff0000ffff;
    x = (x | x << 8) & 0x00ff00ff00ff00ff;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
    std::memcpy(codes + 8 * i, &x, 8);
  }
}

using UnpackCodes = void (*)(const uint32_t* words, uint8_t* codes);
UnpackCodes unpack_codes_for(int bits) {
  switch (bits) {
    case 2:
      return unpack_codes<2>;
    case 3:
      return unpack_codes<3>;
    case 4:
      return unpack_codes<4>;
    case 5:
      return unpack_codes<5>;
    case 6:
      return unpack_codes<6>;
    default:
      return unpack_codes<8>;
  }
}

// 32 codes of at most 4 bits, those of columns 16 to 31 into the high halves of the others' bytes.
void join_halves(const uint8_t* codes, uint8_t* out) {
  for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>(codes[i] | codes[16 + i] << 4);
}

// 8 rows as RowSource::read gives them.
class EightRows {
 public:
  explicit EightRows(const PackedView& view)
      : view_(view),
        code_bytes_(view.nibbles() ? 16 : 32),
        code_row_(static_cast<size_t>(view.cols / kGroup) * code_bytes_),
        scale_row_(view.cols / view.group_size * size_of(view.type)),
        memory_(new uint8_t[kBlock * (code_row_ + 2 * scale_row_)]) {}

  uint8_t* codes(int r) const { return memory_.get() + r * code_row_; }
  uint8_t* scales(int r) const { return codes(kBlock) + r * scale_row_; }
  uint8_t* biases(int r) const { return scales(kBlock) + r * scale_row_; }

  // The first `rows` of them into a block, whose memory is zero.
  void write(int rows, uint8_t* block) const {
    const size_t bytes = size_of(view_.type), header = view_.header_bytes(), in_group = view_.group_size / kGroup;
    const int groups = view_.cols / view_.group_size;
    for (int g = 0; g < groups; ++g, block += view_.group_bytes()) {
      bytes == 2 ? write_header<uint16_t>(g, rows, block) : write_header<uint32_t>(g, rows, block);
      for (size_t k = 0; k < in_group; ++k) {
        const uint8_t* from = codes(0) + (g * in_group + k) * code_bytes_;
        uint8_t* to = block + header + k * view_.piece_bytes();
        for (size_t j = 0; j < code_bytes_ / 4; j += 4) {
          if (rows < kBlock) {
            turn(from + 4 * j, rows, to + 32 * j);
          } else {
            turn_four(from + 4 * j, to + 32 * j);
            turn_four(from + 4 * j + 4 * code_row_, to + 32 * j + 16);
          }
        }
      }
    }
  }

 private:
  // Number: as wide as a scale.
  template <class Number>
  void write_header(int g, int rows, uint8_t* to) const {
    for (int r = 0; r < rows; ++r) {
      std::memcpy(to + r * sizeof(Number), scales(r) + g * sizeof(Number), sizeof(Number));
      std::memcpy(to + (kBlock + r) * sizeof(Number), biases(r) + g * sizeof(Number), sizeof(Number));
    }
  }

  // Row r's word j (4 codes) to row r of piece j, for four words.
  void turn(const uint8_t* from, int rows, uint8_t* to) const {
    for (int r = 0; r < rows; ++r) {
      for (int j = 0; j < 4; ++j) std::memcpy(to + 32 * j + 4 * r, from + r * code_row_ + 4 * j, 4);
    }
  }
  // The same for four rows at once, which vectors do in half the time.
  void turn_four(const uint8_t* from, uint8_t* to) const {
    using Words [[gnu::vector_size(16)]] = uint32_t;
    Words in[4];
    for (int r = 0; r < 4; ++r) std::memcpy(&in[r], from + r * code_row_, 16);
    const Words low01 = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
    const Words low23 = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
    const Words high01 = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
    const Words high23 = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
    const Words out[4] = {
        __builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
        __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (int j = 0; j < 4; ++j) std::memcpy(to + 32 * j, &out[j], 16);
  }

  const PackedView& view_;
  size_t code_bytes_, code_row_, scale_row_;
  std::unique_ptr<uint8_t[]> memory_;
};

// read(row, codes, scales, biases) as RowSource has it; for groups above 32, scales and biases come once a group.
// Null if it ever said false.
template <class Read>
std::shared_ptr<const PackedMatrix> pack_rows(PackedView view, const Read& read) {
  auto memory = weight_memory(view.nbytes());
  view.data = memory.get();
  std::atomic<bool> fits = true;
  const int piece = static_cast<int>(std::max<size_t>(1, (64 << 10) / view.block_bytes()));
  parallel_pieces(view.blocks(), piece, 4. * view.rows * view.cols, [&](int first, int last) {
    const EightRows buffer(view);
    bool all = true;
    for (int block = first; block < last; ++block) {
      const int rows = std::min(kBlock, view.rows - block * kBlock);
      for (int r = 0; r < rows; ++r) {
        all &= read(block * kBlock + r, buffer.codes(r), buffer.scales(r), buffer.biases(r));
      }
      buffer.write(rows, memory.get() + block * view.block_bytes());
    }
    if (!all) fits = false;
  });
  return fits ? packed_matrix(std::move(memory), view) : nullptr;
}

void expect_shape(int rows, int cols, int group_size) {
  if (rows < 1 || cols < 1 || cols % group_size != 0) {
    fail<RequestError>("[cpu] pack: expected at least one row and columns in groups of {}, found ({}, {})", group_size,
                       rows, cols);
  }
}

}  // namespace

std::shared_ptr<const PackedMatrix> pack(const AffineSource& s) {
  const bool bits = s.bits == 2 || s.bits == 3 || s.bits == 4 || s.bits == 5 || s.bits == 6 || s.bits == 8;
  const bool group = s.group_size == 32 || s.group_size == 64 || s.group_size == 128;
  if (!bits || !group) {
    fail<RequestError>("[cpu] pack: expected 2, 3, 4, 5, 6 or 8 bits and groups of 32, 64 or 128, found {} and {}",
                       s.bits, s.group_size);
  }
  expect_shape(s.rows, s.cols, s.group_size);
  const PackedView view{.rows = s.rows, .cols = s.cols, .bits = s.bits, .group_size = s.group_size, .type = s.type};
  const UnpackCodes unpack = unpack_codes_for(s.bits);
  const size_t code_row = static_cast<size_t>(s.cols / kGroup) * s.bits;  // words
  const size_t scale_row = s.cols / s.group_size * size_of(s.type);
  return pack_rows(view, [&](int row, uint8_t* codes, uint8_t* scales, uint8_t* biases) {
    const uint32_t* words = s.weight + static_cast<size_t>(row) * code_row;
    for (int c = 0; c < s.cols; c += kGroup, words += s.bits) {
      if (view.nibbles()) {
        uint8_t all[kGroup];
        unpack(words, all);
        join_halves(all, codes + c / 2);
      } else {
        unpack(words, codes + c);
      }
    }
    std::memcpy(scales, static_cast<const uint8_t*>(s.scales) + row * scale_row, scale_row);
    std::memcpy(biases, static_cast<const uint8_t*>(s.biases) + row * scale_row, scale_row);
    return true;
  });
}

std::shared_ptr<const PackedMatrix> pack(const RowSource& s) {
  if (s.bits != 4 && s.bits != 5 && s.bits != 8) {
    fail<RequestError>("[cpu] pack: expected rows of 4, 5 or 8 bits, found {}", s.bits);
  }
  expect_shape(s.rows, s.cols, kGroup);
  for (const Type type : {s.type, Type::f32}) {
    const PackedView view{.rows = s.rows, .cols = s.cols, .bits = s.bits, .group_size = kGroup, .type = type};
    auto packed = pack_rows(view, [&](int row, uint8_t* codes, uint8_t* scales, uint8_t* biases) {
      return s.read(row, type, codes, scales, biases);
    });
    if (packed) return packed;
  }
  fail<RequestError>("[cpu] pack: expected rows that fit into float32, found others");
}

}  // namespace mlx_lm::kernels
