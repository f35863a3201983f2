// GGUF's quantized blocks, rewritten into MLX's affine form: packed codes, and a scale and a bias for each group.
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

// Converts whole blocks: codes gets bits * 4 bytes a group, scales and biases one number a group, float16 or (wide)
// float32. A type with wide_scales is always converted wide.
// False if a bias does not fit into float16; the caller then converts the whole tensor again with wide = true.
bool convert_gguf_blocks(GgufType type, const std::byte* blocks, size_t count, bool wide, std::byte* codes,
                         std::byte* scales, std::byte* biases);

}  // namespace mlx_lm
