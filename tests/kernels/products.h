// What the tests of products share.
#pragma once

#include <algorithm>

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {

// What activations of `most_code` and less make of x, computed apart from the kernels.
inline std::vector<float> rounded(std::vector<float> x, float most_code = 127) {
  for (size_t g = 0; g < x.size(); g += 32) {
    float most = 0;
    for (size_t i = g; i < g + 32; ++i) most = std::max(most, std::fabs(x[i]));
    for (size_t i = g; i < g + 32; ++i) {
      x[i] = most > 0 ? std::nearbyint(x[i] * (most_code / most)) * (most / most_code) : 0;
    }
  }
  return x;
}

inline std::vector<float> run(const PackedMatrix& matrix, const std::vector<float>& x, int n, int rows) {
  std::vector<float> y(static_cast<size_t>(n) * rows, NAN);
  matrix.matmul(x.data(), n, y.data());
  return y;
}

inline double largest(const std::vector<double>& values) {
  double most = 0;
  for (double value : values) most = std::max(most, std::fabs(value));
  return most;
}

class Activated {  // sets the activations for one scope
 public:
  explicit Activated(Activations a) : before_(activations()) { set_activations(a); }
  ~Activated() { set_activations(before_); }

 private:
  Activations before_;
};

}  // namespace mlx_lm::kernels
