// Affine rows: written alike by every instruction set, and attended as the numbers that they stand for. That they are
// MLX's own numbers is for tests/ops/kv_buffer_test.cpp.
#include <algorithm>
#include <optional>

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kBits[] = {2, 3, 4, 5, 6, 8};

// A buffer (B, K, C, D) at odd addresses.
struct Buffer {
  int rows, dim, bits, group_size;
  Type type;
  std::vector<char> codes, scales, biases;

  Buffer(int rows, int dim, int bits, int group_size, Type type)
      : rows(rows),
        dim(dim),
        bits(bits),
        group_size(group_size),
        type(type),
        codes(1 + size_t(rows) * dim * bits / 8, 0x5a),
        scales(2 + size_t(rows) * dim / group_size * size_of(type), 0x5a),
        biases(scales) {}

  AffineRows view() { return {bits, group_size, type, codes.data() + 1, scales.data() + 2, biases.data() + 2}; }
  std::vector<float> numbers() const {
    std::vector<float> out(size_t(rows) * dim);
    for (size_t i = 0; i < out.size(); ++i) {
      int code = 0;
      for (int b = 0; b < bits; ++b) {
        const size_t bit = i * bits + b;
        code |= (uint8_t(codes[1 + bit / 8]) >> bit % 8 & 1) << b;
      }
      const size_t group = i / group_size;
      out[i] = load_number(type, scales.data() + 2, group) * float(code) + load_number(type, biases.data() + 2, group);
    }
    return out;
  }
  bool operator==(const Buffer&) const = default;
};

TEST(Affine, EverySetWritesTheSameRows) {
  for (Type type : kTypes) {
    for (int bits : kBits) {
      for (const auto& [dim, group] : {std::pair(32, 32), {64, 64}, {96, 32}, {128, 64}, {256, 128}}) {
        SCOPED_TRACE(fmt::format("{}, {} bits, {} numbers by {}", name_of(type), bits, dim, group));
        const int batch = 2, length = 3, heads = 2, capacity = 5, position = 1;
        auto rows = random_numbers(size_t(batch) * length * heads * dim, bits, 3);
        std::fill_n(rows.begin(), group, 0.f);
        std::fill_n(rows.begin() + dim, group, -1.25f);
        rows[2 * dim] = 1e4f, rows[2 * dim + 1] = -3e4f;
        std::optional<Buffer> expected;
        under_every_set([&] {
          Buffer buffer(batch * heads * capacity, dim, bits, group, type);
          write_rows(rows.data(), Type::f32, batch, length, heads, dim, buffer.view(), capacity, position);
          if (!expected) {
            expected = buffer;
          } else {
            EXPECT_TRUE(buffer == *expected);
          }
        });
        // No number is further from its own than half of what codes are apart, and the rows beside are as they were.
        const auto found = expected->numbers();
        for (int b = 0; b < batch; ++b) {
          for (int k = 0; k < heads; ++k) {
            for (int l = 0; l < length; ++l) {
              for (int d = 0; d < dim; ++d) {
                const float* from = rows.data() + ((size_t(b) * length + l) * heads + k) * dim;
                const float* first = from + d / group * group;
                const auto [low, high] = std::minmax_element(first, first + group);
                const float step = (*high - *low) / float((1 << bits) - 1);
                const float rounding = 0.02f * std::max(std::fabs(*low), std::fabs(*high));  // of scale and bias
                const size_t row = (size_t(b) * heads + k) * capacity + position + l;
                EXPECT_NEAR(found[row * dim + d], from[d], step + rounding);
              }
            }
          }
        }
        EXPECT_EQ(expected->codes[1], 0x5a) << "row 0";
        EXPECT_EQ(expected->codes.back(), 0x5a) << "the last row";
      }
    }
  }
}

TEST(Affine, TakesRowsOfEveryType) {
  for (Type from : kTypes) {
    const Stored rows(random_numbers(4 * 64, 1), from);
    std::vector<float> same(4 * 64);
    for (size_t i = 0; i < same.size(); ++i) same[i] = rows[i];
    under_every_set([&] {
      Buffer found(4, 64, 4, 64, Type::bf16), expected(found);
      write_rows(rows.data(), from, 1, 4, 1, 64, found.view(), 4, 0);
      write_rows(same.data(), Type::f32, 1, 4, 1, 64, expected.view(), 4, 0);
      EXPECT_TRUE(found == expected);
    });
  }
}

