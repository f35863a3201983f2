// Affine rows: how they are written, and read by attention.
#include "mlx_lm/kernels/affine.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "mlx_lm/kernels/parallel.h"

namespace mlx_lm::kernels {
namespace {

// The codes that stand one after another, 8 of them in `bits` bytes.
void unpack(const Table& t, const uint8_t* from, size_t n, int bits, uint8_t* codes) {
  if (bits == 4) return t.nibbles(from, n, codes);
  const uint64_t most = (1u << bits) - 1;
  for (size_t i = 0; i < n; i += 8, from += bits) {
    uint64_t eight = 0;
    for (int b = 0; b < bits; ++b) eight |= static_cast<uint64_t>(from[b]) << 8 * b;
    for (int k = 0; k < 8; ++k) codes[i + k] = static_cast<uint8_t>(eight >> k * bits & most);
  }
}

void pack(const uint8_t* codes, size_t n, int bits, uint8_t* to) {
  if (bits == 8) {
    std::copy_n(codes, n, to);
  } else if (bits == 4) {
    for (size_t i = 0; i < n / 2; ++i) to[i] = static_cast<uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
  } else {
    for (size_t i = 0; i < n; i += 8, to += bits) {
      uint64_t eight = 0;
      for (int k = 0; k < 8; ++k) eight |= static_cast<uint64_t>(codes[i + k]) << k * bits;
      for (int b = 0; b < bits; ++b) to[b] = static_cast<uint8_t>(eight >> 8 * b);
    }
  }
}

}  // namespace

void write_rows(const void* new_rows, Type new_type, int batch, int length, int heads, int head_dim,
                const AffineRows& to, int capacity, int position) {
  const Table& t = table();
  const int rows = batch * length, groups = head_dim / to.group_size;
  const size_t row_bytes = static_cast<size_t>(head_dim) * to.bits / 8;
  const float most = static_cast<float>((1 << to.bits) - 1);
  const auto write = [&](int first, int last) {
    thread_local std::vector<float> numbers;
    thread_local std::vector<uint8_t> codes;
    numbers.resize(head_dim + 2 * groups);
    codes.resize(static_cast<size_t>(head_dim) * (1 + size_of(to.type)));
    float* const scales = numbers.data() + head_dim;
    for (int i = first; i < last; ++i) {
      for (int k = 0; k < heads; ++k) {
        const size_t from = (static_cast<size_t>(i) * heads + k) * head_dim;
        t.to_float(new_type, static_cast<const char*>(new_rows) + from * size_of(new_type), head_dim, numbers.data());
        if (new_type != to.type) {  // rounded
          t.from_float(numbers.data(), head_dim, to.type, codes.data() + head_dim);
          t.to_float(to.type, codes.data() + head_dim, head_dim, numbers.data());
        }
        for (int g = 0; g < groups; ++g) {
          const int at = g * to.group_size;
          t.quantize_affine(numbers.data() + at, to.group_size, most, codes.data() + at, scales + g,
                            scales + groups + g);
        }
        const size_t row = (static_cast<size_t>(i / length) * heads + k) * capacity + position + i % length;
        pack(codes.data(), head_dim, to.bits, static_cast<uint8_t*>(to.codes) + row * row_bytes);
        const size_t group = row * groups * size_of(to.type);
        t.from_float(scales, groups, to.type, static_cast<char*>(to.scales) + group);
        t.from_float(scales + groups, groups, to.type, static_cast<char*>(to.biases) + group);
      }
    }
  };
  parallel_pieces(rows, 8, 4. * rows * heads * head_dim, write);
}

void AffineBlock::load(const Table& table, const AffineRows& from, int dim, size_t row, int n) {
  table_ = &table, dim_ = dim, group_size_ = from.group_size, rows_ = n;
  const auto* codes = static_cast<const uint8_t*>(from.codes) + row * dim * from.bits / 8;
  if (from.bits != 8) {
    bytes_.resize(static_cast<size_t>(kRows) * dim);
    unpack(table, codes, static_cast<size_t>(n) * dim, from.bits, bytes_.data());
    codes = bytes_.data();
  }
  codes_ = {codes, Type::u8, static_cast<size_t>(dim)};

  const size_t count = static_cast<size_t>(n) * groups(), at = row * groups() * size_of(from.type);
  factors_.resize(static_cast<size_t>(2 * groups()) * kRows);
  memory_.resize(std::max(memory_.size(), count));
  for (int which = 0; which < 2; ++which) {
    const void* numbers = static_cast<const char*>(which == 0 ? from.scales : from.biases) + at;
    float* to = factors_.data() + which * kRows;
    if (groups() == 1) {
      table.to_float(from.type, numbers, count, to);
      continue;
    }
    table.to_float(from.type, numbers, count, memory_.data());
    for (int g = 0; g < groups(); ++g, to += 2 * kRows) {
      for (int r = 0; r < n; ++r) to[r] = memory_[static_cast<size_t>(r) * groups() + g];
    }
  }
}

void AffineBlock::dots(const float* x, const float* sums, int count, float* y) {
  const size_t size = static_cast<size_t>(count) * kRows;
  if (memory_.size() < size) memory_.resize(size);
  for (int g = 0; g < groups(); ++g) {
    const int at = g * group_size_;
    float* const products = memory_.data();
    table_->dots(codes_.from(0, at), rows_, group_size_, x + at, dim_, count, products, kRows);
    const float *scale = scales(g), *bias = biases(g);
    for (int i = 0; i < count; ++i) {
      const float sum = sums[i * groups() + g];
      const float* from = products + static_cast<size_t>(i) * kRows;
      float* to = y + static_cast<size_t>(i) * kRows;
      if (g == 0) {
        for (int r = 0; r < rows_; ++r) to[r] = scale[r] * from[r] + bias[r] * sum;
      } else {
        for (int r = 0; r < rows_; ++r) to[r] += scale[r] * from[r] + bias[r] * sum;
      }
    }
  }
}

void AffineBlock::add_weighted(const float* p, int count, float* out, size_t out_stride) {
  const size_t size = static_cast<size_t>(count) * (kRows + 1);
  if (memory_.size() < size) memory_.resize(size);
  float* const scaled = memory_.data();
  float* const sums = scaled + static_cast<size_t>(count) * kRows;
  for (int g = 0; g < groups(); ++g) {
    const int at = g * group_size_;
    table_->dots({biases(g), Type::f32, kRows}, 1, rows_, p, kRows, count, sums, 1);
    const float* scale = scales(g);
    for (int i = 0; i < count; ++i) {
      const float* from = p + static_cast<size_t>(i) * kRows;
      for (int r = 0; r < rows_; ++r) scaled[i * kRows + r] = from[r] * scale[r];
      float* to = out + i * out_stride + at;
      for (int c = 0; c < group_size_; ++c) to[c] += sums[i];
    }
    table_->weighted_sums(codes_.from(0, at), rows_, group_size_, scaled, kRows, count, out + at, out_stride);
  }
}

void AffineBlock::to_float(float* out, size_t stride) const {
  for (int g = 0; g < groups(); ++g) {
    for (int r = 0; r < rows_; ++r) {
      const auto* codes = static_cast<const uint8_t*>(codes_.from(r, g * group_size_).data);
      table_->affine(codes, group_size_, scales(g)[r], biases(g)[r], out + r * stride + g * group_size_);
    }
  }
}

void group_sums(const float* x, size_t count, int dim, int group_size, float* sums) {
  for (size_t i = 0; i < count * (dim / group_size); ++i, x += group_size) {
    float parts[8] = {};
    for (int c = 0; c < group_size; ++c) parts[c % 8] += x[c];
    sums[i] = ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
  }
}

}  // namespace mlx_lm::kernels
