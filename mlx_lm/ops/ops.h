// The steps of a transformer that have a kernel of their own: on the CPU ours (kernels/), elsewhere MLX's.
// Every function here is lazy, like MLX's own, and gives float32 by the kernels, its input's type by MLX.
// Shape letters: docs/shapes.md.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// Rotary position embedding. Immutable; copies share their table.
class Rope {
 public:
  struct Options {
    int dims = 0;              // leading entries of each head that rotate; even
    bool traditional = false;  // pairs (0,1),(2,3).. rather than (0,d/2),(1,d/2+1)..
    float base = 10000.f;      // theta; unused when freqs is given
    float scale = 1.f;         // multiplies positions
    std::vector<float> freqs;  // (dims / 2) wavelengths / 2 pi: angle = position * scale / freqs[i]; empty: from base
    float magnitude = 1.f;     // multiplies the rotating entries (yarn, longrope)
  };
  explicit Rope(Options options);

  const Options& options() const { return table_->options; }
  // Angle of pair i at position p = p * rates()[i].
  const std::vector<float>& rates() const { return table_->rates; }

 private:
  struct Table {
    Options options;
    std::vector<float> rates;
  };
  friend mx::array rope(const mx::array& x, const Rope& rope, int offset);
  std::shared_ptr<const Table> table_;
};

// Shapes: x (B, L, H, D) -> the same; row l stands at position offset + l.
mx::array rope(const mx::array& x, const Rope& rope, int offset);

// Writes new keys and values into cache buffers at rows [position, position + L), converted to the buffers' type.
// The caller gives the two buffers up: the kernels write in place, behind every step that was built before, so an array
// that shares their memory changes too. (MLX's own donation would copy whole buffers here: the attention of the step
// before, queued but not done, still counts as an owner.)
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
// Shapes: q (B, L, H, D); keys, values (B, K, C, D) with C >= span.length -> (B, L, H, D).
mx::array attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span, float scale);

}  // namespace mlx_lm::ops
