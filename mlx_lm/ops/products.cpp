#include "mlx_lm/ops/products.h"

#include <utility>

#include "mlx_lm/kernels/elementwise.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/elementwise.h"
#include "mlx_lm/ops/low_rank.h"
#include "mlx_lm/ops/matrix_form.h"
#include "mlx_lm/ops/mixture.h"

namespace mlx_lm::ops {
namespace {

// Inputs: x, weight.
struct RMSNorm {
  static constexpr const char* kName = "RMSNorm";
  float eps;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = inputs[1].size();
    return [eps = eps, size, n = int(inputs[0].size() / size), x = inputs[0].data<float>(), w = inputs[1].data<float>(),
            out = outputs[0].data<float>()] { kernels::rms_norm(x, w, n, size, eps, out); };
  }
};

// Inputs: x, weight, what the norm is added to.
struct AddRMSNorm {
  static constexpr const char* kName = "AddRMSNorm";
  float eps;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    const int size = inputs[1].size();
    return [eps = eps, size, n = int(inputs[0].size() / size), x = inputs[0].data<float>(), w = inputs[1].data<float>(),
            a = inputs[2].data<float>(),
            out = outputs[0].data<float>()] { kernels::add_rms_norm(a, x, w, n, size, eps, out); };
  }
};

// Inputs: x; the norm's weight, if there is a norm; the biases that there are; the residual, if there is one.
// Outputs: one for each matrix, or one for both with swiglu.
struct Products {
  static constexpr const char* kName = "Products";
  struct Weight {
    std::shared_ptr<const Matrix::Form> matrix;
    bool bias = false;
  };
  std::vector<Weight> weights;
  std::optional<float> norm_eps;
  bool residual = false;
  bool swiglu = false;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    for (auto& out : outputs) allocate(out);
    auto next = inputs.begin();
    const auto take = [&next] { return (next++)->data<float>(); };
    const int cols = weights[0].matrix->cols;
    kernels::ProductInput x{.n = int(next->size() / size_t(cols)), .cols = cols};
    x.x = take();
    if (norm_eps) {
      x.norm_weight = take();
      x.eps = *norm_eps;
    }
    std::vector<kernels::Product> products(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto& matrix = *weights[i].matrix;
      products[i].packed = matrix.packed.get();
      if (!matrix.packed) products[i].dense = matrix.dense();
      if (weights[i].bias) products[i].bias = take();
      products[i].y = outputs[swiglu ? 0 : i].data<float>();
    }
    if (residual) products[0].residual = take();
    return [x, products = std::move(products), kept = weights, swiglu = swiglu] {
      swiglu ? kernels::multiply_swiglu(x, products[0], products[1]) : kernels::multiply(x, products);
    };
  }
};

// The product that x alone waits for, unless it is one of several or has been added to already.
const Products* pending_product(const mx::array& x) {
  const auto* product = pending<Products>(x);
  return product && product->weights.size() == 1 && !product->residual ? product : nullptr;
}

mx::Shape with_last(const mx::array& x, int last) {
  auto shape = x.shape();
  shape.back() = last;
  return shape;
}

}  // namespace

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  if (backend() == Backend::mlx) return mx::fast::rms_norm(x, weight, eps);
  return cpu_step(x.shape(), {as_float32(unshaped(x)), as_float32(weight)}, RMSNorm{eps});
}

std::vector<mx::array> matmul(const mx::array& x, const std::vector<Projection>& projections) {
  std::vector<mx::array> out;
  if (backend() == Backend::mlx) {
    for (const auto& p : projections) {
      const auto& form = p.weight.form();
      const auto& q = form.quantization;
      out.push_back(form.scales ? mx::quantized_matmul(x, *form.weight, *form.scales, form.biases, true, q.group_size,
                                                       q.bits, q.mode)
                                : mx::matmul(x, mx::transpose(*form.weight)));
      if (p.bias) out.back() = mx::add(out.back(), *p.bias);
    }
    return out;
  }
  Products step;
  const auto& from = unshaped(x);
  const auto* norm = pending<RMSNorm>(from);
  // The norm's rows must be the product's.
  if (norm && int(from.inputs()[1].size()) != x.shape().back()) norm = nullptr;
  std::vector<mx::array> inputs;
  if (norm) {
    step.norm_eps = norm->eps;
    inputs = from.inputs();
  } else {
    inputs = {as_float32(from)};
  }
  std::vector<mx::Shape> shapes;
  for (const auto& p : projections) {
    step.weights.push_back({p.weight.shared(), p.bias.has_value()});
    if (p.bias) inputs.push_back(as_float32(*p.bias));
    shapes.push_back(with_last(x, p.weight.rows()));
  }
  if (shapes.size() == 1) return {cpu_step(std::move(shapes[0]), std::move(inputs), std::move(step))};
  const std::vector<mx::Dtype> dtypes(shapes.size(), mx::float32);
  return cpu_step(std::move(shapes), dtypes, std::move(inputs), std::move(step));
}

mx::array matmul(const mx::array& x, const Matrix& w, const std::optional<mx::array>& bias) {
  return matmul(x, {{w, bias}})[0];
}

mx::array residual_add(const mx::array& a, const mx::array& b) {
  if (backend() == Backend::mlx) return mx::add(a, b);
  const auto* product = pending_product(b);
  if (!product || a.shape() != b.shape()) {
    if (const auto* norm = pending<RMSNorm>(b); norm && a.shape() == b.shape()) {
      return cpu_step(b.shape(), {b.inputs()[0], b.inputs()[1], as_float32(unshaped(a))}, AddRMSNorm{norm->eps});
    }
    auto sum = add_to_low_rank(a, b);
    if (!sum) sum = add_to_mixture(a, b);
    return sum ? *sum : a.shape() == b.shape() ? ops::add(a, b) : mx::add(a, b);
  }
  auto step = *product;
  step.residual = true;
  auto inputs = b.inputs();
  inputs.push_back(as_float32(unshaped(a)));
  return cpu_step(b.shape(), std::move(inputs), std::move(step));
}

namespace {

// Inputs: gate, up.
struct SwiGLU {
  static constexpr const char* kName = "SwiGLU";

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [n = inputs[0].size(), gate = inputs[0].data<float>(), up = inputs[1].data<float>(),
            out = outputs[0].data<float>()] { kernels::swiglu(gate, up, n, out); };
  }
};

// Whether two products read the same activations.
bool same_input(const mx::array& a, const Products& to_a, const mx::array& b, const Products& to_b) {
  return a.inputs()[0].id() == b.inputs()[0].id() && to_a.norm_eps == to_b.norm_eps &&
         (!to_a.norm_eps || a.inputs()[1].id() == b.inputs()[1].id());
}

}  // namespace

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  if (backend() == Backend::mlx) return gate * mx::sigmoid(gate) * up;
  const auto *to_gate = pending_product(gate), *to_up = pending_product(up);
  if (!to_gate || !to_up || gate.shape() != up.shape() || !same_input(gate, *to_gate, up, *to_up)) {
    return cpu_step(gate.shape(), {as_float32(unshaped(gate)), as_float32(unshaped(up))}, SwiGLU{});
  }
  auto step = *to_gate;
  step.weights.push_back(to_up->weights[0]);
  step.swiglu = true;
  auto inputs = gate.inputs();
  if (to_up->weights[0].bias) inputs.push_back(up.inputs().back());
  return cpu_step(gate.shape(), std::move(inputs), std::move(step));
}

}  // namespace mlx_lm::ops
