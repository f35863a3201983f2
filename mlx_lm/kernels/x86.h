// The functions behind the tables of x86-64; meanings in table.h. A function that AVX-512 lacks is the AVX2 one.
#pragma once

#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

namespace avx2 {

// vectors_avx2.cpp
void to_float(Type type, const void* from, size_t n, float* to);
void from_float(const float* from, size_t n, Type type, void* to);
float exp_sum(float* s, int n, float high);
void scale(float* y, int n, float factor);
void rms_norm(const float* x, const float* weight, int size, float eps, float* out);
void swiglu(const float* gate, const float* up, size_t n, float* out);
float max(const float* s, int n);
void soft_cap(float* s, int n, float cap);
void layer_norm(const float* x, const float* weight, const float* bias, int size, float eps, float* out);
void geglu(const float* gate, const float* up, size_t n, Gelu kind, float* out);

// affine_avx2.cpp
void nibbles(const uint8_t* from, size_t n, uint8_t* codes);
void affine(const uint8_t* codes, size_t n, float scale, float bias, float* to);
void quantize_affine(const float* x, int n, float most, uint8_t* codes, float* scale, float* bias);

// dense_avx2.cpp
void dots(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride);
void weighted_sums(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                   size_t out_stride);
void panel(const Rows& w, int rows, int cols, float* panel);
void panel_product(const float* panel, size_t panel_stride, int depth, const float* x, size_t x_stride, int n, float* y,
                   size_t y_stride, int rows, bool add);
void panel_products(const float* panels, size_t apart, size_t panel_stride, int depth, const float* x, size_t x_stride,
                    int n, float* y, size_t y_stride, int rows, bool add);

// packed_avx2.cpp
void dequantize(const PackedView& w, int block, int begin, int end, float* panel);
void quantize(const float* x, int cols, int8_t* codes, Factor* factors);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);

// packed_int16_avx2.cpp
void quantize(const float* x, int cols, int16_t* codes, Factor* factors);
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

// machine_limits_avx2.cpp
double int8_peak(int64_t rounds);
double int16_peak(int64_t rounds);
double float32_peak(int64_t rounds);

// state_loops_avx2.cpp
extern const StateLoops kStates;

// floats_avx2.cpp: the same for the small floats
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void mxfp8_few(const PackedView& w, int first, int last, const float* x, int n, float* y);
void dequantize_floats(const PackedView& w, int block, int begin, int end, float* panel);

}  // namespace avx2

namespace avx512 {

// vectors_avx512.cpp
void to_float(Type type, const void* from, size_t n, float* to);
float exp_sum(float* s, int n, float high);
void rms_norm(const float* x, const float* weight, int size, float eps, float* out);
void swiglu(const float* gate, const float* up, size_t n, float* out);
float max(const float* s, int n);

// dense_avx512.cpp
void dots(const Rows& w, int rows, int cols, const float* x, size_t x_stride, int n, float* y, size_t y_stride);
void weighted_sums(const Rows& w, int rows, int cols, const float* p, size_t p_stride, int n, float* out,
                   size_t out_stride);
void panel_products(const float* panels, size_t apart, size_t panel_stride, int depth, const float* x, size_t x_stride,
                    int n, float* y, size_t y_stride, int rows, bool add);

// packed_avx512.cpp
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);

// packed_int16_avx512.cpp
void packed_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void packed_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

// machine_limits_avx512.cpp
double int8_peak(int64_t rounds);
double int16_peak(int64_t rounds);
double float32_peak(int64_t rounds);

// state_loops_avx512.cpp
extern const StateLoops kStates;

// floats_avx512.cpp: the same for mxfp4 and nvfp4
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int8_t>& x, int n, float* y);
void e2m1_few(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);
void e2m1_many(const PackedView& w, int first, int last, const QuantizedRows<int16_t>& x, int n, float* y);

}  // namespace avx512
}  // namespace mlx_lm::kernels
