#include "mlx_lm/nn/kv_sharing.h"

#include <utility>

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {

KVSharing::KVSharing(const ConfigReader& c, int layers, int shared, int pattern) : own_(layers - shared) {
  if (own_ < 1) {
    fail<ConfigError>("[config] {}: num_kv_shared_layers: expected less than {} layers, found {}", c.where(), layers,
                      shared);
  }
  std::vector<std::string> types;
  for (int i = 0; i < layers; ++i) types.push_back((i + 1) % pattern == 0 ? "full_attention" : "sliding_attention");
  types = c.get<std::vector<std::string>>("layer_types", std::move(types));
  if (int(types.size()) != layers) {
    fail<ConfigError>("[config] {}: layer_types: expected {} entries, found {}", c.where(), layers, types.size());
  }
  int last[2] = {-1, -1};
  for (int i = 0; i < layers; ++i) {
    const bool slides = types[i] == "sliding_attention";
    if (!slides && types[i] != "full_attention") {
      fail<ConfigError>("[config] {}: layer_types: expected full_attention or sliding_attention, found {}", c.where(),
                        types[i].substr(0, 60));
    }
    if (i < own_) last[slides] = i;
    if (last[slides] < 0) {
      fail<ConfigError>("[config] {}: layer_types: expected a layer whose {} the shared layer {} can use, found none",
                        c.where(), types[i], i);
    }
    slides_.push_back(slides);
    sources_.push_back(i < own_ ? i : last[slides]);
  }
}

std::vector<int> KVSharing::windows(int sliding_window) const {
  std::vector<int> windows(own_, 0);
  for (int i = 0; i < own_; ++i) windows[i] = slides(i) ? sliding_window : 0;
  return windows;
}

SharingAttention::SharingAttention(const Weights& w, const Options& o, Rope rope)
    : options_(o),
      rope_(std::move(rope)),
      q_proj_(w / "q_proj", o.hidden_size, o.heads * o.head_dim),
      o_proj_(w / "o_proj", o.heads * o.head_dim, o.hidden_size),
      q_norm_(w / "q_norm", o.head_dim, o.eps) {
  if (o.shares) {
    for (const char* unused : {"k_proj", "v_proj", "k_norm"}) (w / unused).ignore("");
    return;
  }
  k_proj_.emplace(w / "k_proj", o.hidden_size, o.kv_heads * o.head_dim);
  if (!o.values_are_keys) v_proj_.emplace(w / "v_proj", o.hidden_size, o.kv_heads * o.head_dim);
  k_norm_.emplace(w / "k_norm", o.head_dim, o.eps);
}

mx::array SharingAttention::operator()(const mx::array& x, cache::KVCache* cache, std::optional<Seen>& seen) const {
  auto q = options_.shares ? q_proj_(x) : remember_and_query(x, *cache, seen);
  q = q_norm_(split_heads(q, options_.heads));  // (B, L, H, D)
  return o_proj_(merge_heads(attend(q, &rope_, *seen, {.window = options_.window, .sinks = {}})));
}

mx::array SharingAttention::remember_and_query(const mx::array& x, cache::KVCache& cache,
                                               std::optional<Seen>& seen) const {
  const auto see = [&](const mx::array& keys, const mx::array& values) {
    const auto k = (*k_norm_)(split_heads(keys, options_.kv_heads));                     // (B, L, K, D)
    const auto v = ops::rms_norm(split_heads(values, options_.kv_heads), options_.eps);  // (B, L, K, D)
    seen = remember(k, v, &rope_, cache, options_.window);
  };
  if (v_proj_) {
    const auto [q, k, v] = project(x, q_proj_, *k_proj_, *v_proj_);
    see(k, v);
    return q;
  }
  const auto [q, k] = project(x, q_proj_, *k_proj_);
  see(k, k);
  return q;
}

}  // namespace mlx_lm::nn
