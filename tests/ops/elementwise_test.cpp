#include "mlx_lm/ops/elementwise.h"

#include "mlx_lm/ops/alternating.h"
#include "mlx_lm/ops/products.h"

#include "tests/ops/both_backends.h"

namespace mlx_lm::ops {
namespace {

class Elementwise : public BothBackends {};

TEST_F(Elementwise, arithmetic) {
  for (int i = 0; i < 30; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 5), i % 5 ? between(1, 200) : between(5000, 9000)};
    const auto a = elsewhere(random(shape), i % 4), b = elsewhere(random(shape), i / 4 % 4);
    const auto row = random({shape[2]});
    expect_same([&] { return scale(a, 1.7f); }, 1e-6f, "scale");
    expect_same([&] { return ops::add(a, b); }, 1e-6f, "add");
    expect_same([&] { return ops::multiply(a, row); }, 1e-6f, "multiply");
    expect_same([&] { return softcap(a, 0.75f); }, 1e-6f, "softcap");
    expect_same([&] { return softcap(a * mx::array(100.f), 30.f); }, 1e-5f, "softcap of large numbers");
  }
}

TEST_F(Elementwise, sparse_geglu) {
  for (int i = 0; i < 20; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 5), between(2, 200)};
    const auto gate = elsewhere(random(shape) * mx::array(3.f), i % 4), up = elsewhere(random(shape), i / 4 % 4);
    for (float deviations : {-0.3f, 0.f, 1.64f}) {
      expect_same([&] { return sparse_geglu(gate, up, deviations); }, 3e-5f, "sparse_geglu");
    }
  }
}

// A norm that is added is one step, and the same numbers.
TEST_F(Elementwise, residual_add_takes_in_a_norm) {
  for (int i = 0; i < 20; ++i) {
    const mx::Shape shape{between(1, 3), between(1, 5), between(1, 200)};
    const auto x = elsewhere(random(shape), i % 4), a = elsewhere(random(shape), i / 4 % 4), w = random({shape[2]});
    expect_same([&] { return residual_add(a, rms_norm(x, w, 1e-5f)); }, 2e-5f, "a norm");
    set_backend(Backend::kernels);
    const auto norm = rms_norm(x, w, 1e-5f), sum = residual_add(a, norm);
    EXPECT_STREQ(sum.primitive().name(), "AddRMSNorm");
    EXPECT_TRUE(mx::array_equal(sum, a + norm).item<bool>());
  }
}

TEST_F(Elementwise, alternating_streams) {
  for (int i = 0; i < 20; ++i) {
    const int n = between(1, 5), active = between(0, n - 1);
    const mx::Shape shape{between(1, 3), between(1, 4), between(1, 90)};
    Streams streams;
    for (int k = 0; k < n; ++k) streams.push_back(elsewhere(random(shape), (i + k) % 4));
    const auto mixing = random({shape[0], shape[1], n * n}), correction = random({shape[0], shape[1], n});
    const auto computed = random(shape);
    for (int k = 0; k < n; ++k) {
      expect_same([&] { return predict_streams(streams, mixing)[k]; }, 2e-5f, "predict_streams");
      expect_same([&] { return correct_streams(streams, computed, correction, active)[k]; }, 2e-5f, "correct_streams");
    }
  }
}

}  // namespace
}  // namespace mlx_lm::ops
