// What the loops over a model's steps share.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/generate/generate_step.h"

namespace mlx_lm {
namespace mx = mlx::core;

// Makes few steps of the many that the model built: those of the caches, and of what else is wanted. Eval: lazy.
void join(cache::KVCaches& caches, std::vector<mx::array*> arrays = {});

// The arrays that the caches hold.
std::vector<mx::array> state(const cache::KVCaches& caches);
// To be called after each step is built: quantizes the caches of a text that has come to o.quantized_kv_start, if
// o.kv_bits says so. Layers without keys and values stay as they are. Errors: RequestError for a model that has no
// others, or one that the format does not fit. Eval: lazy. Source: mlx_lm/generate.py, maybe_quantize_kv_cache.
void quantize_kv(cache::KVCaches& caches, const StepOptions& o);

// Eval: forces what the caches hold.
void eval_state(const cache::KVCaches& caches);

// Computes all tokens but the last, as many at a time as the options say, and returns that one: (1, 1) int32, to be fed
// next. told: after each piece, how many tokens are done; false ends it there. Eval: forces what the caches hold.
mx::array prefill(std::span<const int> tokens, const models::LanguageModel& model, cache::KVCaches& caches,
                  const StepOptions& o, const std::function<bool(int processed)>& told = {});

}  // namespace mlx_lm
