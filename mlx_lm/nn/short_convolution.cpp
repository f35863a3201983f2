#include "mlx_lm/nn/short_convolution.h"

namespace mlx_lm::nn {
namespace {

// (taps, channels)
mx::array take_taps(const Weights& w, int channels, int taps) {
  // Both shapes have the same numbers in the same order.
  const bool pytorch = w.shape_of("weight") == mx::Shape{channels, 1, taps};
  const auto weight = w.take_array("weight", pytorch ? mx::Shape{channels, 1, taps} : mx::Shape{channels, taps, 1});
  auto turned = mx::contiguous(mx::transpose(mx::reshape(weight, {channels, taps})));
  turned.eval();
  return turned;
}

}  // namespace

ShortConvolution::ShortConvolution(const Weights& w, int channels, int taps, bool bias, bool silu)
    : convolution_{take_taps(w, channels, taps), std::nullopt, silu} {
  if (bias) convolution_.bias = w.take_vector("bias", channels);
}

mx::array take_decay_rates(const Weights& w, const mx::Shape& shape) {
  auto rates = mx::exp(mx::astype(w.take_array("A_log", shape), mx::float32));
  rates.eval();
  return rates;
}

}  // namespace mlx_lm::nn
