// The tensors of a GGUF file as a checkpoint has them: its names, row orders and MLX's affine quantization.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mlx_lm/load/gguf_reader.h"
#include "mlx_lm/nn/weights.h"

namespace mlx_lm {

// Every tensor of the file, none of them read yet.
// F32, F16 and BF16 are mapped. A quantized "<name>.weight" becomes <name>.weight (uint32 codes), .scales and .biases,
// affine, groups of 32; gguf_config() gives the bits. The three share one conversion: reading any of them converts
// all, and each is kept until it is read. For the CPU's kernels the matrix comes row by row instead, without a
// conversion. The file's pages are given back either way.
// Shapes: weight (..., rows, cols * bits / 32); scales and biases (..., rows, cols / 32); types in docs/formats.md.
// A tensor whose biases do not fit into float16 (none is known) has float32 scales and biases although its dtype says
// float16.
// Errors: UnsupportedModel for a tensor type or architecture that is not known; WeightError for two tensors that claim
// one name, or rows that do not divide into heads.
std::map<std::string, nn::StoredTensor> gguf_tensors(std::shared_ptr<const GgufFile> file);

}  // namespace mlx_lm
