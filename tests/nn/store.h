// A weight store filled by hand.
#pragma once

#include <map>
#include <string>

#include "mlx_lm/nn/weights.h"

namespace mlx_lm::nn {

using Arrays = std::map<std::string, mx::array>;

inline std::map<std::string, StoredTensor> stored(const Arrays& arrays) {
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [name, x] : arrays) {
    tensors.emplace(name, StoredTensor{x.shape(), x.dtype(), [x = x] { return x; }});
  }
  return tensors;
}

inline Weights store(const Arrays& arrays, QuantizationConfig quantization = {},
                     std::optional<mx::Dtype> dtype = std::nullopt) {
  return Weights(stored(arrays), std::move(quantization), "folder", dtype);
}

inline mx::array random(const mx::Shape& shape, mx::Dtype dtype = mx::float32, int seed = 0) {
  return mx::astype(mx::random::normal(shape, mx::float32, mx::random::key(seed)), dtype);
}

// name.weight, name.scales and, for affine, name.biases.
inline void add_quantized(Arrays& arrays, const std::string& name, const mx::array& w, const ops::Quantization& q) {
  auto parts = mx::quantize(w, q.group_size, q.bits, q.mode);
  arrays.insert_or_assign(name + ".weight", parts[0]);
  arrays.insert_or_assign(name + ".scales", parts[1]);
  if (parts.size() > 2) arrays.insert_or_assign(name + ".biases", parts[2]);
}

// The largest difference of two arrays.
inline float difference(const mx::array& a, const mx::array& b) {
  auto most = mx::max(mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32)));
  return most.item<float>();
}

}  // namespace mlx_lm::nn
