// Quantized matrices that are packed row by row from wherever they lie.
#pragma once

#include <functional>
#include <memory>

#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::kernels {

// An affine matrix (rows, cols) in groups of 32 that is read once, a row at a time: so a file's blocks become the
// kernels' layout without another form in between.
struct RowSource {
  int rows = 0, cols = 0;  // cols: a multiple of 32
  int bits = 4;            // 4, 5 or 8
  Type type = Type::f16;   // of scales and biases
  // Reads a row. codes, by 32 columns: of 4 bits 16 bytes, column c in the low half of byte c and column c + 16 in the
  // high one, else a byte each. scales, biases: (cols / 32) of `type`.
  // False if a number does not fit into float16; every row is then read again as float32.
  // Threads: called from several.
  std::function<bool(int row, Type type, uint8_t* codes, void* scales, void* biases)> read;
};
// Errors: RequestError for a shape or a number of bits that is not known.
std::shared_ptr<const PackedMatrix> pack(const RowSource& source);

}  // namespace mlx_lm::kernels
