// Typed access to a JSON object (config.json and its like); every error names the field by its full path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mlx_lm {

// A view of one JSON object and of where it came from. Copies share nothing; the object is small.
// A field that is null counts as absent, as in mlx-lm.
// Errors: every getter throws ConfigError for a wrong type ("[config] llama/config.json: hidden_size: expected ...").
class ConfigReader {
 public:
  // where: the file's name, as errors should show it.
  ConfigReader(nlohmann::json object, std::string where);

  bool has(const std::string& key) const;

  // T: bool, int, float, std::string, std::vector<int>, std::vector<float>, std::vector<std::string>.
  template <class T>
  T get(const std::string& key) const;
  template <class T>
  T get(const std::string& key, T fallback) const {
    return has(key) ? get<T>(key) : std::move(fallback);
  }
  template <class T>
  std::optional<T> find(const std::string& key) const {
    return has(key) ? std::optional<T>(get<T>(key)) : std::nullopt;
  }

  // A whole number in [low, high]; for sizes, which a hostile file sets to 0, -1 or 2^31.
  int get_size(const std::string& key, int low = 1, int high = kMaxSize) const;
  int get_size_or(const std::string& key, int fallback, int low = 1, int high = kMaxSize) const;

  // A number above 0, for what divides or scales.
  float get_positive(const std::string& key, std::optional<float> fallback = {}) const;

  // The same with values for the fields that are absent.
  ConfigReader with_defaults(nlohmann::json defaults) const;

  // The object under key, its errors prefixed with "key.".
  ConfigReader sub(const std::string& key) const;

  const nlohmann::json& json() const { return object_; }
  const std::string& where() const { return where_; }

  static constexpr int kMaxSize = 1 << 28;

 private:
  [[noreturn]] void wrong(const std::string& key, const std::string& expected) const;

  nlohmann::json object_;
  std::string where_;
};

}  // namespace mlx_lm