// What is no number ends neither the program nor the other groups.
TEST(Affine, NotANumber) {
  std::vector<float> rows(4 * 32, 1.f);
  rows[3] = NAN, rows[40] = INFINITY, rows[70] = -INFINITY, rows[71] = INFINITY;
  under_every_set([&] {
    Buffer buffer(1, 128, 8, 32, Type::f32);
    write_rows(rows.data(), Type::f32, 1, 1, 1, 128, buffer.view(), 1, 0);
    const auto found = buffer.numbers();
    for (int i = 96; i < 128; ++i) EXPECT_EQ(found[i], 1.f);
  });
}

struct Case {
  AttentionArgs args;
  std::vector<float> q;
  Buffer keys, values;

  Case(const AttentionArgs& a, int bits, int group)
      : args(a),
        q(random_numbers(size_t(a.batch) * a.queries * a.heads * a.head_dim, 1)),
        keys(a.batch * a.kv_heads * a.capacity, a.head_dim, bits, group, a.type),
        values(a.batch * a.kv_heads * a.capacity, a.value_dim, bits, group, a.type) {
    const auto fill = [&](Buffer& buffer, int seed) {
      const auto numbers = random_numbers(size_t(buffer.rows) * buffer.dim, seed);
      write_rows(numbers.data(), Type::f32, 1, buffer.rows, 1, buffer.dim, buffer.view(), buffer.rows, 0);
    };
    fill(keys, 2), fill(values, 3);
  }

  std::vector<float> run(AttentionArgs text) const {
    std::vector<float> out(q.size() / args.head_dim * args.value_dim, NAN);
    text.q = q.data(), text.out = out.data();
    attention({&text, 1});
    return out;
  }
  std::vector<float> affine() {
    auto text = args;
    text.affine_keys = keys.view(), text.affine_values = values.view();
    return run(text);
  }
  // Of the numbers that the codes stand for.
  std::vector<float> plain() const {
    auto text = args;
    const auto k = keys.numbers(), v = values.numbers();
    text.type = Type::f32, text.keys = k.data(), text.values = v.data();
    return run(text);
  }
};

AttentionArgs shape(int queries, int head_dim, int value_dim, int length, Type type = Type::f16) {
  return {.batch = 2,
          .queries = queries,
          .heads = 6,
          .kv_heads = 2,
          .head_dim = head_dim,
          .capacity = length + 3,
          .length = length,
          .start = length - queries,
          .scale = 1 / std::sqrt(float(head_dim)),
          .type = type,
          .value_dim = value_dim};
}

void check(const AttentionArgs& args, int bits, int group) {
  SCOPED_TRACE(fmt::format("L {} D {} D' {} length {} window {} {}, {} bits by {}", args.queries, args.head_dim,
                           args.value_dim, args.length, args.window, name_of(args.type), bits, group));
  Case c(args, bits, group);
  const auto expected = c.plain();
  under_every_set([&] { expect_near(c.affine(), {expected.begin(), expected.end()}, 1e-5); });
}

TEST(Affine, AttentionOfManyShapes) {
  for (Type type : kTypes) {
    for (int bits : kBits) {
      for (int queries : {1, 2, 5, 33}) {
        check(shape(queries, 64, 64, queries + 70, type), bits, 64);
        check(shape(queries, 64, 128, queries + 1, type), bits, 32);
      }
    }
    for (int bits : {4, 8}) {
      check(shape(1, 96, 160, 1000, type), bits, 32);
      check(shape(7, 256, 128, 300, type), bits, 128);
      check(shape(1, 128, 128, 4097, type), bits, 64);
    }
  }
}

TEST(Affine, AttentionWithWindowsSoftcapAndSinks) {
  const auto sinks = random_numbers(6, 9);
  for (int queries : {1, 40}) {
    auto args = shape(queries, 64, 64, 600);
    args.window = 100;
    args.softcap = 5;
    args.sinks = sinks.data();
    check(args, 8, 64);
    check(args, 4, 32);
  }
}

TEST(Affine, AnyNumberOfThreads) {
  for (int queries : {1, 5, 200}) {
    Case c(shape(queries, 64, 64, 900), 4, 32);
    expect_same_for_any_threads([&] { return c.affine(); });
  }
}

}  // namespace
}  // namespace mlx_lm::kernels
