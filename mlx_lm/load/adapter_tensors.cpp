#include "mlx_lm/load/adapter_tensors.h"

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/model_files.h"
#include "mlx_lm/load/safetensors.h"

namespace mlx_lm {

namespace mx = mlx::core;

std::pair<std::string, Adapters::Tensors> read_adapter_file(const std::filesystem::path& folder,
                                                            const std::string& name) {
  const auto path = find_file(folder, name);
  if (!path) fail<Error>("[adapters] {}: expected {}, found nothing", folder.string(), name);
  auto tensors = safetensors_file(*path);
  if (tensors.empty()) fail<WeightError>("[adapters] {}: expected tensors, found none", path->string());
  for (auto& [key, tensor] : tensors) tensor.adapter = path->string();
  return {path->string(), std::move(tensors)};
}

bool is_floating(const nn::StoredTensor& tensor) { return mx::issubdtype(tensor.dtype, mx::floating); }

nn::StoredTensor widened(nn::StoredTensor tensor, const std::string& name, float scale) {
  if (!is_floating(tensor)) {
    fail<WeightError>("[adapters] {}: {}: expected float32, float16 or bfloat16, found another type", tensor.adapter,
                      name);
  }
  tensor.read = [read = std::move(tensor.read), scale] {
    const auto wide = mx::astype(read(), mx::float32);
    return scale == 1 ? wide : wide * mx::array(scale);
  };
  tensor.dtype = mx::float32;
  return tensor;
}

nn::StoredTensor exchanged(nn::StoredTensor tensor) {
  std::swap(tensor.shape.at(0), tensor.shape.at(1));
  tensor.read = [read = std::move(tensor.read)] { return mx::transpose(read()); };
  return tensor;
}

void expect_rank(const nn::StoredTensor& tensor, int axis, int rank, const std::string& name,
                 const std::string& where) {
  const auto& shape = tensor.shape;
  const bool fits = shape.size() == 2 || shape.size() == 3;
  if (!fits || shape[axis] != rank) {
    fail<WeightError>("[adapters] {}: {}: expected rank {}, as the configuration says, found shape ({})", where, name,
                      rank, fmt::join(shape, ", "));
  }
}

void expect_complete(const Adapters& adapters, bool dora) {
  for (const auto& [name, tensor] : adapters.low_rank) {
    const auto layer = name.substr(0, name.rfind('.'));
    for (const char* part : {".lora_a", ".lora_b", ".m"}) {
      if (part == std::string_view(".m") && !dora) continue;
      if (!adapters.low_rank.contains(layer + part)) {
        fail<WeightError>("[adapters] {}: {}: expected {} beside it, found nothing", adapters.where, name,
                          layer + part);
      }
    }
  }
}

}  // namespace mlx_lm
