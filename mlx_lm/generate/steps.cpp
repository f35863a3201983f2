#include "mlx_lm/generate/steps.h"

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

void eval_state(const cache::KVCaches& caches) {
  std::vector<mx::array> state;
  for (const auto& cache : caches) {
    for (auto& array : cache->state()) state.push_back(std::move(array));
  }
  mx::eval(std::move(state));
}

}  // namespace mlx_lm
