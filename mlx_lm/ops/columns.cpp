#include "mlx_lm/ops/columns.h"

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

// Input: x. The columns hold no array here, for it would keep itself alive.
struct TakeColumns {
  static constexpr const char* kName = "TakeColumns";
  kernels::Columns columns;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    auto from = columns;
    from.data = inputs[0].data<float>();
    return [from, rows = inputs[0].size() / columns.stride, out = outputs[0].data<float>()] {
      kernels::take_columns(from, rows, out);
    };
  }
};

// Inputs: x, gate.
struct SigmoidGate {
  static constexpr const char* kName = "SigmoidGate";
  kernels::Columns gate;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    auto from = gate;
    from.data = inputs[1].data<float>();
    return [from, rows = inputs[1].size() / gate.stride, x = inputs[0].data<float>(), out = outputs[0].data<float>()] {
      kernels::sigmoid_gate(x, from, rows, out);
    };
  }
};

mx::Shape with_last(const mx::array& x, int last) {
  auto shape = x.shape();
  shape.back() = last;
  return shape;
}

}  // namespace

mx::array take_columns(const Columns& c) {
  if (c.count == c.x.shape(-1)) return c.x;
  if (backend() == Backend::kernels) {
    return cpu_step(with_last(c.x, c.count), {as_float32(unshaped(c.x))}, TakeColumns{c.over(nullptr)});
  }
  mx::Shape start(c.x.ndim(), 0), stop = c.x.shape();
  if (c.piece >= c.count) {
    start.back() = c.begin, stop.back() = c.begin + c.count;
    return mx::slice(c.x, start, stop);
  }
  auto pieces = c.x.shape();
  pieces.back() = c.x.shape(-1) / c.apart;
  pieces.push_back(c.apart);
  stop = pieces;
  start.push_back(c.begin), stop.back() = c.begin + c.piece;
  return mx::reshape(mx::slice(mx::reshape(c.x, pieces), start, stop), with_last(c.x, c.count));
}

mx::array sigmoid_gate(const mx::array& x, const Columns& gate) {
  if (backend() == Backend::mlx) return x * mx::sigmoid(take_columns(gate));
  return cpu_step(x.shape(), {as_float32(unshaped(x)), as_float32(unshaped(gate.x))}, SigmoidGate{gate.over(nullptr)});
}

}  // namespace mlx_lm::ops
