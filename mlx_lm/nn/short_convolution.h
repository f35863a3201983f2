// A convolution over the last few tokens, each channel by itself.
#pragma once

#include <optional>
#include <vector>

#include "mlx_lm/cache/state.h"
#include "mlx_lm/nn/weights.h"
#include "mlx_lm/ops/recurrent.h"

namespace mlx_lm::nn {

// Takes `weight`, as MLX shapes it (channels, taps, 1) or as PyTorch does (channels, 1, taps), and, if asked, `bias`.
class ShortConvolution {
 public:
  // silu: applied to the result.
  ShortConvolution(const Weights& w, int channels, int taps, bool bias, bool silu);

  // Channels of (B, L, ...) -> (B, L, channels). Array 0 of the cache is (B, taps - 1, channels).
  mx::array operator()(const std::vector<ops::Columns>& x, cache::StateCache& cache,
                       const std::optional<ops::ConvolutionGates>& gates = std::nullopt) const {
    return ops::convolution(x, convolution_, cache.runs(0, x[0].x.shape(1)), gates);
  }

 private:
  ops::Convolution convolution_;
};

// exp(A_log): how fast states decay. Takes `A_log` of the given shape.
mx::array take_decay_rates(const Weights& w, const mx::Shape& shape);

}  // namespace mlx_lm::nn
