#include "mlx_lm/nn/attention.h"

namespace mlx_lm::nn {

mx::array split_heads(const mx::array& x, int heads) {
  return mx::reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads});
}

mx::array merge_heads(const mx::array& x) { return mx::reshape(x, {x.shape(0), x.shape(1), x.shape(2) * x.shape(3)}); }

mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, const Rope& rope, cache::KVCache& cache,
                 float scale, int window) {
  const auto runs = cache.runs(k.shape(1));
  const auto seen = cache.update(rope(k, runs), v, window);
  return ops::attention(rope(q, runs), seen, scale);
}

}  // namespace mlx_lm::nn
