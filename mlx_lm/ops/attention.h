// Attention and what stands before it: rotary positions, and the buffers that keys and values are kept in. On the CPU
// our kernels (kernels/), elsewhere MLX's operations. Every function here is lazy, like MLX's own.
// Shape letters: docs/shapes.md.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/ops/kv_buffer.h"

namespace mlx_lm::ops {
namespace mx = mlx::core;

// Consecutive new tokens of one text, the first of which stands at `position`. A step has one run, in each of its B
// rows; or those of several texts end to end in its only row, L being the sum of their tokens.
struct Run {
  int tokens = 0;
  int position = 0;
};
using Runs = std::vector<Run>;

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
  friend mx::array rope(const mx::array& x, const Rope& rope, const Runs& runs);
  std::shared_ptr<const Table> table_;
};

// Rotates each token to its position. Shapes: x (B, L, H, D) -> the same.
mx::array rope(const mx::array& x, const Rope& rope, const Runs& runs);
// The same for one run: row l stands at position offset + l.
mx::array rope(const mx::array& x, const Rope& rope, int offset);

// Where new keys and values of a run go: rows [row, row + tokens) of two buffers, replaced by those that hold them.
struct KVSlot {
  KVBuffer* keys;
  KVBuffer* values;
  int tokens;
  int row;
};
// Writes new keys and values, converted to the buffers' type and format.
// The caller gives the buffers up: the kernels write in place, behind every step that was built before, so an array
// that shares their memory changes too. (MLX's own donation would copy whole buffers here: the attention of the step
// before, queued but not done, still counts as an owner.)
// Shapes: new_keys, new_values (B, L, K, D), L the sum of the slots' tokens, which each of the B rows has.
void write_rows(std::span<const KVSlot> slots, const mx::array& new_keys, const mx::array& new_values);
// The same for one run.
std::pair<mx::array, mx::array> write_rows(const mx::array& keys, const mx::array& values, const mx::array& new_keys,
                                           const mx::array& new_values, int row);

// Which rows of the key buffer a query may see: query l of a run sees row j when j < length, j <= start + l, and, with
// a window, j > start + l - window.
struct Span {
  int length = 0;  // rows in use
  int start = 0;   // row of the first query
  int window = 0;  // 0: no limit
};

// What the queries of one run attend. (Of one that a cache has in several buffers, each has a part of it.)
struct KVSegment {
  KVBuffer keys, values;  // C >= span.length
  int tokens;
  Span span;
};
using KVView = std::vector<KVSegment>;

struct AttentionOptions {
  float softcap = 0.f;             // scores become softcap * tanh(score / softcap); 0: they stay as they are
  std::optional<mx::array> sinks;  // (H): for each head a score that takes part in the softmax and has no value
  // Latent attention (DeepSeek's MLA): a query is a row of q and one of q_tail (B, L, H, T), a key is a row of the
  // keys' buffer and one of the values' (T numbers), and it is the rows of the keys' buffer that are summed: D' = D.
  std::optional<mx::array> q_tail = std::nullopt;
};

// Softmax attention, grouped-query (H a multiple of K), scores multiplied by scale. Softmax in float32. A run's result
// does not depend on the others.
// Shapes: q (B, L, H, D), L the sum of the segments' tokens -> (B, L, H, D') with D' of the values.
mx::array attention(const mx::array& q, const KVView& seen, float scale, const AttentionOptions& options = {});
// The same for one run.
mx::array attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Span& span, float scale,
                    const AttentionOptions& options = {});

}  // namespace mlx_lm::ops
