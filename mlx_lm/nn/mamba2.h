// Mamba-2's mixer, which pure and hybrid models share.
#pragma once

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/nn/layers.h"
#include "mlx_lm/nn/short_convolution.h"

namespace mlx_lm::nn {

// Source: arXiv:2405.21060, and mlx-lm's mamba2.py. Takes in_proj, conv1d, dt_bias, A_log, D, norm, out_proj.
class Mamba2Mixer {
 public:
  struct Options {
    int hidden_size = 0, heads = 0, head_dim = 0;
    int state_size = 0, groups = 0;  // numbers of a key; heads that share one are a group
    int taps = 0;                    // of the convolution
    bool conv_bias = false, proj_bias = false;
    float time_step_low = 0.f, time_step_high = std::numeric_limits<float>::infinity();
    float eps = 0.f;
    int norm_groups = 1;  // each of which has a norm of its own

    // Reads time_step_limit, if it is there. Errors: ConfigError for another list than two numbers.
    void read_time_step_limit(const ConfigReader& c);
    // Errors: ConfigError for sizes that do not fit each other.
    void check(const ConfigReader& c) const;
    int inner() const { return heads * head_dim; }
    int channels() const { return inner() + 2 * groups * state_size; }
  };
  Mamba2Mixer(const Weights& w, const Options& options);

  // (B, L, E) -> (B, L, E). States: (B, taps - 1, channels), (B, heads, head_dim, state_size).
  mx::array operator()(const mx::array& x, cache::StateCache& cache) const;

 private:
  Options o_;
  Linear in_proj_;
  ShortConvolution conv1d_;
  ops::Decay decay_;
  ops::LinearAttention attention_;
  mx::array norm_;
  Linear out_proj_;
};

}  // namespace mlx_lm::nn
