// Small steps of a few models, on raw pointers, as kernels.h has the others.
#pragma once

#include <cstddef>
#include <vector>

namespace mlx_lm::kernels {

// out = x * factor over n numbers; out may be x.
void scale(const float* x, size_t n, float factor, float* out);
// out = cap * tanh(x / cap) over n numbers; out may be x.
void soft_cap(const float* x, size_t n, float cap, float* out);
// out = a + b over n numbers; out may be a or b.
void add(const float* a, const float* b, size_t n, float* out);
// out[i] = a[i] * b over n rows of `size` numbers, b being one of them; out may be a.
void multiply(const float* a, const float* b, int n, int size, float* out);
// out[i] = gelu(max(0, gate[i] - cutoff)) * up[i], gelu by tanh, cutoff: the mean of gate[i] and so many of its
// standard deviations. gate, up, out: (n, size); out may be gate or up.
void sparse_geglu(const float* gate, const float* up, int n, int size, float deviations, float* out);
// out[i] = a[i] + the RMS norm of x[i], as rms_norm gives it. a, x, out: (n, size); weight: (size), or null for ones.
void add_rms_norm(const float* a, const float* x, const float* weight, int n, int size, float eps, float* out);

// Several streams of (rows, size) numbers.
struct Streams {
  int rows = 0, size = 0;
  std::vector<const float*> in;
  std::vector<float*> out;  // none of them one of `in`
};
// out j = in j + the sum over i of mixing[r][j * N + i] * in i, for each row r. mixing: (rows, N * N).
void predict_streams(const Streams& streams, const float* mixing);
// out j = in j + (1 + correction[r][j]) * (computed - in `active`). computed: (rows, size), correction: (rows, N).
void correct_streams(const Streams& streams, const float* computed, const float* correction, int active);

}  // namespace mlx_lm::kernels
