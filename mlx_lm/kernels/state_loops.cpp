// The loops of recurrent layers in plain C++: the meaning of the others.
#include "mlx_lm/kernels/state_loops.h"

#include <algorithm>
#include <cmath>

namespace mlx_lm::kernels {
namespace {

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

void convolve(const float* const* rows, const float* weight, size_t stride, int taps, const float* bias, int n,
              bool silu, float* out) {
  for (int c = 0; c < n; ++c) {
    float sum = bias == nullptr ? 0 : bias[c];
    for (int k = 0; k < taps; ++k) sum += weight[k * stride + c] * rows[k][c];
    out[c] = silu ? sum * sigmoid(sum) : sum;
  }
}

// In float64, since a dozen rows of it are what the vector twins' several sums are measured by.
float dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return static_cast<float>(sum);
}

void update(const StateUpdate& u, bool decay_each, bool correct) {
  for (int r = 0; r < u.rows; ++r) {
    const float* before = u.before + static_cast<size_t>(r) * u.cols;
    float* after = u.after + static_cast<size_t>(r) * u.cols;
    const float value = correct ? u.values[r] - dot(before, u.decayed_key, u.cols) : u.values[r];
    u.out[r] = dot(before, u.decayed_query, u.cols) + u.write * value * u.key_query;
    for (int c = 0; c < u.cols; ++c) {
      after[c] = u.decay[decay_each ? c : 0] * before[c] + u.write * value * u.key[c];
    }
  }
}

void scan(const ScanUpdate& u) {
  for (int i = 0; i < u.n; ++i) {
    float sum = 0;
    for (int n = 0; n < u.size; ++n) {
      const size_t at = static_cast<size_t>(i) * u.size + n;
      const float decay = std::exp(-u.step[i] * u.rate[at]);
      u.after[at] = decay * (u.before == nullptr ? 0 : u.before[at]) + u.step[i] * u.x[i] * u.b[n];
      sum += u.after[at] * u.c[n];
    }
    u.out[i] = sum + u.skip[i] * u.x[i];
  }
}

void softplus(const float* x, int n, float* out) {
  for (int i = 0; i < n; ++i) out[i] = std::max(x[i], 0.f) + std::log1p(std::exp(-std::fabs(x[i])));
}

void sigmoid_gate(const float* x, const float* gate, int n, float* out) {
  for (int i = 0; i < n; ++i) out[i] = x[i] * sigmoid(gate[i]);
}

}  // namespace

const StateLoops kScalarStates = {convolve, update, scan, softplus, sigmoid_gate, dot};

}  // namespace mlx_lm::kernels
