// The gated delta net of Qwen 3 Next and Qwen 3.5.
#pragma once

#include <optional>
#include <vector>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/nn/short_convolution.h"

namespace mlx_lm::nn {

// Linear attention whose states follow the delta rule (arXiv:2412.06464), after a short convolution, with a gated norm
// of each head. Source: mlx-lm's qwen3_next.py and qwen3_5.py. Takes in_proj_*, conv1d, dt_bias, A_log, norm, out_proj.
class GatedDeltaNet {
 public:
  struct Options {
    // Reads linear_*. Errors: ConfigError for sizes that do not fit each other.
    Options(const ConfigReader& c, int hidden_size, float eps, bool grouped);

    int hidden_size;
    float eps;
    bool grouped;  // in_proj_qkvz and in_proj_ba, each in groups by key head; else in_proj_qkv, in_proj_z, _b, _a
    int value_heads, key_heads, key_dim, value_dim, taps;

    int keys() const { return key_heads * key_dim; }
    int values() const { return value_heads * value_dim; }
  };
  GatedDeltaNet(const Weights& w, const Options& options);

  // (B, L, E) -> (B, L, E). States: (B, taps - 1, 2 keys + values), (B, value_heads, value_dim, key_dim).
  mx::array operator()(const mx::array& x, cache::StateCache& cache) const;

 private:
  // Where a product has what.
  struct Projected {
    std::vector<ops::Columns> qkv;
    ops::Columns z, b, a;
  };
  Projected project_all(const mx::array& x) const;

  Options o_;
  std::vector<Linear> in_proj_;
  ShortConvolution conv1d_;
  ops::Decay decay_;
  ops::LinearAttention rule_;
  mx::array norm_;
  Linear out_proj_;
};

}  // namespace mlx_lm::nn
