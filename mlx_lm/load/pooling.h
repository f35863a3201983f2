// How a model's files say that a text's tokens become one vector.
#pragma once

#include <filesystem>

#include "mlx_lm/base/config_reader.h"

namespace mlx_lm {

enum class Pooling {
  mean,           // of all tokens
  weighted_mean,  // the i-th token weighs i
  first,
  last,
  max,  // of each component
};

// What sentence-transformers' modules.json and 1_Pooling/config.json in a model's folder say, or pooling_type in the
// configuration of a GGUF file; the mean where there is nothing. What only changes a vector's length is passed over.
// Errors: ConfigError for files that are damaged, or ask for more than pooling.
Pooling read_pooling(const std::filesystem::path& path, const ConfigReader& config);

}  // namespace mlx_lm
