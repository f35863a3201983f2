// The functions behind the tables of arm64; meanings in table.h. A function that dotprod lacks is the NEON one, one
// that i8mm lacks dotprod's.
#pragma once

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

namespace neon {

// vectors_neon.cpp
void to_float(Type type, const void* from, size_t n, float* to);
void from_float(const float* from, size_t n, Type type, void* to);
void dots(const Rows& w, int rows, int cols, const float* x, float* y);
void weighted_sum(const Rows& w, int rows, int cols, const float* p, float* out);
void panel(const Rows& w, int rows, int cols, float* panel);
void panel_product(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, int n, float* y,
                   size_t y_stride, int rows, bool add);
float exp_sum(float* s, int n, float high);
void scale(float* y, int n, float factor);
void rms_norm(const float* x, const float* weight, int size, float eps, float* out);
void swiglu(const float* gate, const float* up, size_t n, float* out);

// state_loops_neon.cpp
extern const StateLoops kStates;

// affine_neon.cpp
void nibbles(const uint8_t* from, size_t n, uint8_t* codes);
void affine(const uint8_t* codes, size_t n, float scale, float bias, float* to);

// packed_neon.cpp
void dequantize(const PackedView& w, int block, int begin, int end, float* panel);
void quantize(const float* x, int cols, int8_t* codes, Factor* factors);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);

// packed_int16_neon.cpp
void quantize(const float* x, int cols, int16_t* codes, Factor* factors);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

// machine_limits_neon.cpp
double int8_peak(int64_t rounds);
double int16_peak(int64_t rounds);
double float32_peak(int64_t rounds);

}  // namespace neon

// packed_dotprod.cpp
namespace dotprod {

void quantize(const float* x, int cols, int16_t* codes, Factor* factors);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

// machine_limits_dotprod.cpp
double int8_peak(int64_t rounds);
double int16_peak(int64_t rounds);

}  // namespace dotprod

// packed_i8mm.cpp; codes as dotprod has them
namespace i8mm {

void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

// machine_limits_i8mm.cpp
double int8_peak(int64_t rounds);
double int16_peak(int64_t rounds);

}  // namespace i8mm
}  // namespace mlx_lm::kernels
