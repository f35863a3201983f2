// Layers that attend over the keys and values of earlier ones, as the last ones of Gemma 3n and 4 do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/nn/attention.h"
#include "mlx_lm/nn/layers.h"

namespace mlx_lm::nn {

// Which layers slide, and whose keys and values each attends.
class KVSharing {
 public:
  // shared: how many of the last layers have none of their own, and attend those of the last layer of their kind that
  // does. Kinds come from layer_types, or else the last of each `pattern` layers sees all tokens.
  // Errors: ConfigError for kinds that are not known or too few, or a layer with nothing to share.
  KVSharing(const ConfigReader& c, int layers, int shared, int pattern);

  bool slides(int layer) const { return slides_[layer]; }
  bool shares(int layer) const { return layer >= own_; }
  // The layer whose keys and values a layer attends: itself, unless it shares.
  int source(int layer) const { return sources_[layer]; }
  // Layers with keys and values of their own, which come first.
  int own() const { return own_; }
  // How many tokens back each of these sees; 0 for all.
  std::vector<int> windows(int sliding_window) const;

 private:
  std::vector<bool> slides_;
  std::vector<int> sources_;
  int own_;
};

// Attention with norms over each head of the queries, keys and values, whose scores are not scaled. Takes q_proj,
// o_proj, q_norm, and where it does not share: k_proj, v_proj (unless values_are_keys), k_norm.
class SharingAttention {
 public:
  struct Options {
    int hidden_size, heads, kv_heads, head_dim;
    float eps;
    int window = 0;                // as in AttendOptions
    bool values_are_keys = false;  // before their norms
    bool shares = false;           // checkpoints may have keys' and values' weights all the same, which are ignored
  };
  SharingAttention(const Weights& w, const Options& options, Rope rope);

  // (B, L, E) -> (B, L, E). cache: null where it shares. seen: what its own keys and values leave, or what it shares.
  mx::array operator()(const mx::array& x, cache::KVCache* cache, std::optional<Seen>& seen) const;

 private:
  mx::array remember_and_query(const mx::array& x, cache::KVCache& cache, std::optional<Seen>& seen) const;

  Options options_;
  Rope rope_;
  Linear q_proj_, o_proj_;
  RMSNorm q_norm_;
  std::optional<Linear> k_proj_, v_proj_;
  std::optional<RMSNorm> k_norm_;
};

}  // namespace mlx_lm::nn
