// Products of experts, which are to have the bits of single products.
#include "mlx_lm/kernels/experts.h"

#include <fmt/format.h>

#include "tests/kernels/products.h"

namespace mlx_lm::kernels {
namespace {

std::vector<std::shared_ptr<const PackedMatrix>> stack(int experts, int rows, int cols, int bits, Format format) {
  std::vector<std::shared_ptr<const PackedMatrix>> matrices;
  std::mt19937 engine(7);
  for (int e = 0; e < experts; ++e) {
    std::vector<uint32_t> words(static_cast<size_t>(rows) * cols / 4);
    for (auto& word : words) word = engine() & 0xbfbfbfbf;
    if (format == Format::affine) {
      const auto scales = random_numbers(static_cast<size_t>(rows) * cols / 32, e, 0.01f);
      matrices.push_back(pack({rows, cols, bits, 32, words.data(), scales.data(), scales.data(), Type::f32}));
    } else {
      std::vector<uint8_t> scales(static_cast<size_t>(rows) * cols / 16);
      for (auto& scale : scales) scale = format == Format::nvfp4 ? engine() % 64 : 118 + engine() % 8;
      // One expert with a scale that keeps it from being plain.
      if (e == 2 && format == Format::mxfp8) scales[3] = 140;
      matrices.push_back(
          pack({.format = format, .rows = rows, .cols = cols, .weight = words.data(), .scales = scales.data()}));
    }
  }
  return matrices;
}

std::vector<int32_t> chosen(int n, int experts, int seed, bool sorted) {
  std::mt19937 engine(seed);
  std::vector<int32_t> ids(n);
  for (auto& id : ids) id = engine() % experts;
  if (sorted) std::sort(ids.begin(), ids.end());
  return ids;
}

struct Case {
  int n, per;
  bool sorted;
};
constexpr Case kCases[] = {{1, 1, false}, {4, 4, false}, {4, 1, false},  {7, 2, false},    {16, 8, false},
                           {40, 8, true}, {60, 1, true}, {60, 3, false}, {1300, 4, false}, {1300, 1, true}};

void expect_single_products(int rows, int cols, int bits, Format format) {
  const int experts = 5;
  for (auto mode : {Activations::int8, Activations::int16, Activations::float32}) {
    Activated activated(mode);
    under_every_set([&] {
      const auto w = stack(experts, rows, cols, bits, format);
      for (const Case& c : kCases) {
        SCOPED_TRACE(fmt::format("{} products, {} per row, sorted {}, mode {}", c.n, c.per, c.sorted, int(mode)));
        const auto ids = chosen(c.n, experts, c.n, c.sorted);
        const auto x = random_numbers(static_cast<size_t>((c.n + c.per - 1) / c.per) * cols, c.n);
        std::vector<float> y(static_cast<size_t>(c.n) * rows, NAN), single(rows);
        expert_matmul({.packed = w}, x.data(), {ids.data(), c.n, c.per}, y.data());
        for (int t = 0; t < c.n; ++t) {
          w[ids[t]]->matmul(&x[static_cast<size_t>(t / c.per) * cols], 1, single.data());
          ASSERT_EQ(std::memcmp(single.data(), &y[static_cast<size_t>(t) * rows], rows * sizeof(float)), 0) << t;
        }
      }
    });
  }
}

TEST(Experts, affine) {
  expect_single_products(21, 160, 4, Format::affine);
  expect_single_products(72, 96, 8, Format::affine);
}
TEST(Experts, mxfp4) { expect_single_products(75, 96, 4, Format::mxfp4); }
TEST(Experts, nvfp4) { expect_single_products(75, 96, 4, Format::nvfp4); }
TEST(Experts, mxfp8) { expect_single_products(75, 96, 8, Format::mxfp8); }

TEST(Experts, dense) {
  const int experts = 6, cols = 37;
  for (int rows : {3, 75}) {
    for (Type type : kTypes) {
      const Stored w(random_numbers(static_cast<size_t>(experts) * rows * cols, 1), type);
      std::vector<DenseMatrix> stack;
      for (int e = 0; e < experts; ++e) {
        stack.push_back({rows, cols, type, w.data() + static_cast<size_t>(e) * rows * cols * size_of(type)});
      }
      under_every_set([&] {
        for (const Case& c : kCases) {
          SCOPED_TRACE(fmt::format("{} products, {} per row, sorted {}", c.n, c.per, c.sorted));
          const auto ids = chosen(c.n, experts, c.n, c.sorted);
          const auto x = random_numbers(static_cast<size_t>((c.n + c.per - 1) / c.per) * cols, c.n);
          std::vector<float> y(static_cast<size_t>(c.n) * rows, NAN);
          expert_matmul({.dense = stack}, x.data(), {ids.data(), c.n, c.per}, y.data());
          for (int e = 0; e < experts; ++e) {
            std::vector<int> mine;
            for (int t = 0; t < c.n; ++t) {
              if (ids[t] == e) mine.push_back(t);
            }
            std::vector<float> in, out(mine.size() * rows);
            for (int t : mine) in.insert(in.end(), &x[t / c.per * cols], &x[t / c.per * cols] + cols);
            matmul(in.data(), static_cast<int>(mine.size()), stack[e], out.data());
            for (size_t i = 0; i < mine.size(); ++i) {
              ASSERT_EQ(std::memcmp(&out[i * rows], &y[static_cast<size_t>(mine[i]) * rows], rows * sizeof(float)), 0);
            }
          }
        }
      });
    }
  }
}

// Gate and up in one step: of one kind, or one after the other where their bits ask for other tables.
TEST(Experts, several_stacks) {
  const auto x = random_numbers(10 * 96, 1);
  const auto ids = chosen(20, 5, 3, false);
  for (auto format : {Format::affine, Format::mxfp8}) {
    const auto a = stack(5, 21, 96, 4, Format::affine), b = stack(5, 40, 96, 8, format);
    std::vector<float> ya(20 * 21, NAN), yb(20 * 40, NAN), za(ya), zb(yb);
    const ExpertProduct both[] = {{{.packed = a}, ya.data()}, {{.packed = b}, yb.data()}};
    expert_matmul(both, x.data(), {ids.data(), 20, 2});
    expert_matmul({.packed = a}, x.data(), {ids.data(), 20, 2}, za.data());
    expert_matmul({.packed = b}, x.data(), {ids.data(), 20, 2}, zb.data());
    EXPECT_EQ(ya, za);
    EXPECT_EQ(yb, zb);
  }
}

TEST(Experts, any_number_of_threads) {
  for (auto format : {Format::affine, Format::mxfp8}) {
    const auto w = stack(8, 200, 256, 4, format);
    const auto x = random_numbers(100 * 256, 1);
    const auto ids = chosen(400, 8, 2, false);
    for (int n : {8, 400}) {
      expect_same_for_any_threads([&] {
        std::vector<float> y(static_cast<size_t>(n) * 200);
        expert_matmul({.packed = w}, x.data(), {ids.data(), n, 4}, y.data());
        return y;
      });
    }
  }
}

TEST(Experts, one_that_does_not_exist_gives_zeros) {
  const auto w = stack(3, 16, 64, 4, Format::affine);
  const std::vector<float> ones(16 * 64, 1.f);
  const std::vector<DenseMatrix> dense(3, {16, 64, Type::f32, ones.data()});
  const auto x = random_numbers(6 * 64, 1);
  const int32_t ids[] = {0, 3, -1, 2, INT32_MAX, INT32_MIN};
  std::vector<float> y(6 * 16, NAN), z(6 * 16, NAN), single(16);
  expert_matmul({.packed = w}, x.data(), {ids, 6, 1}, y.data());
  expert_matmul({.dense = dense}, x.data(), {ids, 6, 1}, z.data());
  for (int t : {1, 2, 4, 5}) {
    for (int r = 0; r < 16; ++r) {
      EXPECT_EQ(y[t * 16 + r], 0);
      EXPECT_EQ(z[t * 16 + r], 0);
    }
  }
  w[2]->matmul(&x[3 * 64], 1, single.data());
  EXPECT_EQ(std::memcmp(single.data(), &y[3 * 16], 64), 0);
  expert_matmul({.packed = w}, x.data(), {ids, 0, 1}, y.data());
}

}  // namespace
}  // namespace mlx_lm::kernels
