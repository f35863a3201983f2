// What a weight file offers, whatever its format: named tensors that are read when asked for.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include <mlx/mlx.h>

#include "mlx_lm/base/mapped_file.h"

namespace mlx_lm {
namespace mx = mlx::core;

// One tensor of a file: what it is, and how to get it.
struct FileTensor {
  mx::Shape shape;
  mx::Dtype dtype;                  // of read()'s result; see gguf_tensors() for scales that may be wider
  std::function<mx::array()> read;  // may be called again; safe from several threads; keeps its file mapped
};

// By checkpoint name ("model.layers.0.self_attn.q_proj.weight").
using FileTensors = std::map<std::string, FileTensor>;

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
