#include "mlx_lm/load/mapped_array.h"

#include <cassert>
#include <cstring>

namespace mlx_lm {
namespace {

size_t byte_size(const mx::Shape& shape, mx::Dtype dtype) {
  size_t size = dtype.size();
  for (int n : shape) size *= size_t(n);
  return size;
}

}  // namespace

NewArray new_array(mx::Shape shape, mx::Dtype dtype) {
  size_t size = byte_size(shape, dtype);
  mx::array array(mx::allocator::malloc(size), std::move(shape), dtype);
  void* data = array.buffer().raw_ptr();
  return {std::move(array), data};
}

mx::array mapped_array(std::shared_ptr<const MappedFile> file, size_t offset, mx::Shape shape, mx::Dtype dtype) {
  size_t size = byte_size(shape, dtype);
  assert(offset <= file->bytes().size() && size <= file->bytes().size() - offset);
  const std::byte* data = file->bytes().data() + offset;

  // MLX's CPU buffers start with their size in a size_t, and raw_ptr() is what follows. buffer_size() may look at the
  // 8 bytes before the data (here: other bytes of the file, which it only compares), so those must be mapped too.
  bool mappable = size > 0 && offset >= sizeof(size_t) && offset % dtype.size() == 0 &&
                  mx::default_device().type == mx::Device::cpu;
  if (!mappable) {
    auto [array, memory] = new_array(std::move(shape), dtype);
    if (size > 0) std::memcpy(memory, data, size);
    file->release(offset, size);
    return array;
  }
  mx::allocator::Buffer buffer(const_cast<std::byte*>(data) - sizeof(size_t));
  // Data with a deleter is not owned by MLX: never freed by it, and never donated to an operation's output.
  mx::allocator::Data owner(buffer, [file, offset, size](mx::allocator::Buffer) { file->release(offset, size); });
  return mx::array(std::move(owner), std::move(shape), dtype);
}

}  // namespace mlx_lm
