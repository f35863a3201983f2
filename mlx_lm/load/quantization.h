// The `quantization` entry of config.json.
#pragma once

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/nn/weights.h"

namespace mlx_lm {

// Empty for a model that is not quantized. Looks for `quantization`, then for a `quantization_config` of the same form,
// at the top level and then in `text_config`; an entry with a `quant_method` is another tool's (foreign_weights.h).
// Source: mlx_lm/utils.py of mlx-lm 0.32.
// Modes: affine (group 32, 64 or 128; 2, 3, 4, 5, 6 or 8 bits; default 64, 4), mxfp4 (32, 4), mxfp8 (32, 8), nvfp4 (16,
// 4). Errors: ConfigError for numbers that no mode has; those of foreign_quantization().
nn::QuantizationConfig read_quantization(const ConfigReader& config);

}  // namespace mlx_lm
