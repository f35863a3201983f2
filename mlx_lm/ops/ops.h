// The steps of a transformer that have a kernel of their own: on the CPU ours (kernels/), elsewhere MLX's.
// Every function here is lazy, like MLX's own. Shape letters: docs/shapes.md.
#pragma once

#include <optional>
#include <utility>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// x / rms(x) * weight over the last axis. Shapes: x (..., E), weight (E).
mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps);

// silu(gate) * up, elementwise.
mx::array swiglu(const mx::array& gate, const mx::array& up);

// Rotary position embedding.
struct Rope {
  int dims = 0;                    // leading entries of each head that rotate; even
  bool traditional = false;        // pairs (0,1),(2,3).. rather than (0,d/2),(1,d/2+1)..
  float base = 10000.f;            // theta; unused when freqs is set
  float scale = 1.f;               // multiplies positions
  std::optional<mx::array> freqs;  // (dims / 2) float32 wavelengths / 2 pi: angle = position * scale / freqs[i]
  float magnitude = 1.f;           // multiplies the rotating entries (yarn, longrope)
};

// Shapes: x (B, L, H, D) -> the same; row l stands at position offset + l.
mx::array rope(const mx::array& x, const Rope& rope, int offset);

// Writes new keys and values into cache buffers at rows [position, position + L), in place when nothing else
// holds the buffers, else into copies. The values are converted to the buffers' type.
// Shapes: keys, values (B, K, C, D); new_keys, new_values (B, L, K, D) -> the two buffers (B, K, C, D).
std::pair<mx::array, mx::array> write_rows(const mx::array& keys, const mx::array& values, const mx::array& new_keys,
                                           const mx::array& new_values, int position);

// Which rows of the key buffer a query may see: query l sees row j when j < length, j <= start + l, and, with a
// window, j > start + l - window.
struct Span {
  int length = 0;  // rows in use
  int start = 0;   // row of the first query
  int window = 0;  // 0: no limit
};

// Softmax attention, grouped-query (H a multiple of K), scores multiplied by scale. Softmax in float32.
// Shapes: q (B, L, H, D); keys, values (B, K, C, D) with C >= span.length -> (B, L, H, D), q's type.
mx::array attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span, float scale);

}  // namespace mlx_lm::ops
