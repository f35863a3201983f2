#include "mlx_lm/ops/low_rank.h"

#include <utility>
#include <vector>

#include "mlx_lm/kernels/low_rank.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

// Inputs: y, low, up; stretch, bias and the residual, if there are any.
struct LowRank {
  static constexpr const char* kName = "LowRank";
  bool stretch = false, bias = false, residual = false;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int rank = inputs[2].shape(0), size = inputs[2].shape(1);
    auto next = inputs.begin();
    const auto take = [&next](bool there = true) { return there ? (next++)->data<float>() : nullptr; };
    kernels::LowRankArgs args{.n = int(inputs[0].size() / size_t(size)), .rank = rank, .size = size};
    args.y = take();
    args.low = take();
    args.up = take();
    args.stretch = take(stretch);
    args.bias = take(bias);
    args.residual = take(residual);
    return [args, out = outputs[0].data<float>()] { kernels::add_low_rank(args, out); };
  }
};

}  // namespace

mx::array add_low_rank(const mx::array& y, const mx::array& low, const mx::array& up,
                       const std::optional<mx::array>& stretch, const std::optional<mx::array>& bias) {
  if (backend() == Backend::mlx) {
    auto sum = y + mx::astype(mx::matmul(low, up), y.dtype());
    if (stretch) sum = sum * mx::astype(*stretch, y.dtype());
    return bias ? sum + *bias : sum;
  }
  std::vector<mx::array> inputs{as_float32(unshaped(y)), as_float32(unshaped(low)), up};
  if (stretch) inputs.push_back(as_float32(*stretch));
  if (bias) inputs.push_back(as_float32(*bias));
  return cpu_step(y.shape(), std::move(inputs), LowRank{stretch.has_value(), bias.has_value()});
}

std::optional<mx::array> add_to_low_rank(const mx::array& a, const mx::array& b) {
  const auto* pending_sum = pending<LowRank>(b);
  if (!pending_sum || pending_sum->residual || a.shape() != b.shape()) return std::nullopt;
  auto step = *pending_sum;
  step.residual = true;
  auto inputs = b.inputs();
  inputs.push_back(as_float32(unshaped(a)));
  return cpu_step(b.shape(), std::move(inputs), std::move(step));
}

}  // namespace mlx_lm::ops
