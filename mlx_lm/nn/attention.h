// The attention step between the projections: rotate, remember, attend.
#pragma once

#include <optional>

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/nn/rope.h"

namespace mlx_lm::nn {

// (B, L, heads * D) -> (B, L, heads, D)
mx::array split_heads(const mx::array& x, int heads);
// (B, L, H, D) -> (B, L, H * D)
mx::array merge_heads(const mx::array& x);

// Queries that grow with their position past the length that a model was first trained for, so that their softmax
// stays as sharp: token p's by 1 + beta * log(1 + floor((p + first) / length)).
struct QueryGrowth {
  float beta;
  int length;     // at least 1
  int first = 0;  // what the first token of a text counts as
};
// Shapes: q (B, L, H, D) -> the same.
mx::array grown(const mx::array& q, const ops::Runs& runs, const QueryGrowth& growth);

// Rotates q and k to their positions, appends k and v to the cache, and attends over what the cache then holds.
// Shapes: q (B, L, H, D), k and v (B, L, K, D) -> (B, L, H, D).
// scale: multiplies the scores. window: how many tokens back a token sees, itself included; 0 for all.
mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, const Rope& rope, cache::KVCache& cache,
                 float scale, int window = 0);

// The same with all that a layer may want of it.
struct AttendOptions {
  float scale = 1.f;               // multiplies the scores
  int window = 0;                  // how many tokens back a token sees, itself included; 0 for all
  float softcap = 0.f;             // as in ops::AttentionOptions
  std::optional<mx::array> sinks;  // the same
};
// rope: null where a layer knows no positions (NoPE). v may have another head dim than q and k.
mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, const Rope* rope, cache::KVCache& cache,
                 const AttendOptions& options);

// What queries attend: of their own layer, or of later ones that share its keys and values in the same step.
struct Seen {
  ops::Runs runs;  // where the new tokens stand
  ops::KVView rows;
};
// attend() in two parts. Rotates k to its positions and appends k and v to the cache.
Seen remember(const mx::array& k, const mx::array& v, const Rope* rope, cache::KVCache& cache, int window);
// Rotates q to its positions and attends over what is seen. The window of `options` is that of remember().
mx::array attend(const mx::array& q, const Rope* rope, const Seen& seen, const AttendOptions& options);

}  // namespace mlx_lm::nn
