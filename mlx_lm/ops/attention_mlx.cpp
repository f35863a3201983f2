#include "mlx_lm/ops/attention_mlx.h"

#include <cmath>

namespace mlx_lm::ops {
namespace {

// true where query l may see row j. Shapes: (L, length).
mx::array visible(int queries, const Span& span) {
  auto rows = mx::arange(span.length);
  auto positions = mx::expand_dims(mx::arange(span.start, span.start + queries), 1);
  auto mask = mx::less_equal(rows, positions);
  return span.window > 0 ? mx::logical_and(mask, mx::greater(rows, positions - span.window)) : mask;
}

// x times the rows of a buffer (turned: their transpose). Shapes: x (B, K, H / K, L, ...).
mx::array times(const mx::array& x, const KVBuffer& rows, bool turned) {
  const auto grouped = rows.with([](const mx::array& array) { return mx::expand_dims(array, 2); });
  if (rows.format.quantized()) {
    return mx::quantized_matmul(x, grouped.data, *grouped.scales, *grouped.biases, turned, rows.format.group_size,
                                rows.format.bits);
  }
  return mx::matmul(x, turned ? mx::swapaxes(grouped.data, -1, -2) : grouped.data);
}

// Step by step: for soft-capped scores and quantized rows, which MLX's own attention does not know.
mx::array plain_attention(const mx::array& q, const KVBuffer& keys, const KVBuffer& values, const mx::array& mask,
                          float scale, const AttentionOptions& o) {
  const int batch = q.shape(0), heads = q.shape(1), queries = q.shape(2), kv_heads = keys.data.shape(1);
  auto grouped = mx::reshape(q * mx::array(scale, q.dtype()), {batch, kv_heads, heads / kv_heads, queries, -1});
  auto scores = times(grouped, keys, /* turned */ true);
  if (o.softcap != 0) {
    const mx::array cap(o.softcap, q.dtype());
    scores = mx::tanh(scores / cap) * cap;
  }
  scores = mx::where(mask, scores, mx::array(-INFINITY, q.dtype()));
  if (o.sinks) {
    auto sinks = mx::reshape(mx::astype(*o.sinks, q.dtype()), {1, kv_heads, heads / kv_heads, 1, 1});
    scores = mx::concatenate({mx::broadcast_to(sinks, {batch, kv_heads, heads / kv_heads, queries, 1}), scores}, -1);
  }
  auto weights = mx::softmax(scores, -1, /* precise */ true);
  if (o.sinks) {
    weights = mx::slice(weights, {0, 0, 0, 0, 1}, {batch, kv_heads, heads / kv_heads, queries, weights.shape(-1)});
  }
  return mx::reshape(times(weights, values, /* turned */ false), {batch, heads, queries, values.dim()});
}

// The rows of a buffer.
mx::array numbers(const KVBuffer& rows, mx::Dtype dtype) {
  if (!rows.format.quantized()) return mx::astype(rows.data, dtype);
  const auto& f = rows.format;
  return mx::astype(mx::dequantize(rows.data, *rows.scales, rows.biases, f.group_size, f.bits), dtype);
}

}  // namespace

mx::array mlx_attention(const mx::array& q, const KVSegment& seen, float scale, const AttentionOptions& o) {
  if (o.q_tail) {
    const auto latents = numbers(seen.keys, q.dtype()), tails = numbers(seen.values, q.dtype());
    auto plain = o;
    plain.q_tail.reset();
    return mlx_attention(mx::concatenate({q, *o.q_tail}, -1),
                         {mx::concatenate({latents, tails}, -1), latents, seen.tokens, seen.span}, scale, plain);
  }
  const Span& span = seen.span;
  const auto in_use = [&](const KVBuffer& buffer) {
    return buffer.with([&](const mx::array& array) {
      auto stop = array.shape();
      stop[2] = span.length;
      const auto rows = mx::slice(array, {0, 0, 0, 0}, stop);
      return array.dtype() == mx::uint32 ? rows : mx::astype(rows, q.dtype());
    });
  };
  auto heads_first = mx::swapaxes(q, 1, 2);
  const int queries = q.shape(1);
  const auto keys = in_use(seen.keys), values = in_use(seen.values);
  if (o.softcap != 0 || keys.format.quantized()) {
    return mx::swapaxes(plain_attention(heads_first, keys, values, visible(queries, span), scale, o), 1, 2);
  }
  const bool plain = span.window == 0 && span.start + queries == span.length;
  const std::string mode = plain ? (queries > 1 ? "causal" : "") : "array";
  auto mask = plain ? std::nullopt : std::optional(visible(queries, span));
  auto sinks = o.sinks ? std::optional(mx::astype(*o.sinks, q.dtype())) : std::nullopt;
  auto out = mx::fast::scaled_dot_product_attention(heads_first, keys.data, values.data, scale, mode, mask, sinks);
  return mx::swapaxes(out, 1, 2);
}

}  // namespace mlx_lm::ops
