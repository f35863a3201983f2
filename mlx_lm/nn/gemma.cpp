#include "mlx_lm/nn/gemma.h"

#include <cmath>

namespace mlx_lm::nn {

GemmaConfig::GemmaConfig(const ConfigReader& c, const Defaults& defaults) : DecoderConfig(c, defaults) {
  embedding_multiplier = std::sqrt(float(hidden_size));
  tie_word_embeddings = true;
}

GegluMLP::GegluMLP(const Weights& w, int hidden_size, int intermediate_size, ops::Gelu kind)
    : kind_(kind),
      gate_proj_(w / "gate_proj", hidden_size, intermediate_size),
      up_proj_(w / "up_proj", hidden_size, intermediate_size),
      down_proj_(w / "down_proj", intermediate_size, hidden_size) {}

mx::array GegluMLP::operator()(const mx::array& x) const {
  const auto [gate, up] = project(x, gate_proj_, up_proj_);
  return down_proj_(ops::geglu(gate, up, kind_));
}

mx::array clipped_add(const mx::array& a, const mx::array& b) {
  if (a.dtype() != mx::float16) return ops::residual_add(a, b);
  const mx::array most(65504.f);
  const auto sum = mx::astype(a, mx::float32) + mx::astype(b, mx::float32);
  return mx::astype(mx::clip(sum, mx::negative(most), most), mx::float16);
}

}  // namespace mlx_lm::nn
