#include "mlx_lm/load/peft.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/adapter_tensors.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

constexpr std::string_view kPrefix = "base_model.model.";

// Whether PEFT takes `name` to mean the module: its path, or the end of it.
bool names(std::string_view name, std::string_view module) {
  if (name.starts_with('^')) return name.substr(1) == module;
  return module == name ||
         (module.ends_with(name) && module.size() > name.size() && module[module.size() - name.size() - 1] == '.');
}

// Fields that change what is computed, with the values that leave it as it is.
void expect_supported(const ConfigReader& c) {
  const auto refuse = [&](const char* field, const char* expected) {
    fail<UnsupportedModel>("[config] {}: {}: expected {}, found {}", c.where(), field, expected,
                           c.json().at(field).dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 60));
  };
  if (const auto type = c.get<std::string>("peft_type"); type != "LORA") refuse("peft_type", "LORA");
  if (c.get<std::string>("bias", "none") != "none") refuse("bias", "none");
  for (const char* field : {"fan_in_fan_out", "lora_bias", "use_qalora"}) {
    if (c.get<bool>(field, false)) refuse(field, "false");
  }
  // Other ways to start take something out of the base's weights, and the file does not say what.
  if (c.has("init_lora_weights")) {
    const auto& start = c.json().at("init_lora_weights");
    constexpr const char* kPlain[] = {"gaussian", "orthogonal", "eva"};
    if (!start.is_boolean() && std::ranges::none_of(kPlain, [&](const char* name) { return start == name; })) {
      refuse("init_lora_weights", "true, false, gaussian, orthogonal or eva");
    }
  }
  for (const char* field : {"layer_replication", "megatron_config", "target_parameters", "trainable_token_indices",
                            "alora_invocation_tokens", "arrow_config", "use_bdlora", "monteclora_config"}) {
    if (c.has(field) && !c.json().at(field).empty() && c.json().at(field) != false) refuse(field, "nothing");
  }
}

// r or lora_alpha of a module, which a pattern may give another.
class Setting {
 public:
  enum Kind { any_number, whole_number };

  Setting(const ConfigReader& c, const char* field, const char* pattern, Kind kind) : common_(number(c, field, kind)) {
    if (!c.has(pattern)) return;
    const auto patterns = c.sub(pattern);
    for (const auto& [key, value] : patterns.json().items()) {
      const auto plain = [](char letter) {
        return std::isalnum(static_cast<unsigned char>(letter)) || letter == '_' || letter == '.' || letter == '-';
      };
      if (key.empty() || !std::all_of(key.begin() + (key[0] == '^'), key.end(), plain)) {
        fail<UnsupportedModel>("[config] {}: expected names of modules or their ends, found the pattern {}",
                               patterns.where(), key.substr(0, 60));
      }
      patterns_.emplace_back(key, number(patterns, key, kind));
    }
    where_ = patterns.where();
  }

  float of(std::string_view module) const {
    std::optional<float> found;
    for (const auto& [name, value] : patterns_) {
      if (!names(name, module)) continue;
      // PEFT takes the first, in an order that a parsed file no longer has.
      if (found && *found != value) {
        fail<UnsupportedModel>("[config] {}: expected one pattern for {}, found several that differ", where_, module);
      }
      found = value;
    }
    return found.value_or(common_);
  }

 private:
  static float number(const ConfigReader& c, const std::string& key, Kind kind) {
    if (kind == whole_number) return float(c.get_size(key, 1, 1 << 20));
    const float value = c.get<float>(key);
    if (!(value > 0)) fail<ConfigError>("[config] {}: {}: expected a number above 0, found {}", c.where(), key, value);
    return value;
  }

  float common_;
  std::vector<std::pair<std::string, float>> patterns_;
  std::string where_;
};

class Reader {
 public:
  Reader(const ConfigReader& c)
      : dora_(c.get<bool>("use_dora", false)),
        root_scale_(c.get<bool>("use_rslora", false)),
        rank_(c, "r", "rank_pattern", Setting::whole_number),
        alpha_(c, "lora_alpha", "alpha_pattern", Setting::any_number) {
    // A text is a regular expression or "all-linear"; the tensors tell what it meant.
    if (c.has("target_modules") && c.json().at("target_modules").is_array()) {
      targets_ = c.get<std::vector<std::string>>("target_modules");
    }
  }

