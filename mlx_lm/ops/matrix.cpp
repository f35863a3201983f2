#include "mlx_lm/ops/matrix.h"

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {

// One of three: packed for the kernels, floating-point for the kernels, or MLX's own arrays.
struct Matrix::Form {
  int rows, cols;
  mx::Dtype dtype;
  std::shared_ptr<const kernels::PackedMatrix> packed;
  std::optional<mx::array> weight;  // floating-point, or MLX's packed words
  std::optional<mx::array> scales, biases;
  Quantization quantization;
};

namespace {

kernels::Type kernel_type(mx::Dtype dtype) {
  return dtype == mx::float16 ? kernels::Type::f16 : dtype == mx::bfloat16 ? kernels::Type::bf16 : kernels::Type::f32;
}

mx::array laid_out(mx::array x) {
  x = mx::contiguous(x);
  x.eval();
  return x;
}

template <class... Args>
[[noreturn]] void misshapen(fmt::format_string<Args...> text, Args&&... args) {
  fail<WeightError>("{}", fmt::format(text, std::forward<Args>(args)...));
}

void expect(const mx::array& x, const mx::Shape& shape, std::initializer_list<mx::Dtype> dtypes, const char* name) {
  if (x.shape() != shape) {
    misshapen("{}: expected shape ({}), found ({})", name, fmt::join(shape, ", "), fmt::join(x.shape(), ", "));
  }
  for (auto dtype : dtypes) {
    if (x.dtype() == dtype) return;
  }
  misshapen("{}: its type of number does not fit the quantization", name);
}

// The kinds whose scales are 8-bit floats are computed as bfloat16, which holds each of their values exactly.
mx::array to_bfloat16(const mx::array& weight, const mx::array& scales, const Quantization& q) {
  return mx::dequantize(weight, scales, std::nullopt, q.group_size, q.bits, q.mode, std::nullopt, mx::bfloat16);
}

}  // namespace

Matrix Matrix::dense(mx::array weight) {
  auto form = std::make_shared<Form>(Form{weight.shape(0), weight.shape(1), weight.dtype(), {}, {}, {}, {}, {}});
  form->weight = backend() == Backend::kernels ? laid_out(std::move(weight)) : std::move(weight);
  return Matrix(std::move(form));
}

Matrix Matrix::quantized(mx::array weight, mx::array scales, std::optional<mx::array> biases, Quantization q) {
  const bool affine = q.mode == "affine";
  const bool known = affine ? (q.group_size == 32 || q.group_size == 64 || q.group_size == 128) &&
                                  ((q.bits >= 2 && q.bits <= 6) || q.bits == 8)
                            : (q.mode == "mxfp4" && q.group_size == 32 && q.bits == 4) ||
                                  (q.mode == "mxfp8" && q.group_size == 32 && q.bits == 8) ||
                                  (q.mode == "nvfp4" && q.group_size == 16 && q.bits == 4);
  if (!known) {
    misshapen(
        "expected groups of 32, 64 or 128 and 2, 3, 4, 5, 6 or 8 bits, or mxfp4, mxfp8, nvfp4; found {} bits in groups "
        "of {}, {}",
        q.bits, q.group_size, q.mode);
  }
  const int rows = weight.shape(0), cols = int(int64_t(weight.shape(1)) * 32 / q.bits);
  if (cols % q.group_size != 0) misshapen("expected columns in groups of {}, found {} columns", q.group_size, cols);
  const mx::Shape groups{rows, cols / q.group_size};
  expect(weight, weight.shape(), {mx::uint32}, "weight");
  if (affine) {
    expect(scales, groups, {mx::float16, mx::bfloat16, mx::float32}, "scales");
    if (!biases) misshapen("biases: expected a tensor beside the scales, found nothing");
    expect(*biases, groups, {scales.dtype()}, "biases");
  } else {
    expect(scales, groups, {mx::uint8}, "scales");
    if (biases) misshapen("biases: expected none for {}, found a tensor", q.mode);
  }
  const auto dtype = affine ? scales.dtype() : mx::bfloat16;

  auto form = std::make_shared<Form>(Form{rows, cols, dtype, {}, {}, {}, {}, q});
  if (backend() == Backend::mlx) {
    form->weight = std::move(weight);
    form->scales = std::move(scales);
    form->biases = std::move(biases);
  } else if (affine) {
    weight = laid_out(std::move(weight));
    scales = laid_out(std::move(scales));
    biases = laid_out(std::move(*biases));
    form->packed = kernels::pack({.rows = rows,
                                  .cols = cols,
                                  .bits = q.bits,
                                  .group_size = q.group_size,
                                  .weight = weight.data<uint32_t>(),
                                  .scales = scales.data<void>(),
                                  .biases = biases->data<void>(),
                                  .type = kernel_type(dtype)});
  } else {
    form->weight = laid_out(to_bfloat16(weight, scales, q));
  }
  return Matrix(std::move(form));
}

int Matrix::rows() const { return form_->rows; }
int Matrix::cols() const { return form_->cols; }
mx::Dtype Matrix::dtype() const { return form_->dtype; }
bool Matrix::rounds_activations() const { return form_->packed != nullptr; }

size_t Matrix::nbytes() const {
  if (form_->packed) return form_->packed->nbytes();
  const auto bytes = [](const std::optional<mx::array>& x) { return x ? x->nbytes() : 0; };
  return bytes(form_->weight) + bytes(form_->scales) + bytes(form_->biases);
}

namespace {

kernels::DenseMatrix dense_view(const Matrix::Form& form) {
  return {.rows = form.rows,
          .cols = form.cols,
          .type = kernel_type(form.weight->dtype()),
          .data = form.weight->data<void>()};
}

// The step shared by both uses of a matrix: `work(form, input, n, output)` with n = the rows of the input.
template <class In, class Work>
mx::array step(const char* name, mx::Shape shape, std::shared_ptr<const Matrix::Form> form, const mx::array& in, int n,
               Work work) {
  return cpu_step(name, std::move(shape), mx::float32, {in},
                  [form = std::move(form), n, work](const auto& inputs, auto& outputs) {
                    allocate(outputs[0]);
                    return [form, n, work, in = inputs[0].template data<In>(),
                            out = outputs[0].template data<float>()] { work(*form, in, n, out); };
                  });
}

}  // namespace

mx::array matmul(const mx::array& x, const Matrix& w) {
  const auto& form = w.form();
  if (backend() == Backend::mlx) {
    if (!form.scales) return mx::matmul(x, mx::transpose(*form.weight));
    const auto& q = form.quantization;
    return mx::quantized_matmul(x, *form.weight, *form.scales, form.biases, true, q.group_size, q.bits, q.mode);
  }
  auto shape = x.shape();
  shape.back() = form.rows;
  return step<float>("Matmul", std::move(shape), w.shared(), as_float32(x), int(x.size() / size_t(form.cols)),
                     [](const Matrix::Form& m, const float* in, int n, float* out) {
                       m.packed ? m.packed->matmul(in, n, out) : kernels::matmul(in, n, dense_view(m), out);
                     });
}

mx::array take_rows(const Matrix& w, const mx::array& ids) {
  const auto& form = w.form();
  if (backend() == Backend::mlx) {
    auto rows = mx::take(*form.weight, ids, 0);
    if (!form.scales) return rows;
    const auto& q = form.quantization;
    auto biases = form.biases ? std::optional(mx::take(*form.biases, ids, 0)) : std::nullopt;
    return mx::dequantize(rows, mx::take(*form.scales, ids, 0), biases, q.group_size, q.bits, q.mode);
  }
  auto shape = ids.shape();
  shape.push_back(form.cols);
  return step<int32_t>("TakeRows", std::move(shape), w.shared(), mx::astype(ids, mx::int32), int(ids.size()),
                       [](const Matrix::Form& m, const int32_t* in, int n, float* out) {
                         m.packed ? m.packed->take_rows(in, n, out) : kernels::take_rows(dense_view(m), in, n, out);
                       });
}

}  // namespace mlx_lm::ops
