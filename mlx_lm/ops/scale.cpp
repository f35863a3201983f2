#include "mlx_lm/ops/scale.h"

#include <utility>
#include <vector>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

// Inputs: x, the factors; the bias, if there is one.
struct Scale {
  static constexpr const char* kName = "Scale";

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const size_t size = inputs[1].size();
    return [size, n = int(inputs[0].size() / size), x = inputs[0].data<float>(), factors = inputs[1].data<float>(),
            bias = inputs.size() > 2 ? inputs[2].data<float>() : nullptr, out = outputs[0].data<float>()] {
      kernels::parallel_pieces(n, 8, double(n) * double(size), [&](int first, int last) {
        for (size_t at = size_t(first) * size; at < size_t(last) * size; at += size) {
          for (size_t i = 0; i < size; ++i) out[at + i] = x[at + i] * factors[i];
          for (size_t i = 0; bias && i < size; ++i) out[at + i] += bias[i];
        }
      });
    };
  }
};

}  // namespace

mx::array scale(const mx::array& x, const mx::array& factors, const std::optional<mx::array>& bias) {
  if (backend() == Backend::mlx) {
    const auto scaled = x * mx::astype(factors, x.dtype());
    return bias ? scaled + *bias : scaled;
  }
  std::vector<mx::array> inputs{as_float32(unshaped(x)), as_float32(factors)};
  if (bias) inputs.push_back(as_float32(*bias));
  return cpu_step(x.shape(), std::move(inputs), Scale{});
}

}  // namespace mlx_lm::ops
