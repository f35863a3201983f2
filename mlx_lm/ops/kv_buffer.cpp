#include "mlx_lm/ops/kv_buffer.h"

#include <algorithm>
#include <array>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"
#include "mlx_lm/ops/matrix_form.h"

namespace mlx_lm::ops {
namespace {

template <size_t n>
bool is_one_of(int value, const std::array<int, n>& values) {
  return std::ranges::find(values, value) != values.end();
}

struct QuantizeRows {
  static constexpr const char* kName = "QuantizeRows";
  int rows, dim;
  kernels::Type type;
  KVFormat format;

  auto operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    for (auto& out : outputs) allocate(out);
    const kernels::AffineRows to{format.bits,
                                 format.group_size,
                                 type,
                                 outputs[0].data<void>(),
                                 outputs[1].data<void>(),
                                 outputs[2].data<void>()};
    return [w = *this, to, from = inputs[0].data<void>()] {
      kernels::write_rows(from, w.type, 1, w.rows, 1, w.dim, to, w.rows, 0);
    };
  }
};

mx::Shape with_last(mx::Shape shape, int last) {
  shape.back() = last;
  return shape;
}

}  // namespace

void KVFormat::validate() const {
  if (bits != 0 && !is_one_of(bits, std::array{2, 3, 4, 5, 6, 8})) {
    fail<RequestError>("[cache] kv-bits: expected 2, 3, 4, 5, 6 or 8, found {}", bits);
  }
  if (bits != 0 && !is_one_of(group_size, std::array{32, 64, 128})) {
    fail<RequestError>("[cache] kv-group-size: expected 32, 64 or 128, found {}", group_size);
  }
}

void KVFormat::check_head(int dim) const {
  validate();
  if (bits != 0 && dim % group_size != 0) {
    fail<RequestError>("[cache] kv-group-size: expected a divisor of the head size of this model, {}, found {}", dim,
                       group_size);
  }
}

KVBuffer KVBuffer::zeros(int batch, int heads, int rows, int dim, mx::Dtype dtype, const KVFormat& format) {
  format.check_head(dim);
  if (!format.quantized()) return mx::zeros({batch, heads, rows, dim}, dtype);
  const auto factors = mx::zeros({batch, heads, rows, dim / format.group_size}, dtype);
  // Two arrays: rows are written in place.
  return {mx::zeros({batch, heads, rows, dim * format.bits / 32}, mx::uint32), factors,
          mx::zeros(factors.shape(), dtype), format};
}

std::vector<mx::array*> KVBuffer::arrays() {
  if (!format.quantized()) return {&data};
  return {&data, &*scales, &*biases};
}

std::vector<mx::array> KVBuffer::arrays() const {
  if (!format.quantized()) return {data};
  return {data, *scales, *biases};
}

KVBuffer quantized(const KVBuffer& rows, const KVFormat& format) {
  format.check_head(rows.dim());
  if (backend() == Backend::mlx) {
    const auto parts = mx::quantize(rows.data, format.group_size, format.bits);
    return {parts[0], parts[1], parts[2], format};
  }
  const auto& shape = rows.data.shape();
  const auto factors = with_last(shape, rows.dim() / format.group_size);
  const QuantizeRows work{shape[0] * shape[1] * shape[2], rows.dim(), kernel_type(rows.dtype()), format};
  auto parts = cpu_step({with_last(shape, rows.dim() * format.bits / 32), factors, factors},
                        {mx::uint32, rows.dtype(), rows.dtype()}, {rows.data}, work);
  return {parts[0], parts[1], parts[2], format};
}

KVBuffer concatenated(const KVBuffer& a, const KVBuffer& b) {
  const auto join = [](const mx::array& a, const mx::array& b) { return mx::concatenate({a, b}, 2); };
  if (!a.format.quantized()) return join(a.data, b.data);
  return {join(a.data, b.data), join(*a.scales, *b.scales), join(*a.biases, *b.biases), a.format};
}

}  // namespace mlx_lm::ops
