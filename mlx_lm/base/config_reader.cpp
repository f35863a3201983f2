#include "mlx_lm/base/config_reader.h"

#include <cmath>
#include <limits>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

// What an error shows of a value: its beginning only, since the file may be hostile.
std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', /* ensure_ascii */ true, json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

bool convert(const json& v, bool& out) { return v.is_boolean() && (out = v.get<bool>(), true); }

bool convert(const json& v, int& out) {
  if (v.is_number_unsigned() && v.get<uint64_t>() > uint64_t(std::numeric_limits<int>::max())) return false;
  if (v.is_number_integer()) {
    auto n = v.get<int64_t>();
    if (n < std::numeric_limits<int>::min() || n > std::numeric_limits<int>::max()) return false;
    out = int(n);
    return true;
  }
  // Some exporters write 64.0 for 64.
  if (!v.is_number_float() || v.get<double>() != std::floor(v.get<double>()) || std::abs(v.get<double>()) > 1e9)
    return false;
  out = int(v.get<double>());
  return true;
}

bool convert(const json& v, float& out) { return v.is_number() && (out = v.get<float>(), std::isfinite(out)); }

bool convert(const json& v, std::string& out) { return v.is_string() && (out = v.get<std::string>(), true); }

template <class T>
bool convert(const json& v, std::vector<T>& out) {
  if (!v.is_array()) return false;
  out.clear();
  for (const auto& item : v) {
    T element;
    if (!convert(item, element)) return false;
    out.push_back(std::move(element));
  }
  return true;
}

template <class T>
constexpr const char* kExpected = "a list";
template <>
constexpr const char* kExpected<bool> = "true or false";
template <>
constexpr const char* kExpected<int> = "a whole number";
template <>
constexpr const char* kExpected<float> = "a finite number";
template <>
constexpr const char* kExpected<std::string> = "a text";
template <>
constexpr const char* kExpected<std::vector<int>> = "a list of whole numbers";
template <>
constexpr const char* kExpected<std::vector<float>> = "a list of finite numbers";
template <>
constexpr const char* kExpected<std::vector<std::string>> = "a list of texts";

}  // namespace

ConfigReader::ConfigReader(nlohmann::json object, std::string where)
    : object_(std::move(object)), where_(std::move(where)) {
  if (!object_.is_object()) fail<ConfigError>("[config] {}: expected a JSON object, found {}", where_, shown(object_));
}

bool ConfigReader::has(const std::string& key) const {
  auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

void ConfigReader::wrong(const std::string& key, const std::string& expected) const {
  auto found = object_.find(key);
  fail<ConfigError>("[config] {}: {}: expected {}, found {}", where_, key, expected,
                    found == object_.end() ? "nothing" : shown(*found));
}

template <class T>
T ConfigReader::get(const std::string& key) const {
  T value{};
  if (!has(key) || !convert(object_.at(key), value)) wrong(key, kExpected<T>);
  return value;
}

template bool ConfigReader::get<bool>(const std::string&) const;
template int ConfigReader::get<int>(const std::string&) const;
template float ConfigReader::get<float>(const std::string&) const;
template std::string ConfigReader::get<std::string>(const std::string&) const;
template std::vector<int> ConfigReader::get<std::vector<int>>(const std::string&) const;
template std::vector<float> ConfigReader::get<std::vector<float>>(const std::string&) const;
template std::vector<std::string> ConfigReader::get<std::vector<std::string>>(const std::string&) const;

int ConfigReader::get_size(const std::string& key, int low, int high) const {
  int value = 0;
  if (!has(key) || !convert(object_.at(key), value) || value < low || value > high) {
    wrong(key, fmt::format("a whole number from {} to {}", low, high));
  }
  return value;
}

int ConfigReader::get_size_or(const std::string& key, int fallback, int low, int high) const {
  return has(key) ? get_size(key, low, high) : fallback;
}

float ConfigReader::get_positive(const std::string& key, std::optional<float> fallback) const {
  if (!has(key) && fallback) return *fallback;
  const float value = get<float>(key);
  if (value <= 0) wrong(key, "a number above 0");
  return value;
}

ConfigReader ConfigReader::with_defaults(nlohmann::json defaults) const {
  for (const auto& [key, value] : object_.items()) {
    if (!value.is_null()) defaults[key] = value;
  }
  return ConfigReader(std::move(defaults), where_);
}

ConfigReader ConfigReader::sub(const std::string& key) const {
  if (!has(key) || !object_.at(key).is_object()) wrong(key, "an object");
  return ConfigReader(object_.at(key), where_ + ": " + key);
}

}  // namespace mlx_lm
