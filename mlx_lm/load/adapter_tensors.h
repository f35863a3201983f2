// The tensors of adapters, whoever wrote them.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "mlx_lm/load/adapters.h"

namespace mlx_lm {

// The path and the tensors of a file of the folder, each marked as the adapter's. Errors: Error when it is not there,
// those of safetensors_file().
std::pair<std::string, Adapters::Tensors> read_adapter_file(const std::filesystem::path& folder,
                                                            const std::string& name);

bool is_floating(const nn::StoredTensor& tensor);

// The same in float32, times scale. Errors: WeightError for numbers that are not in floating point.
nn::StoredTensor widened(nn::StoredTensor tensor, const std::string& name, float scale = 1.f);
// A matrix with its axes exchanged.
nn::StoredTensor exchanged(nn::StoredTensor tensor);

// Errors: WeightError unless the tensor has two or three dimensions and `rank` along the axis.
void expect_rank(const nn::StoredTensor& tensor, int axis, int rank, const std::string& name, const std::string& where);

// Errors: WeightError unless every layer has lora_a and lora_b, and m if and only if it is DoRA's.
void expect_complete(const Adapters& adapters, bool dora);

}  // namespace mlx_lm
