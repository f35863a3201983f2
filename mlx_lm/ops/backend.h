// Who computes the steps in ops.h and matrix.h.
#pragma once

#include <cstddef>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

enum class Backend {
  kernels,  // ours (mlx_lm/kernels), activations in float32: the CPU
  mlx,      // MLX's own, activations in the model's type: every GPU, and the CPU when asked, for comparison
};

// kernels when MLX's default device is the CPU, unless MLX_LM_OPS=mlx. Errors: RequestError for another MLX_LM_OPS.
Backend backend();
// Overrides that choice from now on. A model must be made and run under one backend. Threads: before either.
void set_backend(Backend backend);

// The type in which a model of the given type computes.
mx::Dtype activation_type(mx::Dtype model_type);

// The most memory in use so far, in bytes: MLX's own count on a GPU; on the CPU, where weights are mapped or repacked
// outside of MLX, the resident size of the process.
size_t peak_memory();

}  // namespace mlx_lm::ops
