// What the loops over a model's steps share.
#pragma once

#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/cache/kv_cache.h"
#include "mlx_lm/generate/generate_step.h"

namespace mlx_lm {
namespace mx = mlx::core;

// Makes few steps of the many that the model built: those of the caches, and of what else is wanted. Eval: lazy.
void join(cache::KVCaches& caches, std::vector<mx::array*> arrays = {});

// To be called after each step is built: quantizes the caches of a text that has come to o.quantized_kv_start, if
// o.kv_bits says so. Layers without keys and values stay as they are. Errors: RequestError for a model that has no
// others, or one that the format does not fit. Eval: lazy. Source: mlx_lm/generate.py, maybe_quantize_kv_cache.
void quantize_kv(cache::KVCaches& caches, const StepOptions& o);

// Eval: forces what the caches hold.
void eval_state(const cache::KVCaches& caches);

}  // namespace mlx_lm
