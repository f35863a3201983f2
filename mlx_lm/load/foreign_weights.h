// Weights that other tools quantized, brought into MLX's form when they are taken.
//
//   quant_method                   tensors of a layer                                   becomes
//   awq                            qweight (in, out / 8), qzeros, scales                affine, 4 bits
//   gptq                           qweight (in * bits / 32, out), qzeros, scales        affine, 2, 3, 4 or 8 bits
//   compressed-tensors, int        weight_packed, weight_scale, weight_zero_point       affine, 4 or 8 bits
//   compressed-tensors, float      weight (e4m3), weight_scale                          bfloat16
//   compressed-tensors, modelopt   weight_packed or weight (e2m1), weight_scale (e4m3)  bfloat16: two levels of scales
//   fp8                            weight (e4m3), weight_scale_inv, one for a block     bfloat16
//   mxfp4, mxfp8                   MLX's own                                            themselves
#pragma once

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/nn/weights.h"

namespace mlx_lm {

// How the layers are quantized once they are in MLX's form. entry: the configuration's `quantization_config`.
// Errors: UnsupportedModel for another quant_method, or a form of it, by name; ConfigError for numbers that make no
// sense. Source: mlx_lm/utils.py of mlx-lm 0.32, which reads GPTQ's tensors as if they were AWQ's.
nn::QuantizationConfig foreign_quantization(const ConfigReader& entry);

// Does nothing to a model whose configuration has no quant_method.
// Errors: WeightError, UnsupportedModel for tensors that are missing or do not fit together, now or when they are
// taken.
void adopt_foreign_weights(const nn::Weights& weights, const ConfigReader& config);

}  // namespace mlx_lm
