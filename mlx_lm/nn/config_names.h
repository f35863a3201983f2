// Configurations that have names of their own for the usual fields.
#pragma once

#include <initializer_list>
#include <utility>

#include "mlx_lm/base/config_reader.h"

namespace mlx_lm::nn {

// The same configuration, where the second of each pair is also what the first is. Errors then speak of the second.
inline ConfigReader with_usual_names(const ConfigReader& c,
                                     std::initializer_list<std::pair<const char*, const char*>> names) {
  auto object = c.json();
  for (const auto& [own, usual] : names) {
    if (c.has(own)) object[usual] = c.json().at(own);
  }
  return ConfigReader(std::move(object), c.where());
}

}  // namespace mlx_lm::nn
