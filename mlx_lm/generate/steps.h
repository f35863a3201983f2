// What the loops over a model's steps share.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/models/architecture.h"

namespace mlx_lm {
namespace mx = mlx::core;

// Makes few steps of the many that the model built: those of the caches, and of what else is wanted. Eval: lazy.
void join(cache::KVCaches& caches, std::vector<mx::array*> arrays = {});

// The arrays that the caches hold.
std::vector<mx::array> state(const cache::KVCaches& caches);
// Eval: forces what the caches hold.
void eval_state(const cache::KVCaches& caches);

// Computes all tokens but the last, so many at a time, and returns that one: (1, 1) int32, to be fed next. told: after
// each piece, how many tokens are done; false ends it there. Eval: forces what the caches hold.
mx::array prefill(std::span<const int> tokens, const models::LanguageModel& model, cache::KVCaches& caches,
                  int step_size, const std::function<bool(int processed)>& told = {});

}  // namespace mlx_lm
