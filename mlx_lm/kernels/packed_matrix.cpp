// Quantized matrices in the layout of PackedView (table.h).
#include <algorithm>
#include <cstring>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/convert.h"
#include "mlx_lm/kernels/packed_floats.h"
#include "mlx_lm/kernels/parallel.h"
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

class Packed : public PackedMatrix {
 public:
  explicit Packed(const AffineSource& s)
      : memory_(weight_memory(view_of(s, nullptr).nbytes())), view_(view_of(s, memory_.get())) {
    parallel_pieces(view_.blocks(), 4, 4. * s.rows * s.cols, [&](int first, int last) {
      for (int block = first; block < last; ++block) pack_block(s, block);
    });
  }

  Packed(std::shared_ptr<uint8_t> memory, const PackedView& view) : memory_(std::move(memory)), view_(view) {}

  void take_rows(const int32_t* ids, int n, float* out) const override {
    parallel_pieces(n, 8, 4. * n * view_.cols, [&](int first, int last) {
      for (int i = first; i < last; ++i) {
        float* to = out + static_cast<size_t>(i) * view_.cols;
        view_.format == Format::affine ? take_row(ids[i], to) : take_small_floats(view_, ids[i], to);
      }
    });
  }

  size_t nbytes() const override { return view_.nbytes(); }
  const PackedView& view() const override { return view_; }

 private:
  static PackedView view_of(const AffineSource& s, const uint8_t* data) {
    return {.rows = s.rows, .cols = s.cols, .bits = s.bits, .group_size = s.group_size, .type = s.type, .data = data};
  }

  // Where the group of row r's block at column c begins.
  size_t group_at(int r, int c) const {
    return r / kBlock * view_.block_bytes() + c / view_.group_size * view_.group_bytes();
  }
  // Where the code of (r, c) lies in its group, and by how many bits it is shifted up there.
  struct Place {
    size_t byte;
    int shift;
  };
  Place place_of(int r, int c) const {
    const int k = c % kGroup, piece = k / 4;
    const bool high = view_.nibbles() && piece >= 4;
    const size_t byte = 2 * kBlock * size_of(view_.type) + c % view_.group_size / kGroup * view_.piece_bytes() +
                        (high ? piece - 4 : piece) * 32 + r % kBlock * 4 + k % 4;
    return {byte, high ? 4 : 0};
  }

  void pack_block(const AffineSource& s, int block) const {
    const UnpackCodes unpack = unpack_codes_for(s.bits);
    const int rows = std::min(kBlock, s.rows - block * kBlock);
    const size_t bytes = size_of(s.type);
    for (int c = 0; c < s.cols; c += kGroup) {
      uint8_t* group = memory_.get() + group_at(block * kBlock, c);
      uint8_t* pieces = group + 2 * kBlock * bytes + c % s.group_size / kGroup * view_.piece_bytes();
      for (int r = 0; r < rows; ++r) {
        const size_t row = static_cast<size_t>(block) * kBlock + r;
        if (c % s.group_size == 0) {
          const size_t from = (row * s.cols + c) / s.group_size * bytes;
          std::memcpy(group + r * bytes, static_cast<const char*>(s.scales) + from, bytes);
          std::memcpy(group + (kBlock + r) * bytes, static_cast<const char*>(s.biases) + from, bytes);
        }
        uint8_t codes[kGroup];
        unpack(s.weight + (row * s.cols + c) / 32 * s.bits, codes);
        for (int j = 0; j < (view_.nibbles() ? 4 : 8); ++j) {
          uint32_t four;
          std::memcpy(&four, codes + 4 * j, 4);
          if (view_.nibbles()) {
            uint32_t high;
            std::memcpy(&high, codes + 4 * (j + 4), 4);
            four |= high << 4;
          }
          std::memcpy(pieces + j * 32 + r * 4, &four, 4);
        }
      }
    }
  }

  void take_row(int r, float* out) const {
    for (int c = 0; c < view_.cols; c += kGroup) {
      const uint8_t* group = view_.data + group_at(r, c);
      const float scale = load_number(view_.type, group, r % kBlock);
      const float bias = load_number(view_.type, group, kBlock + r % kBlock);
      for (int k = 0; k < kGroup; ++k) {
        const Place place = place_of(r, c + k);
        const int byte = group[place.byte] >> place.shift;
        out[c + k] = scale * static_cast<float>(view_.nibbles() ? byte & 15 : byte) + bias;
      }
    }
  }

  std::shared_ptr<uint8_t> memory_;
  PackedView view_;
};

}  // namespace

std::shared_ptr<const PackedMatrix> packed_matrix(std::shared_ptr<uint8_t> memory, const PackedView& view) {
  return std::make_shared<Packed>(std::move(memory), view);
}

std::shared_ptr<const PackedMatrix> pack(const AffineSource& s) {
  const bool bits = s.bits == 2 || s.bits == 3 || s.bits == 4 || s.bits == 5 || s.bits == 6 || s.bits == 8;
  const bool group = s.group_size == 32 || s.group_size == 64 || s.group_size == 128;
  if (!bits || !group) {
    fail<RequestError>("[cpu] pack: expected 2, 3, 4, 5, 6 or 8 bits and groups of 32, 64 or 128, found {} and {}",
                       s.bits, s.group_size);
  }
  if (s.rows < 1 || s.cols < 1 || s.cols % s.group_size != 0) {
    fail<RequestError>("[cpu] pack: expected at least one row and columns in groups of {}, found ({}, {})",
                       s.group_size, s.rows, s.cols);
  }
  return std::make_shared<Packed>(s);
}

}  // namespace mlx_lm::kernels
