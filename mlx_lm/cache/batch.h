// The caches of several texts as those of one step, which computes the next tokens of all.
//
// Nothing is copied, merged or padded: a text keeps its own caches, joins and leaves between two steps, and its result
// is what it would be alone.
#pragma once

#include <span>

#include "mlx_lm/cache/cache.h"

namespace mlx_lm::cache {

// A text of a batch and how many new tokens the step has for it, at least 1.
struct BatchMember {
  KVCaches* caches;
  int tokens;
};

// For one step over (1, L) tokens, L the sum of the members' tokens, in their order. All have caches of the same kinds,
// which must outlive the step's graph.
KVCaches batched(std::span<const BatchMember> members);

}  // namespace mlx_lm::cache
