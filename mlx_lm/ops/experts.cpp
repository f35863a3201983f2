#include "mlx_lm/ops/experts.h"

#include <stdexcept>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/experts.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/matrix_form.h"

namespace mlx_lm::ops {

// One of three, as in Matrix::Form.
struct ExpertMatrices::Form {
  int experts, rows, cols;
  mx::Dtype dtype;
  std::vector<std::shared_ptr<const kernels::PackedMatrix>> packed;
  std::optional<mx::array> weight, scales, biases;
  Quantization quantization;
};

namespace {

void expect_stack(const mx::array& x, int experts, const char* name) {
  if (x.ndim() != 3 || x.shape(0) != experts || experts < 1) {
    fail<WeightError>("{}: expected shape ({}, ., .), found {} dimensions", name, experts, x.ndim());
  }
}

mx::array expert(const mx::array& stack, int e) {
  return mx::squeeze(mx::slice(stack, {e, 0, 0}, {e + 1, stack.shape(1), stack.shape(2)}), 0);
}

// Inputs: x, indices.
struct GatherMatmul {
  static constexpr const char* kName = "GatherMatmul";
  std::shared_ptr<const ExpertMatrices::Form> matrices;
  int per;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [w = matrices, rows = kernels::ExpertRows{inputs[1].data<int32_t>(), int(inputs[1].size()), per},
            x = inputs[0].data<float>(), out = outputs[0].data<float>()] {
      if (!w->packed.empty()) return kernels::expert_matmul(w->packed, x, rows, out);
      const kernels::DenseMatrix stack{.rows = w->experts * w->rows,
                                       .cols = w->cols,
                                       .type = kernel_type(w->weight->dtype()),
                                       .data = w->weight->data<void>()};
      kernels::expert_matmul(stack, w->experts, x, rows, out);
    };
  }
};

// By MLX. x: a row for each of the indices, or one for `per` of them.
mx::array gather_by_mlx(const mx::array& x, const ExpertMatrices::Form& w, const mx::array& indices, int per) {
  constexpr size_t kWorthSorting = 64;  // as in mlx-lm
  const auto product = [&](const mx::array& rows, const mx::array& ids, bool sorted) {
    if (!w.scales) {
      const auto y = mx::gather_mm(mx::astype(rows, w.weight->dtype()), mx::swapaxes(*w.weight, -1, -2), std::nullopt,
                                   ids, sorted);
      return mx::astype(y, x.dtype());
    }
    const auto& q = w.quantization;
    return mx::gather_qmm(rows, *w.weight, *w.scales, w.biases, std::nullopt, ids, true, q.group_size, q.bits, q.mode,
                          std::nullopt, sorted);
  };
  auto shape = indices.shape();
  shape.push_back(w.rows);
  if (indices.size() < kWorthSorting) {
    const auto rows =
        per == 1 && x.ndim() == indices.ndim() + 1 ? mx::expand_dims(x, -2) : mx::expand_dims(x, {-2, -3});
    return mx::reshape(product(rows, indices, false), shape);
  }
  const auto ids = mx::flatten(indices), order = mx::argsort(ids);
  const auto rows = mx::reshape(x, {-1, 1, w.cols});
  const auto inputs = per == 1 ? order : mx::floor_divide(order, mx::array(per, order.dtype()));
  const auto sorted = product(mx::take(rows, inputs, 0), mx::take(ids, order), true);
  return mx::reshape(mx::take(sorted, mx::argsort(order), 0), shape);
}

}  // namespace

ExpertMatrices ExpertMatrices::dense(mx::array weight) {
  if (weight.ndim() != 3 || weight.size() == 0) {
    fail<WeightError>("weight: expected shape (experts, rows, columns), found {} dimensions", weight.ndim());
  }
  auto form = std::make_shared<Form>(
      Form{weight.shape(0), weight.shape(1), weight.shape(2), weight.dtype(), {}, {}, {}, {}, {}});
  if (backend() == Backend::kernels) {
    form->weight = laid_out(std::move(weight));
  } else {
    // MLX's gather_mm knows no other type on the CPU.
    const bool widen = mx::default_device() == mx::Device::cpu;
    form->weight = widen ? mx::astype(weight, mx::float32) : std::move(weight);
  }
  return ExpertMatrices(std::move(form));
}

ExpertMatrices ExpertMatrices::quantized(mx::array weight, mx::array scales, std::optional<mx::array> biases,
                                         Quantization q) {
  const int experts = weight.ndim() > 0 ? weight.shape(0) : 0;
  expect_stack(weight, experts, "weight");
  expect_stack(scales, experts, "scales");
  if (biases) expect_stack(*biases, experts, "biases");
  auto form = std::make_shared<Form>(Form{experts, 0, 0, mx::float32, {}, {}, {}, {}, q});
  for (int e = 0; e < experts; ++e) {
    const auto one = Matrix::quantized(expert(weight, e), expert(scales, e),
                                       biases ? std::optional(expert(*biases, e)) : std::nullopt, q);
    form->rows = one.rows(), form->cols = one.cols(), form->dtype = one.dtype();
    if (backend() == Backend::mlx) break;  // the first has been checked for all
    form->packed.push_back(one.form().packed);
  }
  if (backend() == Backend::mlx) {
    form->weight = std::move(weight);
    form->scales = std::move(scales);
    form->biases = std::move(biases);
  }
  return ExpertMatrices(std::move(form));
}

int ExpertMatrices::experts() const { return form_->experts; }
int ExpertMatrices::rows() const { return form_->rows; }
int ExpertMatrices::cols() const { return form_->cols; }
mx::Dtype ExpertMatrices::dtype() const { return form_->dtype; }

mx::array gather_matmul(const mx::array& x, const ExpertMatrices& w, const mx::array& indices) {
  const auto& form = w.form();
  auto shape = indices.shape();
  const bool shared = x.ndim() == indices.ndim();
  if (!shape.empty() && x.ndim() > 0) {
    auto expected = shape;
    if (shared) expected.pop_back();
    expected.push_back(form.cols);
    if (x.shape() != expected) shape.clear();
  }
  if (shape.empty() || x.ndim() == 0) {
    throw std::invalid_argument("[gather_matmul] x: expected a row for each list of indices, or for each index");
  }
  const int per = shared ? shape.back() : 1;
  if (backend() == Backend::mlx) return gather_by_mlx(x, form, indices, per);
  shape.push_back(form.rows);
  return cpu_step(std::move(shape), {as_float32(unshaped(x)), mx::astype(unshaped(indices), mx::int32)},
                  GatherMatmul{w.shared(), per});
}

}  // namespace mlx_lm::ops
