#include "mlx_lm/ops/alternating.h"

#include "mlx_lm/kernels/elementwise.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

// Inputs: the streams, mixing; or the streams, what was computed, correction. Outputs: the streams.
struct AltUp {
  static constexpr const char* kName = "AltUp";
  int active = -1;  // -1: predicts

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    kernels::Streams streams;
    for (size_t i = 0; i < outputs.size(); ++i) {
      allocate(outputs[i]);
      streams.in.push_back(inputs[i].data<float>());
      streams.out.push_back(outputs[i].data<float>());
    }
    streams.size = outputs[0].shape(-1);
    streams.rows = int(outputs[0].size() / size_t(streams.size));
    return [streams = std::move(streams), active = active, factors = inputs.back().data<float>(),
            computed = active < 0 ? nullptr : inputs[outputs.size()].data<float>()] {
      active < 0 ? kernels::predict_streams(streams, factors)
                 : kernels::correct_streams(streams, computed, factors, active);
    };
  }
};

Streams step(const Streams& streams, const mx::array* computed, const mx::array& factors, int active) {
  std::vector<mx::array> inputs;
  for (const auto& stream : streams) inputs.push_back(as_float32(unshaped(stream)));
  if (computed) inputs.push_back(as_float32(unshaped(*computed)));
  inputs.push_back(as_float32(unshaped(factors)));
  const std::vector<mx::Shape> shapes(streams.size(), streams[0].shape());
  return cpu_step(shapes, std::vector<mx::Dtype>(streams.size(), mx::float32), std::move(inputs), AltUp{active});
}

// Column i of x, (B, L, 1).
mx::array column(const mx::array& x, int i) { return mx::slice(x, {0, 0, i}, {x.shape(0), x.shape(1), i + 1}); }

}  // namespace

Streams predict_streams(const Streams& streams, const mx::array& mixing) {
  if (backend() == Backend::kernels) return step(streams, nullptr, mixing, -1);
  const int n = int(streams.size());
  Streams out;
  for (int j = 0; j < n; ++j) {
    auto sum = mx::astype(streams[j], mx::float32);
    for (int i = 0; i < n; ++i) sum = sum + column(mixing, j * n + i) * streams[i];
    out.push_back(mx::astype(sum, streams[j].dtype()));
  }
  return out;
}

Streams correct_streams(const Streams& streams, const mx::array& computed, const mx::array& correction, int active) {
  if (backend() == Backend::kernels) return step(streams, &computed, correction, active);
  const auto innovation = computed - streams[active];
  Streams out;
  for (size_t j = 0; j < streams.size(); ++j) {
    const auto share = (column(correction, int(j)) + mx::array(1.f)) * innovation;
    out.push_back(mx::astype(streams[j] + share, computed.dtype()));
  }
  return out;
}

}  // namespace mlx_lm::ops
