// JSON values as a model wrote them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mlx_lm::text {

// Keys keep their order and numbers their digits, which nlohmann::json would not: a 20-digit id stays itself.
struct Value {
  enum class Kind : uint8_t { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  std::string text = "null";      // the string itself; of the other scalars their JSON
  std::vector<Value> items;       // of an array or an object
  std::vector<std::string> keys;  // of an object: one per item, each once

  static Value of_string(std::string_view text) { return {Kind::string, std::string(text), {}, {}}; }
  static Value of_number(std::string json) { return {Kind::number, std::move(json), {}, {}}; }
  static Value of_bool(bool value) { return {Kind::boolean, value ? "true" : "false", {}, {}}; }

  bool is(Kind k) const { return kind == k; }
  // The value under key; null if there is none, or if this is not an object.
  const Value* find(std::string_view key) const;
};

// Members of an object in the order of their first mention; the last value of a key counts, as in Python.
class ObjectBuilder {
 public:
  void set(std::string key, Value value);
  Value take();

 private:
  Value object_{Value::Kind::object, {}, {}, {}};
  std::unordered_map<std::string, size_t> places_;
};

// As Python's json.dumps(ensure_ascii=False) writes it. Bytes that are not UTF-8 become U+FFFD.
std::string to_json(const Value& value);

}  // namespace mlx_lm::text
