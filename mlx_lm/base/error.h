// The errors that callers may catch. Text: "[area] what: expected ..., found ..., where".
#pragma once

#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace mlx_lm {

// Anything that the caller or the outside world got wrong. Our own bugs are assertions.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// config.json or another settings file: a field is missing, of the wrong type or out of range.
class ConfigError : public Error {
 public:
  using Error::Error;
};

// A weight file or a tensor in it: damaged, missing, left over or of the wrong shape.
class WeightError : public Error {
 public:
  using Error::Error;
};

// A model_type, quantization or tensor kind that is well-formed but not known here.
class UnsupportedModel : public Error {
 public:
  using Error::Error;
};

// A call's own arguments: an empty prompt, an option out of range.
class RequestError : public Error {
 public:
  using Error::Error;
};

// Throws E with a formatted message: fail<WeightError>("[safetensors] {}: ...", path).
template <class E, class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw E(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace mlx_lm
