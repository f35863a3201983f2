#include "mlx_lm/ops/cpu_step.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <mlx/backend/cpu/encoder.h>

namespace mlx_lm::ops {
namespace {

struct StridedCopy {
  const char* from;
  char* to;
  mx::Shape shape;
  mx::Strides strides;  // in elements
  size_t item;

  void operator()() const {
    char* out = to;
    copy(0, from, out);
  }

  void copy(size_t axis, const char* in, char*& out) const {
    if (axis == shape.size()) {
      std::memcpy(out, in, item);
      out += item;
    } else if (axis + 1 == shape.size() && strides[axis] == 1) {
      std::memcpy(out, in, shape[axis] * item);
      out += shape[axis] * item;
    } else {
      for (int i = 0; i < shape[axis]; ++i) copy(axis + 1, in + i * strides[axis] * int64_t(item), out);
    }
  }
};

// The array laid out row by row without gaps: itself, or a copy that is made on the stream before what comes next.
mx::array row_contiguous(const mx::array& x, mx::cpu::CommandEncoder& encoder) {
  if (x.flags().row_contiguous) return x;
  mx::array plain(x.shape(), x.dtype(), nullptr, {});
  allocate(plain);
  encoder.dispatch(StridedCopy{x.data<char>(), plain.data<char>(), x.shape(), x.strides(), x.itemsize()});
  encoder.add_temporary(plain);
  return plain;
}

}  // namespace

void CpuStep::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  auto& encoder = mx::cpu::get_command_encoder(stream());
  const auto plain = [](const mx::array& x) { return x.flags().row_contiguous; };
  if (std::all_of(inputs.begin(), inputs.end(), plain)) return encoder.dispatch(work_->prepare(inputs, outputs));
  std::vector<mx::array> copies;
  copies.reserve(inputs.size());
  for (const auto& input : inputs) copies.push_back(row_contiguous(input, encoder));
  encoder.dispatch(work_->prepare(copies, outputs));
}

void CpuStep::eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::logic_error("a CPU step on a GPU stream");
}

std::vector<mx::array> cpu_step(std::vector<mx::Shape> shapes, const std::vector<mx::Dtype>& dtypes,
                                std::vector<mx::array> inputs, std::shared_ptr<const CpuWork> work) {
  auto step = std::make_shared<CpuStep>(mx::default_stream(mx::Device::cpu), std::move(work));
  return mx::array::make_arrays(std::move(shapes), dtypes, std::move(step), inputs);
}

}  // namespace mlx_lm::ops
