// The loop of machine_limits_<set>.cpp. Everything is in an unnamed namespace, see convert.h.
#pragma once

#include <cstdint>

namespace mlx_lm::kernels {
namespace {

// A vector of which the compiler knows nothing from here on: what is computed from it is computed again each time.
template <class Vector>
inline void unknown(Vector& value) {
#if defined(__aarch64__)
  asm volatile("" : "+w"(value));
#else
  asm volatile("" : "+x"(value));
#endif
}

// sum = add(sum) for 12 sums that do not wait for each other: two instructions start in a cycle and take up to 5 each.
// products: multiplications that one add() makes. Returns those of all rounds.
template <class Vector, class F>
inline double chains(int64_t rounds, int products, F add) {
  constexpr int kChains = 12, kTimes = 4;
  Vector sums[kChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
    for (int time = 0; time < kTimes; ++time) {
#pragma GCC unroll 12
      for (int k = 0; k < kChains; ++k) {
        sums[k] = add(sums[k]);
        unknown(sums[k]);
      }
    }
  }
  return static_cast<double>(rounds) * kChains * kTimes * products;
}

}  // namespace
}  // namespace mlx_lm::kernels
