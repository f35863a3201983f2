// Layers that carry a state from token to token: on the CPU the kernels of recurrent.h, elsewhere MLX's operations.
// Every function here is lazy and gives float32 by the kernels, its input's type by MLX; states of linear attention and
// of scans are float32 in any case. A text's result does not depend on how it is cut into steps, up to rounding.
#pragma once

#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/ops/columns.h"

namespace mlx_lm::ops {
namespace mx = mlx::core;

// Consecutive new tokens of one text, and an array that its layer carries: null before the first step, replaced by
// each. A step has one run, in each of its B rows; or those of several texts end to end in its only row.
struct StateRun {
  int tokens = 0;
  std::optional<mx::array>* state = nullptr;
};
using StateRuns = std::vector<StateRun>;

// A causal convolution over the last `taps` tokens, each channel by itself.
struct Convolution {
  mx::array weight;               // (taps, C)
  std::optional<mx::array> bias;  // (C)
  bool silu = false;
};
// What may be multiplied to its input and to its result.
struct ConvolutionGates {
  Columns in, out;  // (B, L, C)
};
// Shapes: x, the channels one after another, of (B, L, ...) -> (B, L, C). State: (B, taps - 1, C). Gates: not with
// silu.
mx::array convolution(const std::vector<Columns>& x, const Convolution& how, const StateRuns& runs,
                      const std::optional<ConvolutionGates>& gates = std::nullopt);

// How much of a head's state a token lets live, and how much it writes. step = log(1 + exp(a + bias)), within the
// limits; decay = exp(-rate * step); write = sigmoid(b), or step where there is no b.
struct Decay {
  mx::array rate;  // (H), positive: exp(A_log)
  mx::array bias;  // (H), or (H * D) for decays of every key entry
  float low = 0.f, high = std::numeric_limits<float>::infinity();
};
// Shapes: a as bias, b (H) -> {decay, write}: (B, L, H) or (B, L, H, D), and (B, L, H), both float32.
std::pair<mx::array, mx::array> decays(const Columns& a, const std::optional<Columns>& b, const Decay& how);

// Linear attention: each head's state S remembers values by their keys, S = decay * S + write * v k^T, and gives S q.
struct LinearAttention {
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;  // value_heads: a multiple of key_heads
  bool correct = false;           // the delta rule: only what differs from v is written, v - (decay * S) k
  float normalize = 0.f;          // > 0: q and k are divided by sqrt(|.|^2 + this), q by sqrt(key_dim) as well
  std::optional<mx::array> skip;  // (value_heads): times v, added to the result
};
// Shapes: q, k: key_heads * key_dim columns, v: value_heads * value_dim, decay and write as decays() gives them
// -> (B, L, value_heads * value_dim). State: (B, value_heads, value_dim, key_dim).
// Source: mlx-lm's gated_delta.py and ssm.py (where q, k, v are C, B, x).
mx::array linear_attention(const Columns& q, const Columns& k, const Columns& v, const mx::array& decay,
                           const mx::array& write, const LinearAttention& how, const StateRuns& runs);

// Mamba's scan, see kernels::SelectiveScanArgs. Shapes: x, dt: (B, L, C), b, c: N columns, rate (C, N), skip (C)
// -> (B, L, C). State: (B, C, N).
mx::array selective_scan(const mx::array& x, const mx::array& dt, const Columns& b, const Columns& c,
                         const mx::array& rate, const mx::array& skip, const StateRuns& runs);

// norm(x) * weight * silu(gate) by groups of `size`; with gate_first norm(x * silu(gate)) * weight.
// Shapes: x (..., n), n columns of gates, weight (n) or (size) for all groups -> (..., n).
mx::array gated_rms_norm(const mx::array& x, const Columns& gate, const mx::array& weight, float eps, int size,
                         bool gate_first);

}  // namespace mlx_lm::ops