  Adapters read(std::string where, Adapters::Tensors tensors) {
    out_.where = std::move(where);
    for (auto& [name, tensor] : tensors) {
      if (!name.starts_with(kPrefix)) {
        fail<WeightError>("[adapters] {}: {}: expected a name that begins with {}, found another", out_.where, name,
                          kPrefix);
      }
      add(name, name.substr(kPrefix.size()), std::move(tensor));
    }
    expect_complete(out_, dora_);
    return std::move(out_);
  }

 private:
  // The path before the ending, if it has it.
  static std::optional<std::string> before(std::string_view path, std::string_view ending) {
    if (!path.ends_with(ending) || path.size() == ending.size()) return std::nullopt;
    return std::string(path.substr(0, path.size() - ending.size()));
  }

  void add(const std::string& name, const std::string& path, nn::StoredTensor tensor) {
    if (const auto module = before(path, ".lora_A.weight")) {
      add_part(name, *module, "lora_a", 0, std::move(tensor));
    } else if (const auto module = before(path, ".lora_B.weight")) {
      add_part(name, *module, "lora_b", 1, std::move(tensor));
    } else if (const auto module = before(path, ".lora_embedding_A")) {
      out_.lookup_only = name;
      if (dora_) fail<UnsupportedModel>("[adapters] {}: {}: expected no DoRA of an embedding", out_.where, name);
      add_part(name, *module, "lora_a", 0, std::move(tensor));
    } else if (const auto module = before(path, ".lora_embedding_B")) {
      add_part(name, *module, "lora_b", 1, std::move(tensor));
    } else if (const auto module = before(path, ".lora_magnitude_vector"); module && dora_) {
      put(name, *module + ".m", widened(std::move(tensor), name));
    } else if (const auto module = before(path, ".lora_magnitude_vector.weight"); module && dora_) {
      put(name, *module + ".m", widened(std::move(tensor), name));
    } else if (path.find("lora_") != path.npos) {
      fail<UnsupportedModel>("[adapters] {}: {}: expected lora_A, lora_B{}, found another kind", out_.where, name,
                             dora_ ? " or lora_magnitude_vector" : "");
    } else {
      auto own = path;
      if (const auto module = before(path, ".base_layer.weight")) own = *module + ".weight";
      if (own.ends_with("embed_tokens.weight")) out_.lookup_only = name;
      if (!out_.replacing.emplace(own, std::move(tensor)).second) twice(name);
    }
  }

  // PEFT's matrices are the transposes of mlx-lm's: (r, in) and (out, r).
  void add_part(const std::string& name, const std::string& module, const char* part, int axis,
                nn::StoredTensor tensor) {
    if (!targets_.empty() &&
        std::ranges::none_of(targets_, [&](const std::string& target) { return names(target, module); })) {
      fail<WeightError>("[adapters] {}: {}: expected only modules that target_modules names", out_.where, name);
    }
    const float rank = rank_.of(module);
    if (tensor.shape.size() != 2) {
      fail<WeightError>("[adapters] {}: {}: expected a matrix, found {} dimensions", out_.where, name,
                        tensor.shape.size());
    }
    expect_rank(tensor, axis, int(rank), name, out_.where);
    const float scale = axis == 0 ? 1.f : alpha_.of(module) / (root_scale_ ? std::sqrt(rank) : rank);
    put(name, module + "." + part, widened(exchanged(std::move(tensor)), name, scale));
  }

  void put(const std::string& name, const std::string& own, nn::StoredTensor tensor) {
    if (!out_.low_rank.emplace(own, std::move(tensor)).second) twice(name);
  }

  [[noreturn]] void twice(const std::string& name) const {
    fail<WeightError>("[adapters] {}: {}: expected one tensor for its place, found two", out_.where, name);
  }

  bool dora_, root_scale_;
  Setting rank_, alpha_;
  std::vector<std::string> targets_;
  Adapters out_;
};

}  // namespace

Adapters open_peft(const ConfigReader& config, const std::filesystem::path& folder) {
  expect_supported(config);
  Reader reader(config);
  auto [where, tensors] = read_adapter_file(folder, "adapter_model.safetensors");
  return reader.read(std::move(where), std::move(tensors));
}

}  // namespace mlx_lm
