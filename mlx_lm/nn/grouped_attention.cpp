#include "mlx_lm/nn/grouped_attention.h"

#include <cmath>

namespace mlx_lm::nn {

HeadNorm::HeadNorm(const Weights& w, Kind kind, int heads, int head_dim, float eps, float offset)
    : kind_(kind), heads_(heads), eps_(eps) {
  if (kind == Kind::head) rms_.emplace(w, head_dim, eps, offset);
  if (kind == Kind::full) rms_.emplace(w, heads * head_dim, eps);
  if (kind == Kind::layer) layer_ = w.take_array("weight", {heads, head_dim});
}

mx::array HeadNorm::operator()(const mx::array& x) const {
  if (kind_ == Kind::full) return split_heads((*rms_)(x), heads_);
  const auto y = split_heads(x, heads_);
  if (kind_ == Kind::head) return (*rms_)(y);
  if (kind_ == Kind::plain) return ops::rms_norm(y, eps_);
  if (kind_ == Kind::layer) return ops::layer_norm(y, std::nullopt, std::nullopt, eps_) * *layer_;
  return y;
}

GroupedAttention::Options::Options(const DecoderConfig& c)
    : hidden_size(c.hidden_size),
      heads(c.num_attention_heads),
      kv_heads(c.num_key_value_heads),
      head_dim(c.head_dim),
      rope(std::in_place, c.rope, c.rope_scaling),
      scale(1.f / std::sqrt(float(c.head_dim))),
      eps(c.rms_norm_eps) {}

GroupedAttention::Options::Options(int hidden_size, int heads, int kv_heads, int head_dim)
    : hidden_size(hidden_size),
      heads(heads),
      kv_heads(kv_heads),
      head_dim(head_dim),
      scale(1.f / std::sqrt(float(head_dim))) {}

// Here, since the projections are taken next.
const Weights& GroupedAttention::split(const Weights& w, const Options& o) {
  const int kv = o.kv_heads * o.head_dim;
  w.split("qkv_proj", {{"q_proj", o.heads * o.head_dim}, {"k_proj", kv}, {"v_proj", kv}});
  return w;
}

GroupedAttention::GroupedAttention(const Weights& w, const Options& o)
    : kv_heads_(o.kv_heads),
      attend_{.scale = o.scale, .window = o.window, .softcap = o.softcap, .sinks = o.sinks},
      query_growth_(o.query_growth),
      q_proj_(split(w, o) / "q_proj", o.hidden_size, o.heads * o.head_dim, o.qkv_bias),
      k_proj_(w / "k_proj", o.hidden_size, o.kv_heads * o.head_dim, o.qkv_bias),
      v_proj_(w / "v_proj", o.hidden_size, o.kv_heads * o.head_dim, o.qkv_bias),
      o_proj_(w / o.out, o.heads * o.head_dim, o.hidden_size, o.out_bias),
      q_norm_(w / "q_norm", o.qk_norm, o.heads, o.head_dim, o.eps, o.norm_offset),
      k_norm_(w / "k_norm", o.qk_norm, o.kv_heads, o.head_dim, o.eps, o.norm_offset),
      rope_(o.rope) {}

mx::array GroupedAttention::operator()(const mx::array& x, cache::KVCache& cache) const {
  auto [q, k, v] = project(x, q_proj_, k_proj_, v_proj_);
  q = q_norm_(q);                 // (B, L, H, D)
  k = k_norm_(k);                 // (B, L, K, D)
  v = split_heads(v, kv_heads_);  // (B, L, K, D)
  if (query_growth_) q = grown(q, cache.runs(x.shape(1)), *query_growth_);
  return o_proj_(merge_heads(attend(q, k, v, rope_ ? &*rope_ : nullptr, cache, attend_)));
}

}  // namespace mlx_lm::nn
