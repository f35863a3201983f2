#include "mlx_lm/nn/attention.h"

#include <cmath>
#include <utility>

namespace mlx_lm::nn {

mx::array split_heads(const mx::array& x, int heads) {
  return mx::reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads});
}

mx::array merge_heads(const mx::array& x) { return mx::reshape(x, {x.shape(0), x.shape(1), x.shape(2) * x.shape(3)}); }

mx::array grown(const mx::array& q, const ops::Runs& runs, const QueryGrowth& g) {
  std::vector<float> factors;
  bool any = false;
  for (const auto& run : runs) {
    for (int i = 0; i < run.tokens; ++i) {
      const auto lengths = (int64_t(run.position) + i + g.first) / g.length;
      any |= lengths > 0;
      factors.push_back(1 + g.beta * std::log(1 + float(lengths)));
    }
  }
  if (!any) return q;
  return q * mx::astype(mx::array(factors.begin(), {1, int(factors.size()), 1, 1}, mx::float32), q.dtype());
}

mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, const Rope& rope, cache::KVCache& cache,
                 float scale, int window) {
  return attend(q, k, v, &rope, cache, {.scale = scale, .window = window, .softcap = 0, .sinks = {}});
}

mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, const Rope* rope, cache::KVCache& cache,
                 const AttendOptions& o) {
  return attend(q, rope, remember(k, v, rope, cache, o.window), o);
}

Seen remember(const mx::array& k, const mx::array& v, const Rope* rope, cache::KVCache& cache, int window) {
  auto runs = cache.runs(k.shape(1));
  auto rows = cache.update(rope ? (*rope)(k, runs) : k, v, window);
  return {std::move(runs), std::move(rows)};
}

mx::array attend(const mx::array& q, const Rope* rope, const Seen& seen, const AttendOptions& o) {
  return ops::attention(rope ? (*rope)(q, seen.runs) : q, seen.rows, o.scale, {.softcap = o.softcap, .sinks = o.sinks});
}

}  // namespace mlx_lm::nn
