#include "mlx_lm/ops/matrix.h"

#include <cassert>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/kernels/table.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/matrix_form.h"

namespace mlx_lm::ops {

namespace {

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

kernels::Format kernel_format(std::string_view mode) {
  return mode == "mxfp4"   ? kernels::Format::mxfp4
         : mode == "mxfp8" ? kernels::Format::mxfp8
         : mode == "nvfp4" ? kernels::Format::nvfp4
                           : kernels::Format::affine;
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
    // An nvfp4 of an odd number of groups, which MLX cannot dequantize on the CPU either.
    if (cols % 32 != 0) misshapen("expected columns in groups of 32 on the CPU, found {} columns", cols);
    weight = laid_out(std::move(weight));
    scales = laid_out(std::move(scales));
    form->packed = kernels::pack({.format = kernel_format(q.mode),
                                  .rows = rows,
                                  .cols = cols,
                                  .weight = weight.data<uint32_t>(),
                                  .scales = scales.data<uint8_t>()});
  }
  return Matrix(std::move(form));
}

Matrix Matrix::quantized(const kernels::RowSource& source) {
  assert(backend() == Backend::kernels);
  auto packed = kernels::pack(source);
  const auto dtype = packed->view().type == kernels::Type::f16 ? mx::float16 : mx::float32;
  return Matrix(std::make_shared<Form>(
      Form{source.rows, source.cols, dtype, std::move(packed), {}, {}, {}, {.group_size = 32, .bits = source.bits}}));
}

int Matrix::rows() const { return form_->rows; }
int Matrix::cols() const { return form_->cols; }
mx::Dtype Matrix::dtype() const { return form_->dtype; }
bool Matrix::rounds_activations() const { return form_->packed && form_->quantization.mode != "mxfp8"; }

size_t Matrix::nbytes() const {
  if (form_->packed) return form_->packed->nbytes();
  const auto bytes = [](const std::optional<mx::array>& x) { return x ? x->nbytes() : 0; };
  return bytes(form_->weight) + bytes(form_->scales) + bytes(form_->biases);
}

namespace {

// Inputs: ids, int32.
struct TakeRows {
  static constexpr const char* kName = "TakeRows";
  std::shared_ptr<const Matrix::Form> matrix;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    allocate(outputs[0]);
    return
        [matrix = matrix, ids = inputs[0].data<int32_t>(), n = int(inputs[0].size()), out = outputs[0].data<float>()] {
          matrix->packed ? matrix->packed->take_rows(ids, n, out) : kernels::take_rows(matrix->dense(), ids, n, out);
        };
  }
};

}  // namespace

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
  return cpu_step(std::move(shape), {mx::astype(unshaped(ids), mx::int32)}, TakeRows{w.shared()});
}

}  // namespace mlx_lm::ops
