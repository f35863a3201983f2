// The functions behind the tables of x86-64; meanings in table.h. A function that AVX-512 lacks is the AVX2 one.
#pragma once

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

namespace avx2 {

// vectors_avx2.cpp
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

// packed_avx2.cpp
void dequantize(const PackedView& w, int block, int begin, int end, float* panel);
void quantize(const float* x, int cols, int8_t* codes, Factor* factors);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);

// packed_int16_avx2.cpp
void quantize(const float* x, int cols, int16_t* codes, Factor* factors);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

// floats_avx2.cpp: the same for the small floats
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void mxfp8_few(const PackedView& w, int first, int last, const float* x, int n, float* y);
void dequantize_floats(const PackedView& w, int block, int begin, int end, float* panel);

}  // namespace avx2

namespace avx512 {

// packed_avx512.cpp
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);

// packed_int16_avx512.cpp
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

// floats_avx512.cpp: the same for mxfp4 and nvfp4
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

}  // namespace avx512
}  // namespace mlx_lm::kernels
