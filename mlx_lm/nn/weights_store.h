// What the scopes of a weight store share; for weights*.cpp only.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mlx_lm/nn/weights.h"

namespace mlx_lm::nn {

struct Weights::Store {
  std::map<std::string, StoredTensor, std::less<>> tensors;  // those not taken yet
  QuantizationConfig quantization;
  std::string where;
  mx::Dtype dtype = mx::float32;
  std::shared_ptr<WeightTotals> totals = std::make_shared<WeightTotals>();
};

}  // namespace mlx_lm::nn
