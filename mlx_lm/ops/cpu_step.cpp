#include "mlx_lm/ops/cpu_step.h"

#include <cstring>

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

}  // namespace

mx::array row_contiguous(const mx::array& x, mx::cpu::CommandEncoder& encoder) {
  if (x.flags().row_contiguous) return x;
  mx::array plain(x.shape(), x.dtype(), nullptr, {});
  allocate(plain);
  encoder.dispatch(StridedCopy{x.data<char>(), plain.data<char>(), x.shape(), x.strides(), x.itemsize()});
  encoder.add_temporary(plain);
  return plain;
}

}  // namespace mlx_lm::ops
