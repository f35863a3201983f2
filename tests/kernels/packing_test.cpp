#include <atomic>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/row_source.h"

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

// Random codes, scales and biases, in MLX's packing and row by row.
struct Codes {
  Codes(int rows, int cols, int bits, Type type)
      : rows(rows),
        cols(cols),
        bits(bits),
        scales(random_numbers(static_cast<size_t>(rows) * cols / 32, 1), type),
        biases(random_numbers(static_cast<size_t>(rows) * cols / 32, 2), type),
        words(static_cast<size_t>(rows) * cols * bits / 32) {
    std::mt19937 engine(3);
    for (size_t i = 0; i < static_cast<size_t>(rows) * cols; ++i) {
      codes.push_back(static_cast<uint8_t>(engine() & ((1u << bits) - 1)));
      for (int b = 0; b < bits; ++b) words[(i * bits + b) / 32] |= (codes[i] >> b & 1u) << (i * bits + b) % 32;
    }
  }

  AffineSource affine() const {
    return {.rows = rows,
            .cols = cols,
            .bits = bits,
            .group_size = 32,
            .weight = words.data(),
            .scales = scales.data(),
            .biases = biases.data(),
            .type = scales.type()};
  }

  RowSource by_rows() const {
    return {.rows = rows,
            .cols = cols,
            .bits = bits,
            .type = scales.type(),
            .read = [this](int row, Type type, uint8_t* to, void* to_scales, void* to_biases) {
              read(row, type, to, to_scales, to_biases);
              return true;
            }};
  }

  void read(int row, Type type, uint8_t* to, void* to_scales, void* to_biases) const {
    for (int c = 0; c < cols; ++c) {
      const uint8_t code = codes[static_cast<size_t>(row) * cols + c];
      if (bits != 4) {
        to[c] = code;
      } else if (c % 32 < 16) {
        to[c / 32 * 16 + c % 16] = code;
      } else {
        to[c / 32 * 16 + c % 16] |= static_cast<uint8_t>(code << 4);
      }
    }
    const size_t groups = cols / 32;
    for (size_t g = 0; g < groups; ++g) {
      store_number(scales[row * groups + g], type, to_scales, g);
      store_number(biases[row * groups + g], type, to_biases, g);
    }
  }

  int rows, cols, bits;
  Stored scales, biases;
  std::vector<uint32_t> words;
  std::vector<uint8_t> codes;
};

std::vector<uint8_t> bytes_of(const PackedMatrix& m) { return {m.view().data, m.view().data + m.nbytes()}; }

TEST(Packing, FollowsTheLayout) {
  const Codes c(11, 96, 4, Type::f16);
  const auto packed = pack(c.affine());
  const PackedView& view = packed->view();
  const size_t header = 2 * kBlock * 2;
  for (int r = 0; r < 16; ++r) {
    for (int col = 0; col < c.cols; ++col) {
      const uint8_t* group = view.data + r / 8 * view.block_bytes() + col / 32 * view.group_bytes();
      const int k = col % 32, byte = group[header + k % 16 / 4 * 32 + r % 8 * 4 + k % 4];
      const int code = r < c.rows ? c.codes[static_cast<size_t>(r) * c.cols + col] : 0;
      ASSERT_EQ(k < 16 ? byte & 15 : byte >> 4, code) << r << ", " << col;
      const size_t g = static_cast<size_t>(r) * c.cols / 32 + col / 32;
      ASSERT_EQ(load_number(Type::f16, group, r % 8), r < c.rows ? c.scales[g] : 0.f);
      ASSERT_EQ(load_number(Type::f16, group, 8 + r % 8), r < c.rows ? c.biases[g] : 0.f);
    }
  }
}

TEST(Packing, RowsBecomeTheSameBytes) {
  for (int bits : {4, 5, 8}) {
    for (Type type : {Type::f16, Type::f32}) {
      for (int rows : {1, 8, 21, 400}) {  // the last is several pieces
        SCOPED_TRACE(fmt::format("bits {} {} rows {}", bits, name_of(type), rows));
        const Codes c(rows, 608, bits, type);
        EXPECT_EQ(bytes_of(*pack(c.by_rows())), bytes_of(*pack(c.affine())));
      }
    }
  }
}

// One row says no to float16: all of them are read as float32.
TEST(Packing, WidensNumbersThatFloat16CannotHold) {
  const Codes c(100, 64, 8, Type::f16);
  auto source = c.by_rows();
  source.read = [&](int row, Type type, uint8_t* codes, void* scales, void* biases) {
    c.read(row, type, codes, scales, biases);
    return type == Type::f32 || row != 57;
  };
  const auto packed = pack(source);
  ASSERT_EQ(packed->view().type, Type::f32);
  Codes wide(100, 64, 8, Type::f32);
  for (size_t i = 0; i < 200; ++i) {
    store_number(c.scales[i], Type::f32, wide.scales.data(), i);
    store_number(c.biases[i], Type::f32, wide.biases.data(), i);
  }
  EXPECT_EQ(bytes_of(*packed), bytes_of(*pack(wide.affine())));
}

TEST(Packing, RefusesWhatItDoesNotKnow) {
  const Codes c(8, 64, 4, Type::f16);
  auto source = c.by_rows();
  source.bits = 3;
  EXPECT_THROW(pack(source), RequestError);
  source.bits = 4, source.cols = 63;
  EXPECT_THROW(pack(source), RequestError);
  source.cols = 64, source.rows = 0;
  EXPECT_THROW(pack(source), RequestError);
}

}  // namespace
}  // namespace mlx_lm::kernels
