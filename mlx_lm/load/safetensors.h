// The tensors of a model folder's safetensors files.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "mlx_lm/base/mapped_file.h"
#include "mlx_lm/hub/safetensors_header.h"
#include "mlx_lm/nn/weights.h"

namespace mlx_lm {

// Every tensor of the folder, mapped and not read yet: of the files that model.safetensors.index.json names, else of
// model*.safetensors. An index of which no file is there is stale (mlx-lm never reads it) and is passed over.
// Symbolic links: see find_file().
// Errors: WeightError for a folder without weights, a missing or damaged file, a tensor that is in two files or not in
// the file that the index names; UnsupportedModel when a tensor of a type that MLX lacks (F64, F8_E4M3, ...) is read.
std::map<std::string, nn::StoredTensor> safetensors_tensors(const std::filesystem::path& folder);

// Every tensor of one file, likewise. Errors: those above, as far as one file can have them.
std::map<std::string, nn::StoredTensor> safetensors_file(const std::filesystem::path& path);

// A tensor of such a file, mapped and not read yet. Errors: WeightError for a shape that MLX cannot have.
nn::StoredTensor stored_tensor(const std::shared_ptr<const MappedFile>& file, const TensorInfo& info);

}  // namespace mlx_lm
