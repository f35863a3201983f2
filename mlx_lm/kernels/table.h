// The inner loops, one set of them per instruction set, behind one table of functions. The portable files of this
// folder split the work over threads and cut it into blocks; the functions here run in one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/kernels/state_loops.h"

namespace mlx_lm::kernels {

// Rows of numbers in memory. Row r starts at data + r * stride numbers.
struct Rows {
  const void* data = nullptr;
  Type type = Type::f32;
  size_t stride = 0;

  Rows from(size_t row, size_t col) const {
    return {static_cast<const char*>(data) + (row * stride + col) * size_of(type), type, stride};
  }
};

// Rows of a weight matrix that are multiplied together, in every instruction set. A panel is that many rows turned on
// their side: entry (row r, column c) at [c * stride + r], with zeros for rows past the end.
constexpr int kBlock = 8;
// Columns that share one scale of the int8 activations.
constexpr int kGroup = 32;

// A packed matrix. Blocks of 8 rows follow each other; a block is a sequence of scale groups; a group is 8 scales,
// 8 biases (in their own type), then its codes, 32 columns at a time:
//   bytes (5, 6, 8 bits): 8 pieces of 32 bytes; piece j holds columns 4j..4j+3 of row 0, then of row 1, ...
//   nibbles (2, 3, 4 bits): 4 pieces; piece j holds piece j of the above in the low halves and piece j + 4 in the high.
// So one 32-byte load feeds 8 rows, each with the same 4 activations.
// The small floats have a group for each 32 columns: 8 scale bytes (nvfp4: 8 for the first 16 columns, 8 for the
// others), then e2m1 codes as nibbles above, or e4m3 codes as a panel of bytes: column c of row r at [8 * c + r].
struct PackedView {
  int rows = 0, cols = 0, bits = 4, group_size = 64;  // group_size: columns of a group
  Type type = Type::f16;                              // of affine scales and biases
  const uint8_t* data = nullptr;                      // aligned to 64; codes of small floats are not
  Format format = Format::affine;
  bool plain = false;  // of mxfp8: every code is a number and no scale is above 2^7, as mxfp8_few needs it

  bool nibbles() const { return bits <= 4; }
  size_t piece_bytes() const { return nibbles() ? 4 * 32 : 8 * 32; }
  size_t header_bytes() const {
    return format == Format::affine ? 2 * kBlock * size_of(type) : format == Format::nvfp4 ? 2 * kBlock : kBlock;
  }
  size_t group_bytes() const { return header_bytes() + group_size / kGroup * piece_bytes(); }
  size_t block_bytes() const { return cols / group_size * group_bytes(); }
  int blocks() const { return (rows + kBlock - 1) / kBlock; }
  size_t nbytes() const { return blocks() * block_bytes(); }
};

// Activations as whole numbers: x[i] = scale * code, |code| <= 127 or 32767.
struct Factor {
  float scale;
  float sum;  // of the group's rounded activations, scale * sum(codes): what a bias multiplies
};
// Code: int8_t, in order; or int16_t, in the order in which the set's own products want each group:
//   scalar, avx2, avx512: each 4 columns as 0, 2, 1, 3: the first two meet the even bytes of a piece of PackedView, the
//     others the odd ones
//   neon: as they are
//   dotprod, i8mm: for each 8 columns 8 bytes `high`, then 8 bytes `low`; a code is 256 * high + low, both signed
template <class Code>
struct QuantizedRows {
  const Code* codes = nullptr;      // (n, cols)
  const Factor* factors = nullptr;  // (n, cols / 32)
  int cols = 0;

  QuantizedRows from(size_t row) const { return {codes + row * cols, factors + row * (cols / kGroup), cols}; }
};

// Products of a packed matrix with activations of one kind. All sums of 32 products are exact.
// int8: of affine and mxfp4 matrices; int16: of those and nvfp4.
template <class Code>
struct PackedProducts {
  // Rounds one row of cols activations; cols is a multiple of 32.
  void (*quantize)(const float* x, int cols, Code* codes, Factor* factors);
  // y[i][r] = w[r] . x[i] for the rows of blocks [first, last); y: (n, w.rows). For few activation rows: streams the
  // weights once per 4 of them.
  void (*few)(const PackedView& w, int first, int last, const QuantizedRows<Code>& x, int n, float* y);
  // The same for many: unpacks each block once.
  void (*many)(const PackedView& w, int first, int last, const QuantizedRows<Code>& x, int n, float* y);
};

// Multiplications with their additions as the products do them, but without memory, for machine_limits.h. Each runs its
// loop so many times in one thread, and returns how many multiplications that were.
struct Peaks {
  double (*int8)(int64_t rounds);
  double (*int16)(int64_t rounds);
  double (*float32)(int64_t rounds);
};

// Sums of products are accumulated in one order whatever n is, so a row's result does not depend on its neighbours.
struct Table {
  std::string_view name;
  bool small_floats;  // knows other formats than affine; the scalar table serves them where not

