// GGUF's quantized blocks in affine form: codes, and a scale and a bias for each group.
#pragma once

#include <cstddef>
#include <optional>

#include "mlx_lm/load/gguf_reader.h"

namespace mlx_lm {

// Numbers that share one scale. MLX's smallest affine group, and what every type below divides into.
inline constexpr int kGgufGroup = 32;

// The affine form that a block type becomes; docs/formats.md says which of them are exact.
struct GgufAffine {
  int bits;          // of a code: 4, 5 or 8
  bool wide_scales;  // float32 scales and biases, since float16 would round them
};

// Empty for types that are not quantized, or not converted here.
std::optional<GgufAffine> gguf_affine(GgufType type);

// Reads whole blocks. codes, by groups of 32 numbers: of 4 bits 16 bytes, number i in the low half of byte i and number
// i + 16 in the high one, else a byte each; that is what kernels::RowSource wants. scales and biases: one number a
// group, float16 or (wide) float32; a type with wide_scales is always read wide.
// False if a bias does not fit into float16; the caller then reads the whole tensor again with wide = true.
bool read_gguf_blocks(GgufType type, const std::byte* blocks, size_t count, bool wide, std::byte* codes,
                      std::byte* scales, std::byte* biases);
// The same with codes as MLX packs them: bits * 4 bytes a group.
bool convert_gguf_blocks(const GgufTypeInfo& type, const std::byte* blocks, size_t count, bool wide, std::byte* codes,
                         std::byte* scales, std::byte* biases);

}  // namespace mlx_lm
