#include "mlx_lm/load/safetensors.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"
#include "mlx_lm/base/mapped_file.h"
#include "mlx_lm/hub/safetensors_header.h"
#include "mlx_lm/load/mapped_array.h"
#include "mlx_lm/load/model_files.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Tensors = std::map<std::string, nn::StoredTensor>;
using WeightMap = std::map<std::string, std::string, std::less<>>;  // tensor -> file

constexpr const char* kIndex = "model.safetensors.index.json";

std::optional<mx::Dtype> mlx_dtype(std::string_view name) {
  // Of the 8-bit kinds the codes, as MLX reads them.
  static constexpr std::pair<std::string_view, mx::Dtype> kTypes[] = {
      {"F32", mx::float32}, {"F16", mx::float16}, {"BF16", mx::bfloat16}, {"BOOL", mx::bool_},    {"U8", mx::uint8},
      {"U16", mx::uint16},  {"U32", mx::uint32},  {"U64", mx::uint64},    {"I8", mx::int8},       {"I16", mx::int16},
      {"I32", mx::int32},   {"I64", mx::int64},   {"F8_E4M3", mx::uint8}, {"F8_E8M0", mx::uint8},
  };
  auto found = std::ranges::find(kTypes, name, &std::pair<std::string_view, mx::Dtype>::first);
  return found == std::end(kTypes) ? std::nullopt : std::optional(found->second);
}

WeightMap read_index(const fs::path& path) {
  const auto file = MappedFile::open(path);
  const auto* text = reinterpret_cast<const char*>(file->bytes().data());
  const auto index = json::parse(text, text + file->bytes().size(), nullptr, /* allow_exceptions */ false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail<WeightError>("[safetensors] {}: expected a JSON object with a weight_map, found something else",
                      path.string());
  }
  WeightMap out;
  for (const auto& [tensor, name] : index["weight_map"].items()) {
    if (!name.is_string()) {
      fail<WeightError>("[safetensors] {}: {}: expected a file's name, found another type", path.string(), tensor);
    }
    out.emplace(tensor, name.get<std::string>());
  }
  return out;
}

// The index's files that are there, or nothing if none is.
std::vector<std::string> find_shards(const fs::path& folder, const WeightMap& index) {
  std::set<std::string> names;
  for (const auto& [tensor, name] : index) names.insert(name);
  std::vector<std::string> found;
  std::string missing;
  for (const auto& name : names) {
    if (!name.ends_with(".safetensors")) {
      fail<WeightError>("[safetensors] {}: {}: expected the name of a .safetensors file, found \"{}\"", folder.string(),
                        kIndex, name.substr(0, 200));
    }
    if (find_file(folder, name)) {
      found.push_back(name);
    } else if (missing.empty()) {
      missing = name;
    }
  }
  if (!found.empty() && !missing.empty()) {
    fail<WeightError>("[safetensors] {}: expected {}, which {} names, found nothing (an incomplete download?)",
                      folder.string(), missing, kIndex);
  }
  return found;
}

std::vector<std::string> glob_models(const fs::path& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    auto name = it->path().filename().string();
    if (name.starts_with("model") && name.ends_with(".safetensors")) found.push_back(std::move(name));
  }
  if (error) fail<WeightError>("[safetensors] {}: could not be listed: {}", folder.string(), error.message());
  std::ranges::sort(found);
  return found;
}

// What the header parser promises is not checked again, but what only we need is: MLX's sizes are ints.
mx::Shape to_shape(const TensorInfo& info, const std::string& where) {
  mx::Shape shape;
  for (int64_t n : info.shape) {
    if (n < 0 || n > std::numeric_limits<int>::max()) {
      fail<WeightError>("[safetensors] {}: {}: expected dimensions of 0 to 2^31 - 1, found {}", where, info.name, n);
    }
    shape.push_back(int(n));
  }
  return shape;
}

void check_size(const TensorInfo& info, mx::Dtype dtype, const std::string& where) {
  uint64_t size = dtype.size();
  bool fits = true;
  for (int64_t n : info.shape) fits &= !__builtin_mul_overflow(size, uint64_t(n), &size);
  if (!fits || size != info.end - info.begin) {
    fail<WeightError>("[safetensors] {}: {}: expected the bytes of its shape, found {}", where, info.name,
                      info.end - info.begin);
  }
}

}  // namespace

nn::StoredTensor stored_tensor(const std::shared_ptr<const MappedFile>& file, const TensorInfo& info) {
  const auto where = file->path().string();
  auto shape = to_shape(info, where);
  const auto dtype = mlx_dtype(info.dtype);
  if (!dtype) {
    // Not an error yet: a model may ignore the tensor.
    return {shape, mx::uint8, [where, name = info.name, dtype = info.dtype]() -> mx::array {
              fail<UnsupportedModel>("[safetensors] {}: {}: expected a type that MLX has, found {}", where, name,
                                     dtype);
            }};
  }
  check_size(info, *dtype, where);
  return {shape, *dtype, [file, begin = size_t(info.begin), shape, dtype = *dtype] {
            return mapped_array(file, begin, shape, dtype);
          }};
}

Tensors safetensors_tensors(const fs::path& folder) {
  WeightMap index;
  std::vector<std::string> names;
  if (auto path = find_file(folder, kIndex)) {
    index = read_index(*path);
    names = find_shards(folder, index);
    if (names.empty()) index.clear();
  }
  if (names.empty()) names = glob_models(folder);
  if (names.empty()) {
    fail<WeightError>("[safetensors] {}: expected model*.safetensors, found none", folder.string());
  }
  Tensors out;
  for (const auto& name : names) {
    const auto path = find_file(folder, name);
    if (!path) fail<WeightError>("[safetensors] {}: expected {}, found nothing", folder.string(), name);
    const auto file = MappedFile::open(*path);
    for (const auto& info : read_safetensors_header(file->bytes(), path->string())) {
      if (auto entry = index.find(info.name); entry != index.end()) {
        if (entry->second != name) {
          fail<WeightError>("[safetensors] {}: {}: expected in {}, found in {}", folder.string(), info.name,
                            entry->second, name);
        }
        index.erase(entry);
      }
      if (!out.emplace(info.name, stored_tensor(file, info)).second) {
        fail<WeightError>("[safetensors] {}: {}: expected in one file, found in several", folder.string(), info.name);
      }
    }
  }
  if (!index.empty()) {
    const auto& [tensor, name] = *index.begin();
    fail<WeightError>("[safetensors] {}: {}: expected in {}, found nothing", folder.string(), tensor, name);
  }
  return out;
}

Tensors safetensors_file(const fs::path& path) {
  const auto file = MappedFile::open(path);
  Tensors out;
  for (const auto& info : read_safetensors_header(file->bytes(), path.string())) {
    out.emplace(info.name, stored_tensor(file, info));
  }
  return out;
}

}  // namespace mlx_lm
