#include "mlx_lm/ops/ops.h"

#include <cmath>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

// Input: x.
struct PlainRMSNorm {
  static constexpr const char* kName = "RMSNorm";
  float eps;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = outputs[0].shape(-1);
    return [eps = eps, size, n = int(inputs[0].size() / size), x = inputs[0].data<float>(),
            out = outputs[0].data<float>()] { kernels::rms_norm(x, nullptr, n, size, eps, out); };
  }
};

// Inputs: x; the weight and the bias, if there are any.
struct LayerNorm {
  static constexpr const char* kName = "LayerNorm";
  float eps;
  bool weighted, biased;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = outputs[0].shape(-1);
    return
        [eps = eps, size, n = int(inputs[0].size() / size), x = inputs[0].data<float>(),
         weight = weighted ? inputs[1].data<float>() : nullptr, bias = biased ? inputs.back().data<float>() : nullptr,
         out = outputs[0].data<float>()] { kernels::layer_norm(x, weight, bias, n, size, eps, out); };
  }
};

// Inputs: gate; up, if there is one.
struct GELU {
  static constexpr const char* kName = "GELU";
  kernels::Gelu kind;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [kind = kind, n = inputs[0].size(), gate = inputs[0].data<float>(),
            up = inputs.size() > 1 ? inputs[1].data<float>() : nullptr,
            out = outputs[0].data<float>()] { kernels::geglu(gate, up, n, kind, out); };
  }
};

// Input: x.
struct Argmax {
  static constexpr const char* kName = "Argmax";

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int n = outputs[0].size();
    return [n, size = int(inputs[0].size() / size_t(n)), x = inputs[0].data<float>(),
            out = outputs[0].data<uint32_t>()] { kernels::argmax(x, n, size, out); };
  }
};

// Input: x. Outputs: values, places.
struct TopK {
  static constexpr const char* kName = "TopK";
  int k, size;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    for (auto& output : outputs) allocate(output);
    return [k = k, size = size, n = int(inputs[0].size() / size_t(size)), x = inputs[0].data<float>(),
            values = outputs[0].data<float>(),
            places = outputs[1].data<uint32_t>()] { kernels::top_k(x, n, size, k, values, places); };
  }
};

kernels::Gelu kernel_gelu(Gelu kind) { return kind == Gelu::erf ? kernels::Gelu::erf : kernels::Gelu::tanh; }

mx::array mlx_gelu(const mx::array& x, Gelu kind) {
  const auto number = [&](double value) { return mx::array(float(value), x.dtype()); };
  const auto share = kind == Gelu::erf ? mx::erf(x * number(std::sqrt(0.5)))
                                       : mx::tanh(number(std::sqrt(2 / M_PI)) * (x + number(0.044715) * x * x * x));
  return number(0.5) * x * (number(1) + share);
}

mx::array plain(const mx::array& x) { return as_float32(unshaped(x)); }

}  // namespace

mx::array rms_norm(const mx::array& x, float eps) {
  if (backend() == Backend::mlx) return mx::fast::rms_norm(x, std::nullopt, eps);
  return cpu_step(x.shape(), {plain(x)}, PlainRMSNorm{eps});
}

mx::array layer_norm(const mx::array& x, const std::optional<mx::array>& weight, const std::optional<mx::array>& bias,
                     float eps) {
  if (backend() == Backend::mlx) return mx::fast::layer_norm(x, weight, bias, eps);
  std::vector<mx::array> inputs{plain(x)};
  if (weight) inputs.push_back(as_float32(*weight));
  if (bias) inputs.push_back(as_float32(*bias));
  return cpu_step(x.shape(), std::move(inputs), LayerNorm{eps, weight.has_value(), bias.has_value()});
}

mx::array gelu(const mx::array& x, Gelu kind) {
  if (backend() == Backend::mlx) return mlx_gelu(x, kind);
  return cpu_step(x.shape(), {plain(x)}, GELU{kernel_gelu(kind)});
}

mx::array geglu(const mx::array& gate, const mx::array& up, Gelu kind) {
  if (backend() == Backend::mlx) return mlx_gelu(gate, kind) * up;
  return cpu_step(gate.shape(), {plain(gate), plain(up)}, GELU{kernel_gelu(kind)});
}

mx::array argmax(const mx::array& x) {
  if (backend() == Backend::mlx) return mx::argmax(x, -1);
  auto shape = x.shape();
  shape.pop_back();
  return cpu_step({std::move(shape)}, {mx::uint32}, {plain(x)}, Argmax{})[0];
}

std::pair<mx::array, mx::array> top_k(const mx::array& x, int k) {
  auto shape = x.shape();
  const int size = shape.back();
  shape.back() = k;
  if (backend() == Backend::mlx) {
    auto places = mx::slice(mx::argpartition(mx::negative(x), k - 1, -1), mx::Shape(x.ndim(), 0), shape);
    const auto order = mx::argsort(mx::negative(mx::take_along_axis(x, places, -1)), -1);
    places = mx::take_along_axis(places, order, -1);
    return {mx::take_along_axis(x, places, -1), places};
  }
  const auto found = cpu_step({shape, shape}, {mx::float32, mx::uint32}, {plain(x)}, TopK{k, size});
  return {found[0], found[1]};
}

}  // namespace mlx_lm::ops
