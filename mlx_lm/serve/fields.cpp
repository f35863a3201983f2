#include "mlx_lm/serve/fields.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mlx_lm::serve {
namespace {

using json = Json;

constexpr int kMaxDepth = 64;
constexpr int kMaxKeys = 4096;

// A value as errors show it, cut short: "a text", 7, true.
std::string shown(const json& value) {
  if (value.is_boolean() || value.is_number()) return value.dump();
  if (value.is_string() && value.get_ref<const std::string&>().size() <= 40) {
    return value.dump(-1, ' ', true, json::error_handler_t::replace);
  }
  return kind_of(value);
}

}  // namespace

json parse_body(std::string_view body) {
  // Depth is bounded while parsing: whatever walks the value later may do so recursively.
  std::vector<int> keys;  // so far, of the objects that are open
  const auto bounded = [&](int depth, json::parse_event_t event, json&) {
    if (event == json::parse_event_t::object_start) keys.push_back(0);
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && ++keys.back() > kMaxKeys) {
      throw ApiError(400, fmt::format("body: expected objects of at most {} keys, found more", kMaxKeys));
    }
    const bool opens = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth > kMaxDepth) {
      throw ApiError(400, fmt::format("body: expected JSON nested at most {} deep, found more", kMaxDepth));
    }
    return true;
  };
  try {
    return json::parse(body, bounded);
  } catch (const json::parse_error& error) {
    throw ApiError(400, fmt::format("body: expected JSON, found something else at byte {}", error.byte));
  } catch (const json::exception&) {  // a number that no type holds
    throw ApiError(400, "body: expected JSON, found a number out of range");
  }
}

std::string kind_of(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "a list";
    case json::value_t::string:
      return "a text";
    case json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

Fields::Fields(const json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object()) {
    const auto where = path_.empty() ? "body" : path_;
    throw ApiError(400, fmt::format("{}: expected an object, found {}", where, shown(object)), path_, "invalid_type");
  }
}

const json* Fields::find(const std::string& key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const json& Fields::need(const std::string& key, std::string_view expected) const {
  if (const auto* value = find(key)) return *value;
  throw ApiError(400, fmt::format("{}: expected {}, found nothing", path(key), expected), path(key),
                 "missing_required_parameter");
}

void Fields::wrong(const std::string& key, std::string_view expected) const {
  const auto* value = find(key);
  throw ApiError(400, fmt::format("{}: expected {}, found {}", path(key), expected, value ? shown(*value) : "nothing"),
                 path(key), "invalid_value");
}

std::optional<bool> Fields::boolean(const std::string& key) const {
  const auto* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

std::optional<double> Fields::number(const std::string& key, double low, double high) const {
  const auto* value = find(key);
  if (!value) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high)) wrong(key, fmt::format("a number from {} to {}", low, high));
  return number;
}

std::optional<int64_t> Fields::integer(const std::string& key, int64_t low, int64_t high) const {
  const auto* value = find(key);
  if (!value) return std::nullopt;
  const auto refuse = [&] { wrong(key, fmt::format("a whole number from {} to {}", low, high)); };
  int64_t number = 0;
  if (value->is_number_unsigned()) {
    if (value->get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())) refuse();
    number = value->get<int64_t>();
  } else if (value->is_number_integer()) {
    number = value->get<int64_t>();
  } else if (value->is_number_float()) {  // 16.0, as some clients write it
    const double whole = value->get<double>();
    if (whole != std::floor(whole) || std::abs(whole) > 9e15) refuse();
    number = int64_t(whole);
  } else {
    refuse();
  }
  if (number < low || number > high) refuse();
  return number;
}

std::optional<std::string> Fields::text(const std::string& key) const {
  const auto* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong(key, "a text");
  return value->get<std::string>();
}

std::string Fields::need_text(const std::string& key) const {
  need(key, "a text");
  return *text(key);
}

std::optional<std::string> Fields::choice(const std::string& key, const std::vector<std::string>& choices) const {
  const auto* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_string() || std::find(choices.begin(), choices.end(), *value) == choices.end()) {
    wrong(key, fmt::format("one of {}", fmt::join(choices, ", ")));
  }
  return value->get<std::string>();
}

std::vector<std::string> Fields::texts(const std::string& key, size_t most) const {
  const auto* value = find(key);
  if (!value) return {};
  if (value->is_string()) return {value->get<std::string>()};
  const auto expected = fmt::format("a text or a list of at most {} texts", most);
  if (!value->is_array() || value->size() > most) wrong(key, expected);
  for (const auto& item : *value) {
    if (!item.is_string()) wrong(key, expected);
  }
  return value->get<std::vector<std::string>>();
}

const json* Fields::object(const std::string& key) const {
  const auto* value = find(key);
  if (value && !value->is_object()) wrong(key, "an object");
  return value;
}

const json* Fields::list(const std::string& key, size_t most) const {
  const auto* value = find(key);
  if (value && !value->is_array()) wrong(key, "a list");
  if (value && value->size() > most) {
    throw ApiError(400, fmt::format("{}: expected at most {} items, found {}", path(key), most, value->size()),
                   path(key), "invalid_value");
  }
  return value;
}

}  // namespace mlx_lm::serve
