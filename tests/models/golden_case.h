// A golden case: a configuration, random weights drawn again by its recipe, and what Python mlx-lm computed with them.
// The recipe is written down in tests/golden/dump.py.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <mlx/mlx.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/load/foreign_weights.h"
#include "mlx_lm/load/quantization.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/nn/weights.h"

namespace mlx_lm {
namespace mx = mlx::core;

inline std::filesystem::path golden_cases() { return std::filesystem::path(MLX_LM_TEST_DATA) / "golden" / "cases"; }

inline nlohmann::json read_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(std::ifstream(path));
}

struct GoldenCase {
  explicit GoldenCase(const std::string& name)
      : config(read_json(golden_cases() / name / "config.json")),
        expected(read_json(golden_cases() / name / "expected.json")) {}

  // dtype: the type that the model computes and caches in; absent: as the checkpoint says.
  std::unique_ptr<models::LanguageModel> make(std::optional<mx::Dtype> dtype = std::nullopt) const;

  nlohmann::json config, expected;

 private:
  void draw() const;

  mutable std::map<std::string, mx::array> drawn_;
  mutable std::map<std::string, ops::Quantization> overrides_;
};

namespace golden {

inline uint32_t fnv1a(const std::string& text) {
  uint32_t hash = 2166136261u;
  for (unsigned char c : text) hash = (hash ^ c) * 16777619u;
  return hash;
}

inline mx::Dtype dtype_of(const std::string& name) {
  return name == "bfloat16" ? mx::bfloat16 : name == "float16" ? mx::float16 : mx::float32;
}

inline mx::array draw(const std::string& name, const mx::Shape& shape, mx::Dtype dtype,
                      const nlohmann::json& expected = nlohmann::json::object()) {
  auto w = mx::random::normal(shape, mx::float32, mx::random::key(fnv1a(name))) * mx::array(0.12f);
  const auto gains = expected.value("gains", std::vector<std::string>());
  if (shape.size() == 1 && name.ends_with(".weight")) {
    w = w + mx::array(expected.value("norms", 1.f));
  } else if (std::any_of(gains.begin(), gains.end(), [&](const auto& end) { return name.ends_with(end); })) {
    w = w + mx::array(1.f);
  }
  return mx::astype(w, dtype);
}

// A tensor of a type of its own.
inline mx::array draw_stored(const std::string& name, const std::string& kind, const mx::Shape& shape) {
  const auto bits = [&](int width) {
    auto bytes = shape;
    bytes.back() *= width;
    return mx::astype(mx::random::randint(mx::array(0), mx::array(256), bytes, mx::int32, mx::random::key(fnv1a(name))),
                      mx::uint8);
  };
  const auto type = [](const std::string& type) {
    return type == "uint8" ? mx::uint8 : type == "uint32" ? mx::uint32 : type == "int32" ? mx::int32 : dtype_of(type);
  };
  if (kind.starts_with("zeros:")) return mx::zeros(shape, type(kind.substr(6)));
  if (kind.starts_with("small:")) {
    return mx::astype(draw(name, shape, mx::float32) * mx::array(0.05f), type(kind.substr(6)));
  }
  if (kind == "uint8") return bits(1);
  if (kind == "uint32" || kind == "int32") return mx::view(mx::contiguous(bits(4)), type(kind));
  if (kind == "fp8") return mx::to_fp8(draw(name, shape, mx::float32));
  if (kind == "e8m0") return mx::astype(mx::remainder(bits(1), mx::array(4)) + mx::array(121), mx::uint8);
  return draw(name, shape, type(kind));
}

}  // namespace golden

// The checkpoint, drawn once: a test may make many models of it.
inline void GoldenCase::draw() const {
  if (!drawn_.empty()) return;
  for (const auto& [name, shape] : expected.at("parameters").items()) {
    if (shape[0].is_string()) {
      drawn_.emplace(name, golden::draw_stored(name, shape[0], shape[1].get<mx::Shape>()));
      continue;
    }
    const auto w = golden::draw(name, shape.get<mx::Shape>(), golden::dtype_of(expected.at("dtype")), expected);
    const auto module = name.substr(0, name.rfind(".weight"));
    const auto& kinds = expected.at("quantized");
    if (!name.ends_with(".weight") || !kinds.contains(module)) {
      drawn_.emplace(name, w);
      continue;
    }
    const ops::Quantization q{kinds[module]["group_size"], kinds[module]["bits"], kinds[module]["mode"]};
    overrides_[module] = q;
    auto parts = mx::quantize(w, q.group_size, q.bits, q.mode);
    drawn_.emplace(name, parts[0]);
    drawn_.emplace(module + ".scales", parts[1]);
    if (parts.size() > 2) drawn_.emplace(module + ".biases", parts[2]);
  }
}

inline std::unique_ptr<models::LanguageModel> GoldenCase::make(std::optional<mx::Dtype> dtype) const {
  draw();
  std::map<std::string, nn::StoredTensor> tensors;
  auto quantization = read_quantization(ConfigReader(config, "config.json"));
  for (const auto& [module, q] : overrides_) quantization.overrides[module] = q;
  for (const auto& [name, x] : drawn_) {
    tensors.emplace(name, nn::StoredTensor{x.shape(), x.dtype(), [x = x] { return x; }});
  }
  const nn::Weights weights(std::move(tensors), std::move(quantization), "golden case", dtype);
  const ConfigReader reader(config, "config.json");
  if (config.contains("quantization_config")) adopt_foreign_weights(weights, reader);
  auto model = models::find_architecture(config.at("model_type")).make(reader, weights);
  weights.expect_all_taken();
  return model;
}

}  // namespace mlx_lm
