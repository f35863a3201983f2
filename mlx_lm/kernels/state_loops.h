// The inner loops of recurrent.h, one set per instruction set: Table::states.
#pragma once

#include <cstddef>

namespace mlx_lm::kernels {

// Rows of a state (rows, cols), which do not depend on each other, at one token:
//   u = write * values[r], with `correct` write * (values[r] - before[r] . decayed_key)
//   out[r] = before[r] . decayed_query + u * key_query
//   after[r] = decay * before[r] + u * key
struct StateUpdate {
  const float* before = nullptr;
  float* after = nullptr;                                                        // may be before
  const float* decay = nullptr;                                                  // (cols), or one number
  const float *key = nullptr, *decayed_key = nullptr, *decayed_query = nullptr;  // (cols); times decay
  const float* values = nullptr;                                                 // (rows)
  float* out = nullptr;                                                          // (rows)
  float key_query = 0;                                                           // key . query
  float write = 0;
  int rows = 0, cols = 0;
};

// Channels of a state (n, size) at one token, see SelectiveScanArgs.
struct ScanUpdate {
  const float* before = nullptr;
  float* after = nullptr;                     // may be before
  const float* rate = nullptr;                // (n, size)
  const float *x = nullptr, *step = nullptr;  // (n)
  const float *b = nullptr, *c = nullptr;     // (size)
  const float* skip = nullptr;                // (n)
  float* out = nullptr;                       // (n)
  int n = 0, size = 0;
};

struct StateLoops {
  // out[c] = bias[c] + sum over k of weight[k * stride + c] * rows[k][c], with silu then out[c] / (1 + exp(-out[c])).
  void (*convolve)(const float* const* rows, const float* weight, size_t stride, int taps, const float* bias, int n,
                   bool silu, float* out);
  void (*update)(const StateUpdate& u, bool decay_each, bool correct);
  void (*scan)(const ScanUpdate& u);
  // out[i] = log(1 + exp(x[i])).
  void (*softplus)(const float* x, int n, float* out);
  // out[i] = x[i] / (1 + exp(-gate[i])).
  void (*sigmoid_gate)(const float* x, const float* gate, int n, float* out);
  float (*dot)(const float* a, const float* b, int n);
};

extern const StateLoops kScalarStates;

}  // namespace mlx_lm::kernels
