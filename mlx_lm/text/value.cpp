#include "mlx_lm/text/value.h"

#include <nlohmann/json.hpp>

namespace mlx_lm::text {
namespace {

void append_string(std::string& out, const std::string& text) {
  out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// As deep as the value, which its reader bounds.
void append(std::string& out, const Value& value) {
  using Kind = Value::Kind;
  if (value.is(Kind::string)) return append_string(out, value.text);
  if (!value.is(Kind::array) && !value.is(Kind::object)) {
    out += value.text;
    return;
  }
  const bool object = value.is(Kind::object);
  out += object ? '{' : '[';
  for (size_t i = 0; i < value.items.size(); ++i) {
    if (i > 0) out += ", ";
    if (object) {
      append_string(out, value.keys[i]);
      out += ": ";
    }
    append(out, value.items[i]);
  }
  out += object ? '}' : ']';
}

}  // namespace

const Value* Value::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

void ObjectBuilder::set(std::string key, Value value) {
  const auto [place, is_new] = places_.try_emplace(key, object_.items.size());
  if (is_new) {
    object_.keys.push_back(std::move(key));
    object_.items.push_back(std::move(value));
  } else {
    object_.items[place->second] = std::move(value);
  }
}

Value ObjectBuilder::take() { return std::move(object_); }

std::string to_json(const Value& value) {
  std::string out;
  append(out, value);
  return out;
}

}  // namespace mlx_lm::text
