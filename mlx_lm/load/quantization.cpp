#include "mlx_lm/load/quantization.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/foreign_weights.h"

namespace mlx_lm {
namespace {

struct Mode {
  std::string_view name;
  int group_size, bits;  // the only ones, but for affine
};

constexpr Mode kModes[] = {{"affine", 64, 4}, {"mxfp4", 32, 4}, {"mxfp8", 32, 8}, {"nvfp4", 16, 4}};

int one_of(const ConfigReader& c, const char* key, int fallback, std::initializer_list<int> allowed) {
  const int value = c.get<int>(key, fallback);
  if (std::ranges::find(allowed, value) == allowed.end()) {
    std::string list;
    for (int n : allowed) list += (list.empty() ? "" : ", ") + std::to_string(n);
    fail<ConfigError>("[config] {}: {}: expected {}, found {}", c.where(), key, list, value);
  }
  return value;
}

ops::Quantization read_parameters(const ConfigReader& c) {
  const auto name = c.get<std::string>("mode", "affine");
  const auto mode = std::ranges::find(kModes, name, &Mode::name);
  if (mode == std::end(kModes)) {
    fail<ConfigError>("[config] {}: mode: expected affine, mxfp4, mxfp8 or nvfp4, found {}", c.where(),
                      name.substr(0, 60));
  }
  if (name == "affine") {
    return {.group_size = one_of(c, "group_size", mode->group_size, {32, 64, 128}),
            .bits = one_of(c, "bits", mode->bits, {2, 3, 4, 5, 6, 8}),
            .mode = name};
  }
  return {.group_size = one_of(c, "group_size", mode->group_size, {mode->group_size}),
          .bits = one_of(c, "bits", mode->bits, {mode->bits}),
          .mode = name};
}

nn::QuantizationConfig read_entry(const ConfigReader& c) {
  nn::QuantizationConfig out{.common = read_parameters(c), .overrides = {}};
  for (const auto& [path, value] : c.json().items()) {
    if (path == "group_size" || path == "bits" || path == "mode") continue;
    if (value.is_object()) {
      out.overrides.emplace(path, read_parameters(c.sub(path)));
    } else if (value.is_boolean()) {
      if (!value.get<bool>()) out.overrides.emplace(path, std::nullopt);
    } else if (path.find('.') != path.npos && !value.is_null()) {
      // A lone word without a dot is somebody's note about the file; with one it is meant for a layer.
      fail<ConfigError>("[config] {}: {}: expected an object, true or false, found another type", c.where(),
                        path.substr(0, 120));
    }
  }
  return out;
}

}  // namespace

nn::QuantizationConfig read_quantization(const ConfigReader& config) {
  if (config.has("quantization")) return read_entry(config.sub("quantization"));
  if (config.has("quantization_config")) {
    const auto entry = config.sub("quantization_config");
    if (entry.has("quant_method")) return foreign_quantization(entry);
    if (entry.has("bits") || entry.has("group_size")) return read_entry(entry);
    fail<UnsupportedModel>("[config] {}: expected bits and group_size, found neither", entry.where());
  }
  if (config.has("text_config")) return read_quantization(config.sub("text_config"));
  return {};
}

}  // namespace mlx_lm
