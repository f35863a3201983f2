// What the loops over a model's steps share.
#pragma once

#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/cache/kv_cache.h"

namespace mlx_lm {
namespace mx = mlx::core;

// Makes few steps of the many that the model built: those of the caches, and of what else is wanted. Eval: lazy.
void join(cache::KVCaches& caches, std::vector<mx::array*> arrays = {});

// The arrays that the caches hold.
std::vector<mx::array> state(const cache::KVCaches& caches);
// Eval: forces what the caches hold.
void eval_state(const cache::KVCaches& caches);

}  // namespace mlx_lm
