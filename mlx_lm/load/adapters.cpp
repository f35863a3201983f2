#include "mlx_lm/load/adapters.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include <fmt/ranges.h>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/base/error.h"
#include "mlx_lm/load/adapter_tensors.h"
#include "mlx_lm/load/json_file.h"
#include "mlx_lm/load/peft.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";

// "model.layers.3.mlp.up_proj" -> "model.layers.", 3, "mlp.up_proj"
struct InBlock {
  std::string_view list;
  int number = 0;
  std::string_view rest;
};

std::optional<InBlock> in_block(std::string_view path) {
  constexpr std::string_view kLayers = "layers.";
  for (size_t at = 0; (at = path.find(kLayers, at)) != path.npos; at += kLayers.size()) {
    if (at > 0 && path[at - 1] != '.') continue;
    const auto begin = path.data() + at + kLayers.size(), end = path.data() + path.size();
    int number = 0;
    const auto [after, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || number < 0 || after == begin || after == end || *after != '.') continue;
    return InBlock{path.substr(0, at + kLayers.size()), number, {after + 1, size_t(end - after - 1)}};
  }
  return std::nullopt;
}

// Which layers mlx-lm would have adapted.
class Rule {
 public:
  Rule(const Adapters& adapters, const Adapters::Tensors& model) : adapters_(adapters) {
    for (const auto& [name, tensor] : model) {
      if (const auto place = in_block(name)) {
        auto& blocks = blocks_.try_emplace(std::string(place->list), 0).first->second;
        blocks = std::max(blocks, place->number + 1);
      }
    }
  }

  bool allows(std::string_view layer) const {
    const auto& keys = adapters_.keys;
    if (!adapters_.num_layers || (keys && keys->contains(std::string(layer)))) return true;
    const auto place = in_block(layer);
    if (!place || (keys && !keys->contains(std::string(place->rest)))) return false;
    const auto blocks = blocks_.find(place->list);
    const int last = *adapters_.num_layers;
    return last <= 0 || blocks == blocks_.end() || place->number >= int64_t(blocks->second) - last;
  }

 private:
  const Adapters& adapters_;
  std::map<std::string, int, std::less<>> blocks_;
};

void replace(const std::string& name, const nn::StoredTensor& tensor, const std::string& where,
             Adapters::Tensors& tensors, nn::QuantizationConfig& quantization) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    fail<WeightError>("[adapters] {}: {}: expected a tensor that the model has, found none of that name", where, name);
  }
  const auto& own = found->second;
  const bool floating = is_floating(tensor);
  if (!(own.shape == tensor.shape && (own.dtype == tensor.dtype || (floating && is_floating(own))))) {
    const auto stem = name.ends_with(".weight") ? name.substr(0, name.size() - 7) : "";
    const auto scales = tensors.find(stem + ".scales");
    const bool whole = floating && scales != tensors.end() && tensor.shape.size() == own.shape.size() &&
                       tensor.shape.size() == 2 && tensor.shape[0] == own.shape[0];
    if (!whole) {
      fail<WeightError>("[adapters] {}: {}: expected shape ({}) and the model's type of number, found ({}){}", where,
                        name, fmt::join(own.shape, ", "), fmt::join(tensor.shape, ", "),
                        own.shape == tensor.shape ? " of another type" : "");
    }
    tensors.erase(scales);
    tensors.erase(stem + ".biases");
    quantization.overrides[stem] = std::nullopt;
  }
  found->second = tensor;
}

Adapters open_mlx(const ConfigReader& config, const fs::path& folder) {
  const auto type = config.get<std::string>("fine_tune_type", "lora");
  if (type != "lora" && type != "dora" && type != "full") {
    fail<ConfigError>("[config] {}: fine_tune_type: expected lora, dora or full, found {}", config.where(),
                      type.substr(0, 60));
  }
  auto [where, tensors] = read_adapter_file(folder, "adapters.safetensors");
  Adapters out{.where = std::move(where)};
  if (type == "full") {
    out.replacing = std::move(tensors);
    return out;
  }
  out.num_layers = config.get<int>("num_layers");
  const auto parameters = config.sub("lora_parameters");
  const int rank = parameters.get_size("rank");
  const float scale = parameters.get<float>("scale");
  if (const auto keys = parameters.find<std::vector<std::string>>("keys")) out.keys.emplace(keys->begin(), keys->end());
  for (auto& [name, tensor] : tensors) {
    const auto dot = name.rfind('.');
    const auto leaf = dot == name.npos ? "" : name.substr(dot + 1);
    if (leaf == "lora_a") {
      expect_rank(tensor, 1, rank, name, out.where);
    } else if (leaf == "lora_b") {
      expect_rank(tensor, tensor.shape.size() == 3 ? 2 : 0, rank, name, out.where);
    } else if (leaf != "m" || type != "dora") {
      fail<WeightError>("[adapters] {}: {}: expected a name that ends with lora_a{}, as fine_tune_type says {}",
                        out.where, name, type == "dora" ? ", lora_b or m" : " or lora_b", type);
    }
    out.low_rank.emplace(name, widened(std::move(tensor), name, leaf == "lora_b" ? scale : 1.f));
  }
  expect_complete(out, type == "dora");
  return out;
}

}  // namespace

void Adapters::add_to(Tensors& tensors, nn::QuantizationConfig& quantization) const {
  const Rule rule(*this, tensors);
  for (const auto& [name, tensor] : low_rank) {
    const auto layer = name.substr(0, name.rfind('.'));
    if (!tensors.contains(layer + ".weight")) {
      fail<WeightError>("[adapters] {}: {}: expected a layer that the model has, found none of that name", where, name);
    }
    if (!rule.allows(layer)) {
      fail<WeightError>("[adapters] {}: {}: expected only layers that num_layers ({}) and keys{} name", where, name,
                        *num_layers, keys ? "" : " (none: all of the blocks)");
    }
    if (!tensors.emplace(name, tensor).second) {
      fail<WeightError>("[adapters] {}: {}: expected a model without adapters, found one that has it", where, name);
    }
  }
  for (const auto& [name, tensor] : replacing) replace(name, tensor, where, tensors, quantization);
}

void Adapters::expect_right_for(const nn::WeightTotals& totals) const {
  if (totals.tied && !lookup_only.empty()) {
    fail<UnsupportedModel>(
        "[adapters] {}: {}: expected no adapter of the embedding, which PEFT leaves out of the output layer and this "
        "model ties to it",
        where, lookup_only);
  }
}

Adapters open_adapters(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    fail<Error>("[adapters] {}: expected a folder with {}, found {}", folder.string(), kConfig,
                fs::exists(folder, error) ? "a file" : "nothing");
  }
  auto json = read_json(folder, kConfig);
  if (!json) fail<Error>("[adapters] {}: expected {}, found nothing", folder.string(), kConfig);
  const ConfigReader config(std::move(*json), (folder / kConfig).string());
  return config.has("peft_type") ? open_peft(config, folder) : open_mlx(config, folder);
}

}  // namespace mlx_lm
