#include "mlx_lm/ops/experts.h"

#include <stdexcept>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/experts_form.h"

namespace mlx_lm::ops {

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
            x = inputs[0].data<float>(),
            out = outputs[0].data<float>()] { kernels::expert_matmul(w->stack(), x, rows, out); };
  }
};

// It knows no other type on the CPU.
mx::array as_gather_mm_takes_it(mx::array weight) {
  return mx::default_device() == mx::Device::cpu ? mx::astype(weight, mx::float32) : weight;
}

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
  auto form = std::make_shared<Form>(Form{weight.shape(0), weight.shape(1), weight.shape(2), weight.dtype()});
  if (backend() == Backend::mlx) {
    form->weight = as_gather_mm_takes_it(std::move(weight));
    return ExpertMatrices(std::move(form));
  }
  form->owners = {laid_out(std::move(weight))};
  const auto& stack = form->owners[0];
  const auto type = kernel_type(form->dtype);
  const size_t bytes = stack.nbytes() / form->experts;
  for (int e = 0; e < form->experts; ++e) {
    form->dense.push_back({form->rows, form->cols, type, stack.data<char>() + e * bytes});
  }
  return ExpertMatrices(std::move(form));
}

ExpertMatrices ExpertMatrices::quantized(mx::array weight, mx::array scales, std::optional<mx::array> biases,
                                         Quantization q) {
  const int experts = weight.ndim() > 0 ? weight.shape(0) : 0;
  expect_stack(weight, experts, "weight");
  expect_stack(scales, experts, "scales");
  if (biases) expect_stack(*biases, experts, "biases");
  auto form = std::make_shared<Form>(Form{.experts = experts, .quantization = q});
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

ExpertMatrices ExpertMatrices::stacked(const std::vector<Matrix>& matrices) {
  if (matrices.empty()) fail<WeightError>("expected at least one expert, found none");
  const auto& first = matrices[0].form();
  auto form = std::make_shared<Form>(Form{.experts = int(matrices.size()),
                                          .rows = first.rows,
                                          .cols = first.cols,
                                          .dtype = first.dtype,
                                          .quantization = first.quantization});
  std::vector<mx::array> weights, scales, biases;
  for (const auto& matrix : matrices) {
    const auto& one = matrix.form();
    if (one.rows != form->rows || one.cols != form->cols || one.dtype != form->dtype ||
        bool(one.packed) != bool(first.packed) || bool(one.scales) != bool(first.scales) ||
        !(one.quantization == form->quantization)) {
      fail<WeightError>("expected experts of one shape and type, found several");
    }
    if (one.packed) {
      form->packed.push_back(one.packed);
      continue;
    }
    weights.push_back(*one.weight);
    if (one.scales) scales.push_back(*one.scales);
    if (one.biases) biases.push_back(*one.biases);
    if (backend() == Backend::kernels) form->dense.push_back(one.dense());
  }
  if (backend() == Backend::kernels) {
    form->owners = std::move(weights);
    return ExpertMatrices(std::move(form));
  }
  const auto stack = [](const std::vector<mx::array>& arrays) {
    auto stacked = mx::stack(arrays);
    stacked.eval();  // now, so that those of one layer alone are there twice
    return stacked;
  };
  form->weight = scales.empty() ? as_gather_mm_takes_it(stack(weights)) : stack(weights);
  if (!scales.empty()) form->scales = stack(scales);
  if (!biases.empty()) form->biases = stack(biases);
  return ExpertMatrices(std::move(form));
}

size_t ExpertMatrices::nbytes() const {
  size_t bytes = 0;
  for (const auto& matrix : form_->packed) bytes += matrix->nbytes();
  for (const auto& matrix : form_->dense) bytes += size_t(matrix.rows) * matrix.cols * kernels::size_of(matrix.type);
  for (const auto& x : {form_->weight, form_->scales, form_->biases}) bytes += x ? x->nbytes() : 0;
  return bytes;
}

bool ExpertMatrices::rounds_activations() const {
  return !form_->packed.empty() && form_->quantization.mode != "mxfp8";
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

namespace {

// Input: x. per: as in kernels::ExpertRows.
struct HeadMatmul {
  static constexpr const char* kName = "HeadMatmul";
  std::shared_ptr<const ExpertMatrices::Form> matrices;
  int per;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return [w = matrices, per = per, n = int(outputs[0].size() / size_t(matrices->rows)), x = inputs[0].data<float>(),
            out = outputs[0].data<float>()] {
      thread_local std::vector<int32_t> heads;
      for (int i = int(heads.size()); i < n; ++i) heads.push_back(0);
      for (int i = 0; i < n; ++i) heads[i] = i % w->experts;
      kernels::expert_matmul(w->stack(), x, {heads.data(), n, per}, out);
    };
  }
};

}  // namespace

mx::array head_matmul(const mx::array& x, const ExpertMatrices& w) {
  const auto& form = w.form();
  auto shape = x.shape();
  if (x.ndim() != 4 || shape[3] != form.cols || (shape[2] != form.experts && shape[2] != 1)) {
    throw std::invalid_argument("[head_matmul] x: expected a row for each head, or one for all");
  }
  const int per = shape[2] == form.experts ? 1 : form.experts;
  if (backend() == Backend::mlx) {
    const auto heads_first = mx::swapaxes(x, 1, 2);
    if (!form.scales) {
      const auto y = mx::matmul(mx::astype(heads_first, form.weight->dtype()), mx::swapaxes(*form.weight, -1, -2));
      return mx::swapaxes(mx::astype(y, x.dtype()), 1, 2);
    }
    const auto& q = form.quantization;
    return mx::swapaxes(
        mx::quantized_matmul(heads_first, *form.weight, *form.scales, form.biases, true, q.group_size, q.bits, q.mode),
        1, 2);
  }
  shape[2] = form.experts;
  shape[3] = form.rows;
  return cpu_step(std::move(shape), {as_float32(unshaped(x))}, HeadMatmul{w.shared(), per});
}

mx::array dequantized(const ExpertMatrices& w) {
  const auto& form = w.form();
  if (form.weight) {
    const auto& q = form.quantization;
    auto numbers = form.scales ? mx::dequantize(*form.weight, *form.scales, form.biases, q.group_size, q.bits, q.mode)
                               : *form.weight;
    numbers = mx::astype(numbers, mx::float32);
    numbers.eval();
    return numbers;
  }
  mx::array out = mx::zeros({form.experts, form.rows, form.cols}, mx::float32);
  out.eval();
  std::vector<int32_t> rows(form.rows);
  for (int r = 0; r < form.rows; ++r) rows[r] = r;
  const size_t size = size_t(form.rows) * form.cols;
  for (int e = 0; e < form.experts; ++e) {
    float* to = out.data<float>() + e * size;
    if (form.dense.empty())
      form.packed[e]->take_rows(rows.data(), form.rows, to);
    else
      kernels::take_rows(form.dense[e], rows.data(), form.rows, to);
  }
  return out;
}

}  // namespace mlx_lm::ops
