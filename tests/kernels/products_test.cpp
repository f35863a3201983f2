// Several products in one go against each of them alone, under every instruction set: the same bits.
#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

// Random codes; the numbers do not matter here, packed_test.cpp checks them.
std::shared_ptr<const PackedMatrix> random_packed(int rows, int cols, int bits, int seed) {
  std::mt19937 engine(seed);
  std::vector<uint32_t> words(static_cast<size_t>(rows) * cols * bits / 32);
  for (auto& word : words) word = engine();
  const size_t groups = static_cast<size_t>(rows) * cols / 32;
  const auto scales = random_numbers(groups, seed, 0.01f), biases = random_numbers(groups, seed + 1, 0.1f);
  return pack({rows, cols, bits, 32, words.data(), scales.data(), biases.data(), Type::f32});
}

class Numbers {
 public:
  Numbers(int n, int cols)
      : n(n), cols(cols), x(random_numbers(static_cast<size_t>(n) * cols, 1)), norm(random_numbers(cols, 2)) {}
  ProductInput input() const { return {x.data(), n, cols, norm.data(), 1e-5f}; }
  // The same, with the norm done beforehand.
  std::vector<float> normed() const {
    std::vector<float> out(x.size());
    rms_norm(x.data(), norm.data(), n, cols, 1e-5f, out.data());
    return out;
  }

  int n, cols;
  std::vector<float> x, norm;
};

template <class F>
void under_every_kind_of_activations(F test) {
  const Activations before = activations();
  for (const Activations kind : {Activations::int8, Activations::int16, Activations::float32}) {
    set_activations(kind);
    test();
  }
  set_activations(before);
}

TEST(Products, together_as_alone) {
  const int cols = 96;
  under_every_set([&] {
    const std::shared_ptr<const PackedMatrix> matrices[] = {
        random_packed(40, cols, 4, 1), random_packed(13, cols, 8, 2), random_packed(3, cols, 5, 3)};
    const std::vector<float> bias = random_numbers(40, 9);
    under_every_kind_of_activations([&] {
      for (const int n : {1, 2, 4, 5, 17, 290}) {
        const Numbers numbers(n, cols);
        const auto residual = random_numbers(static_cast<size_t>(n) * 13, 8);
        std::vector<std::vector<float>> found;
        std::vector<Product> products;
        for (const auto& matrix : matrices) found.emplace_back(n * matrix->view().rows, NAN);
        for (int i = 0; i < 3; ++i) products.push_back({.packed = matrices[i].get(), .y = found[i].data()});
        products[0].bias = bias.data();
        products[1].residual = residual.data();
        multiply(numbers.input(), products);

        const auto normed = numbers.normed();
        for (int i = 0; i < 3; ++i) {
          std::vector<float> expected(found[i].size());
          matrices[i]->matmul(normed.data(), n, expected.data());
          for (size_t k = 0; k < expected.size(); ++k) {
            if (i == 0) expected[k] += bias[k % 40];
            if (i == 1) expected[k] += residual[k];
          }
          EXPECT_EQ(found[i], expected) << n << " rows, matrix " << i;
        }
      }
    });
  });
}

TEST(Products, swiglu_of_two) {
  const int cols = 64, rows = 77;
  under_every_set([&] {
    const auto gate = random_packed(rows, cols, 4, 1), up = random_packed(rows, cols, 6, 2);
    under_every_kind_of_activations([&] {
      for (const int n : {1, 3, 6, 260}) {
        const Numbers numbers(n, cols);
        const size_t size = static_cast<size_t>(n) * rows;
        std::vector<float> found(size, NAN), g(size), u(size);
        multiply_swiglu(numbers.input(), {.packed = gate.get(), .y = found.data()}, {.packed = up.get()});
        gate->matmul(numbers.normed().data(), n, g.data());
        up->matmul(numbers.normed().data(), n, u.data());
        for (size_t i = 0; i < size; ++i) {
          const double expected = g[i] / (1 + std::exp(-double(g[i]))) * u[i];
          ASSERT_NEAR(found[i], expected, 1e-5 * (1 + std::fabs(expected))) << n << " rows, at " << i;
        }
      }
    });
  });
}

TEST(Products, do_not_depend_on_threads) {
  const int cols = 576;
  const auto a = random_packed(576, cols, 4, 1), b = random_packed(192, cols, 4, 2);
  for (const int n : {1, 4, 100}) {
    expect_same_for_any_threads([&] {
      const Numbers numbers(n, cols);
      std::vector<float> y(static_cast<size_t>(n) * (576 + 192));
      const Product products[] = {{.packed = a.get(), .y = y.data()}, {.packed = b.get(), .y = &y[n * 576]}};
      multiply(numbers.input(), products);
      return y;
    });
  }
}

}  // namespace
}  // namespace mlx_lm::kernels
