#include "mlx_lm/ops/elementwise.h"

#include "mlx_lm/kernels/elementwise.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/ops.h"

namespace mlx_lm::ops {
namespace {

constexpr char kScale[] = "Scale", kSoftCap[] = "SoftCap";

// Input: x. kernel(x, n, number, out).
template <void (*kernel)(const float*, size_t, float, float*), const char* name>
struct OfOne {
  static constexpr const char* kName = name;
  float number;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [number = number, n = inputs[0].size(), x = inputs[0].data<float>(), out = outputs[0].data<float>()] {
      kernel(x, n, number, out);
    };
  }
};

// Inputs: a, b.
struct Add {
  static constexpr const char* kName = "Add";

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [n = inputs[0].size(), a = inputs[0].data<float>(), b = inputs[1].data<float>(),
            out = outputs[0].data<float>()] { kernels::add(a, b, n, out); };
  }
};

// Inputs: a, b.
struct Multiply {
  static constexpr const char* kName = "Multiply";

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = int(inputs[1].size());
    return [size, n = int(inputs[0].size() / size_t(size)), a = inputs[0].data<float>(), b = inputs[1].data<float>(),
            out = outputs[0].data<float>()] { kernels::multiply(a, b, n, size, out); };
  }
};

// Inputs: gate, up.
struct SparseGeGLU {
  static constexpr const char* kName = "SparseGeGLU";
  float deviations;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = outputs[0].shape(-1);
    return [size, deviations = deviations, n = int(inputs[0].size() / size_t(size)), gate = inputs[0].data<float>(),
            up = inputs[1].data<float>(),
            out = outputs[0].data<float>()] { kernels::sparse_geglu(gate, up, n, size, deviations, out); };
  }
};

mx::array plain(const mx::array& x) { return as_float32(unshaped(x)); }

}  // namespace

mx::array scale(const mx::array& x, float factor) {
  if (backend() == Backend::mlx) return x * mx::array(factor, x.dtype());
  return cpu_step(x.shape(), {plain(x)}, OfOne<kernels::scale, kScale>{factor});
}

mx::array softcap(const mx::array& x, float cap) {
  if (backend() == Backend::mlx) return mx::tanh(x / mx::array(cap, x.dtype())) * mx::array(cap, x.dtype());
  return cpu_step(x.shape(), {plain(x)}, OfOne<kernels::soft_cap, kSoftCap>{cap});
}

mx::array add(const mx::array& a, const mx::array& b) {
  if (backend() == Backend::mlx) return a + b;
  return cpu_step(a.shape(), {plain(a), plain(b)}, Add{});
}

mx::array multiply(const mx::array& a, const mx::array& b) {
  if (backend() == Backend::mlx) return a * b;
  return cpu_step(a.shape(), {plain(a), as_float32(b)}, Multiply{});
}

mx::array sparse_geglu(const mx::array& gate, const mx::array& up, float deviations) {
  if (backend() == Backend::mlx) {
    const auto cutoff = mx::mean(gate, -1, true) + mx::std(gate, -1, true) * mx::array(deviations, gate.dtype());
    return geglu(mx::maximum(gate - cutoff, mx::array(0.f, gate.dtype())), up, Gelu::tanh);
  }
  return cpu_step(gate.shape(), {plain(gate), plain(up)}, SparseGeGLU{deviations});
}

}  // namespace mlx_lm::ops
