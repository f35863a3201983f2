#include "mlx_lm/hub/safetensors_header.h"

#include "mlx_lm/hub/bridge.h"

namespace mlx_lm {

std::vector<TensorInfo> read_safetensors_header(std::span<const std::byte> file, const std::string& where,
                                                std::map<std::string, std::string>* metadata) {
  const auto header = bridge::call<WeightError>([&] {
    const rust::Slice<const uint8_t> data(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    return bridge::read_header(data, bridge::bytes(where));
  });
  std::vector<TensorInfo> tensors;
  tensors.reserve(header.tensors.size());
  for (const auto& t : header.tensors) {
    tensors.push_back({std::string(t.name), std::string(t.dtype), {t.shape.begin(), t.shape.end()}, t.begin, t.end});
  }
  if (metadata) {
    for (const auto& pair : header.metadata) metadata->emplace(std::string(pair.key), std::string(pair.value));
  }
  return tensors;
}

}  // namespace mlx_lm
