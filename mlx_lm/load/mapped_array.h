// Arrays over the memory of a mapped file.
#pragma once

#include <memory>

#include <mlx/mlx.h>

#include "mlx_lm/base/mapped_file.h"

namespace mlx_lm {
namespace mx = mlx::core;

// An array over the file's memory: no copy on the CPU when the data is aligned for its type, a copy otherwise.
// The array keeps the mapping alive, and gives the pages back when it goes.
// Shapes: any; the caller has checked that offset and size lie inside the file and that no dimension is negative.
// Eval: nothing to evaluate; the bytes are read when they are used.
mx::array mapped_array(std::shared_ptr<const MappedFile> file, size_t offset, mx::Shape shape, mx::Dtype dtype);

// An uninitialized array and its memory, for a caller that fills it at once.
struct NewArray {
  mx::array array;
  void* data;
};
NewArray new_array(mx::Shape shape, mx::Dtype dtype);

}  // namespace mlx_lm
