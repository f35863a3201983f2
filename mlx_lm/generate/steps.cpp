#include "mlx_lm/generate/steps.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/join.h"

namespace mlx_lm {

void join(cache::KVCaches& caches, std::vector<mx::array*> arrays) {
  for (const auto& cache : caches) {
    for (auto* array : cache->arrays()) arrays.push_back(array);
  }
  ops::join(arrays);
}

void quantize_kv(cache::KVCaches& caches, const StepOptions& o) {
  if (o.kv_bits == 0) return;
  bool any = false;
  for (const auto& cache : caches) {
    auto* kv = dynamic_cast<cache::KVCache*>(cache.get());
    any |= kv != nullptr;
    if (kv && kv->offset() >= o.quantized_kv_start) kv->quantize({o.kv_bits, o.kv_group_size});
  }
  if (!any) fail<RequestError>("[generate] kv-bits: expected a model with keys and values, found one without");
}

std::vector<mx::array> state(const cache::KVCaches& caches) {
  std::vector<mx::array> state;
  for (const auto& cache : caches) {
    for (auto& array : cache->state()) state.push_back(std::move(array));
  }
  return state;
}

void eval_state(const cache::KVCaches& caches) { mx::eval(state(caches)); }

mx::array prefill(std::span<const int> tokens, const models::LanguageModel& model, cache::KVCaches& caches,
                  const StepOptions& o, const std::function<bool(int)>& told) {
  const int last = int(tokens.size()) - 1;
  for (int processed = 0; processed < last;) {
    const int n = std::min(o.prefill_step_size, last - processed);
    // The logits are never asked for, so neither the output layer nor the last layer's MLP is computed.
    model(mx::array(tokens.data() + processed, {1, n}, mx::int32), caches);
    quantize_kv(caches, o);
    join(caches);
    eval_state(caches);
    mx::clear_cache();
    processed += n;
    if (told && !told(processed)) break;
  }
  return mx::array(tokens.data() + last, {1, 1}, mx::int32);
}

}  // namespace mlx_lm
