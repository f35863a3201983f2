#include "mlx_lm/nn/attention.h"

namespace mlx_lm::nn {

mx::array split_heads(const mx::array& x, int heads) {
  return mx::reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads});
}

mx::array merge_heads(const mx::array& x) { return mx::reshape(x, {x.shape(0), x.shape(1), x.shape(2) * x.shape(3)}); }

mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, const Rope& rope, cache::KVCache& cache,
                 float scale, int window) {
  return attend(q, k, v, &rope, cache, {.scale = scale, .window = window, .softcap = 0, .sinks = {}});
}

mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, const Rope* rope, cache::KVCache& cache,
                 const AttendOptions& o) {
  const auto runs = cache.runs(k.shape(1));
  const auto seen = cache.update(rope ? (*rope)(k, runs) : k, v, o.window);
  return ops::attention(rope ? (*rope)(q, runs) : q, seen, o.scale, {.softcap = o.softcap, .sinks = o.sinks});
}

}  // namespace mlx_lm::nn
