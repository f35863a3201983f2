// Layers that carry a state from token to token: short convolutions, linear attention, state-space models. Every
// function here takes the tokens of a text one after another, so a text's result does not depend on how it is cut into
// steps; the work is split over texts and over channels or heads.
#pragma once

#include <cstddef>
#include <span>

namespace mlx_lm::kernels {

// Columns [0, count) of every row of a matrix, which stand there in pieces.
struct Columns {
  const float* data = nullptr;
  size_t stride = 0;  // numbers of a row
  int begin = 0;      // where the first piece begins
  int count = 0;
  int piece = 0;  // columns of a piece, which are neighbours
  int apart = 0;  // from the beginning of one piece to that of the next

  const float* at(size_t row, int column) const {
    return data + row * stride + begin + static_cast<size_t>(column / piece) * apart + column % piece;
  }
};

// The tokens of one text: rows [row, row + tokens) of every matrix, and what is carried.
struct Sequence {
  size_t row = 0;
  int tokens = 0;
  const float* before = nullptr;  // the state that the first token finds; null for zeros
  float* after = nullptr;         // the state that the last one leaves; not `before`
};

// A convolution over the last tokens, each channel by itself:
//   y[t][c] = bias[c] + sum over k of weight[k][c] * u[t - (taps - 1) + k][c],   u = x or x * gate_in
// then y / (1 + exp(-y)) with silu, or y * gate_out. State: (taps - 1, channels), u of the last tokens.
struct ConvolutionArgs {
  std::span<const Columns> x;  // the channels: those of the first, then of the second, ...
  const Columns* gate_in = nullptr;
  const Columns* gate_out = nullptr;
  const float* weight = nullptr;  // (taps, channels)
  const float* bias = nullptr;    // (channels), or null
  int taps = 0, channels = 0;
  bool silu = false;
  float* out = nullptr;  // (rows, channels)
};
void convolution(const ConvolutionArgs& args, std::span<const Sequence> texts);

// How much of a state a token lets live, and how much it writes:
//   step = min(max(log(1 + exp(a + bias)), low), high),   decay = exp(-rate * step)
//   write = 1 / (1 + exp(-b)) where there is a b, else step
struct DecayArgs {
  Columns a;                    // (rows, count)
  const Columns* b = nullptr;   // (rows, count / shared)
  const float* rate = nullptr;  // (count / shared)
  const float* bias = nullptr;  // (count)
  int shared = 1;               // columns of a with the same rate
  float low = 0, high = 0;
  size_t rows = 0;
  float* decay = nullptr;  // (rows, count)
  float* write = nullptr;  // (rows, count / shared)
};
void decays(const DecayArgs& args);

// Linear attention: each head's state S (value_dim, key_dim) remembers values by their keys.
//   S = S * decay, then S += write * (v - S k) k^T with `correct` (the delta rule), else S += write * v k^T
//   y = S q + skip * v
// Several value heads in a row share a key head. State: (value_heads, value_dim, key_dim).
struct LinearAttentionArgs {
  Columns q, k, v;  // heads one after another; a head's numbers are neighbours
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  const float* decay = nullptr;  // (rows, value_heads), or with decay_each (rows, value_heads, key_dim)
  bool decay_each = false;
  const float* write = nullptr;  // (rows, value_heads)
  const float* skip = nullptr;   // (value_heads), or null
  bool correct = false;
  float normalize = 0;   // > 0: q and k are divided by sqrt(|.|^2 + this) first, q by sqrt(key_dim) also
  float* out = nullptr;  // (rows, value_heads, value_dim)
};
void linear_attention(const LinearAttentionArgs& args, std::span<const Sequence> texts);

// Mamba's scan, in which each channel has a state of its own:
//   step = log(1 + exp(dt)),   s[n] = s[n] * exp(-rate[n] * step) + step * x * b[n],   y = c . s + skip * x
// State: (channels, size).
struct SelectiveScanArgs {
  Columns x, dt;                // (rows, channels)
  Columns b, c;                 // (rows, size), in one piece each
  const float* rate = nullptr;  // (channels, size)
  const float* skip = nullptr;  // (channels)
  int channels = 0, size = 0;
  float* out = nullptr;  // (rows, channels)
};
void selective_scan(const SelectiveScanArgs& args, std::span<const Sequence> texts);

// By groups of `size` columns: out = norm(x) * weight * silu(gate), or with gate_first norm(x * silu(gate)) * weight.
// x, out: (rows, count); weight: (count), or with `shared` (size).
struct GatedNormArgs {
  const float* x = nullptr;
  Columns gate;  // its pieces hold whole groups
  const float* weight = nullptr;
  int size = 0;
  bool shared = false, gate_first = false;
  float eps = 0;
  size_t rows = 0;
  float* out = nullptr;
};
void gated_norm(const GatedNormArgs& args);

// out = x / (1 + exp(-gate)). x, out: (rows, gate.count).
void sigmoid_gate(const float* x, const Columns& gate, size_t rows, float* out);
// out = those columns.
void take_columns(const Columns& columns, size_t rows, float* out);

}  // namespace mlx_lm::kernels
