// Functions of the scalar table that serve instruction sets without one of their own too; meanings in table.h.
#pragma once

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels::scalar {

float max(const float* s, int n);
void soft_cap(float* s, int n, float cap);
void layer_norm(const float* x, const float* weight, const float* bias, int size, float eps, float* out);
void geglu(const float* gate, const float* up, size_t n, Gelu kind, float* out);
void quantize_affine(const float* x, int n, float most, uint8_t* codes, float* scale, float* bias);
double int8_peak(int64_t rounds);
double int16_peak(int64_t rounds);
double float32_peak(int64_t rounds);

}  // namespace mlx_lm::kernels::scalar
