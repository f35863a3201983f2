// What this machine can do at most, measured: the limits beside which a speed means something.
#pragma once

#include "mlx_lm/kernels/kernels.h"

namespace mlx_lm::kernels {

// Of all threads of the pool together, with the instruction set in use.
struct MachineLimits {
  int threads = 0;
  double read = 0;  // bytes per second, from memory that no cache holds
  // Operations per second from registers alone, a multiplication and its addition being two, in the instructions that
  // products with such activations use (int8: with codes of up to 4 bits, whose sums the AVX2 kernel can do best).
  double int8 = 0, int16 = 0, float32 = 0;

  double operations(Activations kind) const {
    return kind == Activations::int8 ? int8 : kind == Activations::int16 ? int16 : float32;
  }
};

// The best of several short measurements of each. Takes about 0.4 s, and for that long 256 MiB of memory, which the
// process's peak then includes. Threads: not while a product runs. Errors: std::bad_alloc.
MachineLimits measure_machine_limits();

}  // namespace mlx_lm::kernels
