// The header of a safetensors file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace mlx_lm {

// One tensor. Everything has been checked: the place lies inside the file, overlaps no other, and has the size that
// shape and dtype ask for.
struct TensorInfo {
  std::string name;
  std::string dtype;  // the format's own word: F32, BF16, U8, ...
  std::vector<int64_t> shape;
  uint64_t begin, end;  // bytes from the start of the file
};

// file: all its bytes. where: as errors should call it. metadata: receives the header's own, if not null.
// Errors: WeightError that names the tensor and what is wrong with it.
std::vector<TensorInfo> read_safetensors_header(std::span<const std::byte> file, const std::string& where,
                                                std::map<std::string, std::string>* metadata = nullptr);

}  // namespace mlx_lm
