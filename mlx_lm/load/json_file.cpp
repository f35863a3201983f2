#include "mlx_lm/load/json_file.h"

#include <fstream>
#include <limits>

#include <fmt/format.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/model_files.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

constexpr size_t kMaxBytes = 256 << 20;  // the largest index of a checkpoint in use has 20 MB
constexpr int kMaxDepth = 64;

// Python writes and reads numbers that JSON does not have: Infinity, -Infinity, NaN. They become objects as below.
std::string without_bare_floats(std::string_view text) {
  std::string plain;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto found = [&](std::string_view name) { return !quoted && text.substr(i).starts_with(name); };
    const std::string_view bare = found("-Infinity")  ? "-Infinity"
                                  : found("Infinity") ? "Infinity"
                                  : found("NaN")      ? "NaN"
                                                      : "";
    if (!bare.empty()) {
      plain += fmt::format(R"({{"__float__": "{}"}})", bare);
      i += bare.size() - 1;
      continue;
    }
    plain += text[i];
    if (quoted && text[i] == '\\' && i + 1 < text.size())
      plain += text[++i];
    else if (text[i] == '"')
      quoted = !quoted;
  }
  return plain;
}

void restore_floats(json& value) {
  if (value.is_object() && value.size() == 1 && value.begin().key() == "__float__" && value.begin()->is_string()) {
    const auto text = value.begin()->get<std::string>();
    const double infinity = std::numeric_limits<double>::infinity();
    if (text == "Infinity")
      value = infinity;
    else if (text == "-Infinity")
      value = -infinity;
    else if (text == "NaN")
      value = std::numeric_limits<double>::quiet_NaN();
    return;
  }
  if (value.is_structured()) {
    for (auto& item : value) restore_floats(item);
  }
}

}  // namespace

std::optional<std::string> read_text(const std::filesystem::path& folder, std::string_view name, size_t limit) {
  const auto path = find_file(folder, name);
  if (!path) return std::nullopt;
  std::ifstream file(*path, std::ios::binary);
  std::error_code error;
  const auto size = std::filesystem::file_size(*path, error);
  if (!file || error) fail<Error>("[files] {}: could not be opened", path->string());
  if (size > limit) fail<Error>("[files] {}: expected at most {} bytes, found {}", path->string(), limit, size);
  std::string text(size, '\0');
  if (!file.read(text.data(), std::streamsize(size))) fail<Error>("[files] {}: could not be read", path->string());
  return text;
}

json parse_json(std::string_view text, const std::string& where) {
  // Depth is bounded while parsing: whatever walks the value later may do so recursively.
  const auto bounded = [&](int depth, json::parse_event_t event, json&) {
    const bool opens = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth > kMaxDepth) fail<ConfigError>("[config] {}: nested deeper than {}", where, kMaxDepth);
    return true;
  };
  try {
    const bool bare = text.find("Infinity") != text.npos || text.find("NaN") != text.npos;
    auto value = bare ? json::parse(without_bare_floats(text), bounded) : json::parse(text, bounded);
    restore_floats(value);
    return value;
  } catch (const json::exception& error) {
    const std::string_view what = error.what();  // "[json.exception.parse_error.101] parse error at line 1, ..."
    const auto start = what.find("] ");
    fail<ConfigError>("[config] {}: expected JSON, found a {}", where,
                      what.substr(start == what.npos ? 0 : start + 2, 200));
  }
}

std::optional<json> read_json(const std::filesystem::path& folder, std::string_view name) {
  const auto text = read_text(folder, name, kMaxBytes);
  if (!text) return std::nullopt;
  return parse_json(*text, (folder / name).string());
}

}  // namespace mlx_lm
