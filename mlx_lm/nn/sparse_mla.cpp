#include "mlx_lm/nn/sparse_mla.h"

#include <algorithm>
#include <cmath>

#include "mlx_lm/base/error.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/ops/ops.h"

namespace mlx_lm::nn {
namespace {

constexpr int kQueries = 16;  // whose chosen rows are copied together

// The tokens [begin, begin + n) of x (B, L, ...).
mx::array tokens_of(const mx::array& x, int begin, int n) {
  mx::Shape start(x.ndim(), 0), stop = x.shape();
  start[1] = begin, stop[1] = begin + n;
  return mx::slice(x, start, stop);
}

// How much each query wants each key that it sees: sum over the heads of weight * max(0, q . k).
// Shapes: q (B, L, H, D), weights (B, L, H), keys (B, 1, C, D) -> (B, L, length).
mx::array index_scores(const mx::array& q, const mx::array& weights, const mx::array& keys, const ops::Span& span) {
  auto stop = keys.shape();
  stop[2] = span.length;
  const auto seen = mx::astype(mx::slice(keys, {0, 0, 0, 0}, stop), q.dtype());
  const auto products = mx::matmul(q, mx::swapaxes(seen, -1, -2));  // (B, L, H, length)
  const auto scores = mx::sum(mx::maximum(products, mx::array(0.f, q.dtype())) * mx::expand_dims(weights, -1), 2);
  const auto last = mx::expand_dims(mx::arange(span.start, span.start + q.shape(1)), 1);
  return mx::where(mx::less_equal(mx::arange(span.length), last), scores, mx::array(-INFINITY, q.dtype()));
}

// Shapes: rows (B, 1, C, D), places (B, k) -> (B, 1, k, D).
mx::array rows_at(const mx::array& rows, const mx::array& places) {
  const auto which = mx::reshape(places, {places.shape(0), 1, places.shape(1), 1});
  return mx::take_along_axis(rows, mx::broadcast_to(which, {places.shape(0), 1, places.shape(1), rows.shape(3)}), 2);
}

}  // namespace

IndexerConfig::IndexerConfig(const ConfigReader& c, const DecoderConfig& decoder, const MLAConfig& attention,
                             bool interleaved)
    : heads(c.get_size_or("index_n_heads", 64, 1, 4096)),
      head_dim(c.get_size_or("index_head_dim", 128, 1, 4096)),
      topk(c.get_size_or("index_topk", 2048)),
      rope([&] {
        auto options = decoder.rope;
        options.dims = attention.qk_rope_head_dim;
        options.traditional = c.get<bool>("indexer_rope_interleave", interleaved);
        return Rope(options, decoder.rope_scaling);
      }()) {
  if (attention.qk_rope_head_dim > head_dim) {
    fail<ConfigError>("[config] {}: index_head_dim: expected at least the {} numbers that rotate, found {}", c.where(),
                      attention.qk_rope_head_dim, head_dim);
  }
  if (attention.q_lora_rank == 0) fail<ConfigError>("[config] {}: q_lora_rank: expected a number", c.where());
}

SparseMLA::SparseMLA(const Weights& w, const MLAConfig& c, const IndexerConfig& indexer)
    : c_(indexer),
      mla_(w, c),
      wq_b_(w / "indexer" / "wq_b", c.q_lora_rank, indexer.heads * indexer.head_dim),
      wk_(w / "indexer" / "wk", c.hidden_size, indexer.head_dim),
      weights_proj_(w / "indexer" / "weights_proj", c.hidden_size, indexer.heads),
      k_norm_(w / "indexer" / "k_norm", indexer.head_dim, /* eps */ 1e-5f) {}

mx::array SparseMLA::operator()(const mx::array& x, cache::CacheList& caches) const {
  auto& index = cache::kv(caches[1]);
  const auto runs = index.runs(x.shape(1));
  const auto step = mla_.begin(x, cache::kv(caches[0]));
  const auto key = c_.rope(split_heads(k_norm_(wk_(x)), 1), runs);
  const auto indexed = index.update(key, key, /* window */ 0);
  const auto few = [&](const ops::KVSegment& seen) { return seen.span.length <= c_.topk; };
  if (std::all_of(step.seen.begin(), step.seen.end(), few)) return mla_.attend(step);

  const auto queries = c_.rope(split_heads(wq_b_(step.low), c_.heads), runs);
  const auto weights = weights_proj_(x) * mx::array(1 / std::sqrt(float(c_.heads) * float(c_.head_dim)), x.dtype());
  const auto latent = mla_.absorbed(step.nope);
  std::vector<mx::array> parts;
  int at = 0;
  for (size_t i = 0; i < step.seen.size(); ++i) {
    const auto& seen = step.seen[i];
    // The first queries of a text see too few tokens for a choice.
    const int all = std::clamp(c_.topk - seen.span.start, 0, seen.tokens);
    if (all > 0) {
      auto part = seen;
      part.tokens = all;
      part.span.length = seen.span.start + all;
      parts.push_back(ops::attention(tokens_of(latent, at, all), ops::KVView{part}, mla_.scale(),
                                     {.softcap = 0, .sinks = {}, .q_tail = tokens_of(step.rope, at, all)}));
    }
    for (int begin = all; begin < seen.tokens; begin += kQueries) {
      const int n = std::min(kQueries, seen.tokens - begin);
      const ops::Span span{seen.span.start + begin + n, seen.span.start + begin, 0};
      const auto scores = index_scores(tokens_of(queries, at + begin, n), tokens_of(weights, at + begin, n),
                                       indexed[i].keys.data, span);
      parts.push_back(sparse(step, seen, latent, scores, at + begin));
    }
    at += seen.tokens;
  }
  return mla_.finish(parts.size() == 1 ? parts[0] : mx::concatenate(std::move(parts), 1));
}

mx::array SparseMLA::sparse(const MLA::Step& step, const ops::KVSegment& seen, const mx::array& latent_queries,
                            const mx::array& scores, int begin) const {
  const int n = scores.shape(1);
  const auto places = mx::astype(ops::top_k(scores, c_.topk).second, mx::int32);  // (B, n, topk)
  const auto attend = [&](int first, const ops::KVView& chosen) {
    const int count = int(chosen.size());
    return ops::attention(tokens_of(latent_queries, first, count), chosen, mla_.scale(),
                          {.softcap = 0, .sinks = {}, .q_tail = tokens_of(step.rope, first, count)});
  };
  ops::KVView chosen;
  std::vector<mx::array> parts;
  for (int i = 0; i < n; ++i) {
    const auto own = mx::squeeze(tokens_of(places, i, 1), 1);
    chosen.push_back({rows_at(seen.keys.data, own), rows_at(seen.values.data, own), 1, {c_.topk, c_.topk - 1, 0}});
    // Queries that see rows of their own are those of several texts, which a step has in its only row.
    if (scores.shape(0) > 1) parts.push_back(attend(begin + i, {chosen.back()}));
  }
  return parts.empty() ? attend(begin, chosen) : mx::concatenate(std::move(parts), 1);
}

}  // namespace mlx_lm::nn