  void (*to_float)(Type type, const void* from, size_t n, float* to);
  void (*from_float)(const float* from, size_t n, Type type, void* to);

  // y[i][r] = w[r] . x[i] for rows r of w and n rows i of x; the path of few rows of x.
  void (*dots)(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride);
  // out[i][c] += sum over r of p[i][r] * w[r][c].
  void (*weighted_sums)(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                        size_t out_stride);
  // The first rows <= 8 rows of w as a panel of stride 8.
  void (*panel)(const Rows& w, int rows, int cols, float* panel);
  // y[i][r] (+)= sum over c < depth of panel[c][r] * x[i][c], for 8 rows r, of which the first `rows` are stored.
  void (*panel_product)(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, int n,
                        float* y, size_t y_stride, int rows, bool add);
  // The same with a second panel, `apart` numbers behind the first: 16 rows, of which the first `rows` > 8 are stored.
  void (*panel_products)(const float* panels, size_t apart, size_t panel_stride, int depth, const float* x,
                         size_t x_stride, int n, float* y, size_t y_stride, int rows, bool add);

  // to_float, dots and weighted_sums know rows of u8 too. The other loops of affine rows:
  // n codes of 4 bits, of which each byte has the first in its low half, as bytes; n is a multiple of 32.
  void (*nibbles)(const uint8_t* from, size_t n, uint8_t* codes);
  // to[i] = scale * codes[i] + bias.
  void (*affine)(const uint8_t* codes, size_t n, float scale, float bias, float* to);
  // The codes of one group of n numbers, n a multiple of 32, up to `most`, and its scale and bias.
  void (*quantize_affine)(const float* x, int n, float most, uint8_t* codes, float* scale, float* bias);

  PackedProducts<int8_t> int8;
  PackedProducts<int16_t> int16;
  // The same as `few` for plain mxfp8, whose activations stay as they are; sums are those of panel_product.
  void (*mxfp8_few)(const PackedView& w, int first, int last, const float* x, int n, float* y);
  // Columns [begin, end), multiples of 32, of a block as a panel of stride 8.
  void (*dequantize)(const PackedView& w, int block, int begin, int end, float* panel);

  // s[i] = exp(s[i] - high), returns their sum.
  float (*exp_sum)(float* s, int n, float high);
  // y *= factor.
  void (*scale)(float* y, int n, float factor);
  void (*rms_norm)(const float* x, const float* weight, int size, float eps, float* out);  // weight may be null
  void (*swiglu)(const float* gate, const float* up, size_t n, float* out);

  // The largest of n numbers, NaN passed over; -infinity for none.
  float (*max)(const float* s, int n);
  // s[i] = cap * tanh(s[i] / cap).
  void (*soft_cap)(float* s, int n, float cap);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int size, float eps, float* out);
  void (*geglu)(const float* gate, const float* up, size_t n, Gelu kind, float* out);
  Peaks peaks;
  const StateLoops* states;
};

// For an instruction set that gains nothing from several rows or panels at once.
template <void (*dots)(const Rows& w, int rows, int cols, const float* x, float* y)>
void dots_one_by_one(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y,
                     size_t y_stride) {
  for (int i = 0; i < n; ++i) dots(w, rows, cols, x + i * x_stride, y + i * y_stride);
}
template <void (*weighted_sum)(const Rows& w, int rows, int cols, const float* p, float* out)>
void weighted_sums_one_by_one(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                              size_t out_stride) {
  for (int i = 0; i < n; ++i) weighted_sum(w, rows, cols, p + i * p_stride, out + i * out_stride);
}
template <decltype(Table::panel_product) product>
void panel_products_one_by_one(const float* panels, size_t apart, size_t panel_stride, int depth, const float* x,
                               size_t x_stride, int n, float* y, size_t y_stride, int rows, bool add) {
  product(panels, panel_stride, depth, x, x_stride, n, y, y_stride, kBlock, add);
  product(panels + apart, panel_stride, depth, x, x_stride, n, y + kBlock, y_stride, rows - kBlock, add);
}

extern const Table kScalar;

// The table of that name; null when the name is not known or this processor cannot run it.
const Table* table_for(std::string_view name);
// The one in use.
const Table& table();
// The one in use for a matrix: the scalar one for a format that table() does not know.
const Table& table_for(const PackedView& w);
// Used by tests: matrices packed under one table may be used under any other.
void use_table(const Table* table);

}  // namespace mlx_lm::kernels
