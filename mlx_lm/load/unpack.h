// The loops that bring packed weights of other tools into MLX's order.
#pragma once

#include <cstdint>

namespace mlx_lm {

// out[c][r] = in[r][c]. Shapes: in (rows, cols).
void transpose_words(const uint32_t* in, int rows, int cols, uint32_t* out);

// AWQ: eight outputs to a word, in the order 0, 2, 4, 6, 1, 3, 5, 7 from the low bits up; MLX: eight inputs, in order.
// Shapes: in (inputs, outputs / 8) -> out (outputs, inputs / 8).
void transpose_awq(const uint32_t* in, int inputs, int outputs, uint32_t* out);

// A code of `bits` in a row of them that runs through its words from the low bits up.
uint32_t packed_code(const uint32_t* words, int64_t index, int bits);
// The same in AWQ's order, of 4 bits.
uint32_t awq_code(const uint32_t* words, int64_t index);

// bfloat16(e4m3(codes[r][c]) * scales[r / block_rows][c / block_cols]), rounded to the nearest.
// Shapes: codes, out (rows, cols), scales (ceil(rows / block_rows), ceil(cols / block_cols)).
void dequantize_fp8(const uint8_t* codes, const float* scales, int rows, int cols, int block_rows, int block_cols,
                    uint16_t* out);

}  // namespace mlx_lm
