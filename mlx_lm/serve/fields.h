// The fields of a request's body, read by name; every error is an ApiError with status 400 that names the field.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/serve/api_error.h"

namespace mlx_lm::serve {

// Keys keep their order: that of a schema's properties is the one in which they are written.
using Json = nlohmann::ordered_json;

// Strict JSON, nested at most 64 deep, with at most 4096 keys in an object (they are searched one by one). Errors:
// ApiError.
Json parse_body(std::string_view body);

// "a number", "a list", ...; for errors.
std::string kind_of(const Json& value);

// A view of one object, which must outlive it. A field that is null counts as absent.
class Fields {
 public:
  // path: of the object in the body, "" for the body itself. Errors: ApiError for what is no object.
  explicit Fields(const Json& object, std::string path = {});

  // Null when absent.
  const Json* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }
  // Errors: absent.
  const Json& need(const std::string& key, std::string_view expected) const;

  std::optional<bool> boolean(const std::string& key) const;
  // A finite number in [low, high].
  std::optional<double> number(const std::string& key, double low, double high) const;
  // A whole number in [low, high].
  std::optional<int64_t> integer(const std::string& key, int64_t low, int64_t high) const;
  std::optional<std::string> text(const std::string& key) const;
  std::string need_text(const std::string& key) const;
  // One of these.
  std::optional<std::string> choice(const std::string& key, const std::vector<std::string>& choices) const;
  // A text or a list of texts, at most so many.
  std::vector<std::string> texts(const std::string& key, size_t most) const;
  const Json* object(const std::string& key) const;
  // At most so many items.
  const Json* list(const std::string& key, size_t most = std::numeric_limits<int>::max()) const;

  // "messages[0].content"
  std::string path(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }
  // Throws: the field was expected to be something else than it is.
  [[noreturn]] void wrong(const std::string& key, std::string_view expected) const;

 private:
  const Json& object_;
  std::string path_;
};

}  // namespace mlx_lm::serve
