#include <algorithm>

#include "mlx_lm/base/error.h"

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

struct Case {
  AttentionArgs args;
  std::vector<float> q;
  Stored keys, values;
  int value_dim;

  explicit Case(const AttentionArgs& a, float spread = 1)
      : args(a),
        q(random_numbers(static_cast<size_t>(a.batch) * a.queries * a.heads * a.head_dim, 1, spread)),
        keys(random_numbers(static_cast<size_t>(a.batch) * a.kv_heads * a.capacity * a.head_dim, 2), a.type),
        values(random_numbers(static_cast<size_t>(a.batch) * a.kv_heads * a.capacity *
                                  (a.value_dim != 0 ? a.value_dim : a.head_dim),
                              3),
               a.type),
        value_dim(a.value_dim != 0 ? a.value_dim : a.head_dim) {}

  size_t results() const { return q.size() / args.head_dim * value_dim; }

  AttentionArgs on(float* out) const {
    auto text = args;
    text.q = q.data(), text.keys = keys.data(), text.values = values.data(), text.out = out;
    return text;
  }

  std::vector<float> run() const {
    std::vector<float> out(results(), NAN);
    const auto text = on(out.data());
    attention({&text, 1});
    return out;
  }

  std::vector<double> expected() const {
    const AttentionArgs& a = args;
    std::vector<double> out(results());
    for (int b = 0; b < a.batch; ++b) {
      for (int l = 0; l < a.queries; ++l) {
        for (int h = 0; h < a.heads; ++h) {
          const size_t query = (static_cast<size_t>(b) * a.queries + l) * a.heads + h;
          const size_t head = static_cast<size_t>(b) * a.kv_heads + h / (a.heads / a.kv_heads);
          std::vector<std::pair<double, size_t>> seen;
          for (int j = 0; j < a.length; ++j) {
            if (j > a.start + l || (a.window != 0 && j <= a.start + l - a.window)) continue;
            const size_t row = head * a.capacity + j;
            double score = 0;
            for (int d = 0; d < a.head_dim; ++d) {
              score += static_cast<double>(q[query * a.head_dim + d]) * keys[row * a.head_dim + d];
            }
            score *= a.scale;
            if (a.softcap != 0) score = a.softcap * std::tanh(score / a.softcap);
            seen.emplace_back(score, row);
          }
          double high = a.sinks != nullptr ? a.sinks[h] : -INFINITY;
          for (const auto& [score, row] : seen) high = std::max(high, score);
          double sum = a.sinks != nullptr ? std::exp(a.sinks[h] - high) : 0;
          for (const auto& [score, row] : seen) sum += std::exp(score - high);
          for (const auto& [score, row] : seen) {
            for (int d = 0; d < value_dim; ++d) {
              out[query * value_dim + d] += std::exp(score - high) / sum * values[row * value_dim + d];
            }
          }
        }
      }
    }
    return out;
  }
};

void check(const AttentionArgs& args, float spread = 1, double tolerance = 5e-6) {
  SCOPED_TRACE(fmt::format("B {} L {} H {} K {} D {} C {} length {} start {} window {} {} D' {} softcap {} sinks {}",
                           args.batch, args.queries, args.heads, args.kv_heads, args.head_dim, args.capacity,
                           args.length, args.start, args.window, name_of(args.type), args.value_dim, args.softcap,
                           args.sinks != nullptr));
  const Case c(args, spread);
  const auto expected = c.expected();
  under_every_set([&] { expect_near(c.run(), expected, tolerance); });
}

AttentionArgs shape(int queries, int heads, int kv_heads, int head_dim, int length, Type type = Type::f16) {
  return {.batch = 1,
          .queries = queries,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .capacity = length + 3,
          .length = length,
          .start = length - queries,
          .window = 0,
          .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
          .type = type};
}

TEST(Attention, ManyShapes) {
  for (Type type : kTypes) {
    for (int head_dim : {1, 20, 64, 80}) {
      for (auto [heads, kv_heads] : {std::pair(1, 1), {6, 2}, {9, 3}, {8, 1}}) {
        for (int queries : {1, 2, 5, 33}) {
          for (int length : {queries, queries + 70}) check(shape(queries, heads, kv_heads, head_dim, length, type));
        }
      }
    }
  }
}

TEST(Attention, LongTextIsSplitAndMerged) {
  for (int length : {63, 64, 65, 127, 128, 129, 255, 256, 257, 1535, 1537}) check(shape(1, 9, 3, 64, length));
  check(shape(1, 9, 3, 64, 1000));
  check(shape(3, 4, 4, 64, 700));
  check(shape(1, 80, 80, 16, 700));  // enough heads: not split
  check(shape(300, 3, 1, 32, 300));
}

TEST(Attention, Batches) {
  auto args = shape(4, 6, 2, 24, 50);
  args.batch = 3;
  check(args);
}

TEST(Attention, Windows) {
  for (int window : {1, 7, 64, 100}) {
    for (int queries : {1, 5, 40}) {
      auto args = shape(queries, 6, 2, 32, 600);
      args.window = window;
      check(args);
    }
  }
}

TEST(Attention, QueryThatSeesNothing) {
  auto args = shape(6, 4, 2, 16, 10);
  args.start = -3;  // the first three queries stand before every key
  check(args);
  args = shape(4, 4, 2, 16, 300);
  args.start = 900;  // the window has passed all keys
  args.window = 600;
  check(args);
  args.start = 901;
  check(args);
  args.length = 0;
  check(args);
}

TEST(Attention, QueriesBeyondTheKeysSeeAllOfThem) {
  auto args = shape(5, 4, 2, 16, 30);
  args.start = 29;
  check(args);
}

// Scores of up to 500, whose own rounding is 3e-5.
TEST(Attention, LargeScores) { check(shape(20, 4, 2, 64, 400), 100, 2e-4); }

TEST(Attention, HeadSizes) {
  for (Type type : kTypes) {
    for (int head_dim : {3, 65, 96, 100, 112, 128, 192, 256}) {
      for (int value_dim : {0, 7, 64, 128}) {
        for (int queries : {1, 3, 20}) {
          auto args = shape(queries, 4, 2, head_dim, 150, type);
          args.value_dim = value_dim;
          check(args);
        }
      }
    }
  }
}

TEST(Attention, SoftcapAndSinks) {
  std::vector<float> sinks = random_numbers(6, 9, 4);
  sinks[1] = -INFINITY;
  sinks[2] = 60;
  for (float softcap : {0.f, 2.f, 50.f}) {
    for (bool sink : {false, true}) {
      for (int queries : {1, 5, 40}) {
        for (int window : {0, 30}) {
          auto args = shape(queries, 6, 2, 40, 300);
          args.window = window;
          args.softcap = softcap;
          args.sinks = sink ? sinks.data() : nullptr;
          check(args);
          check(args, 20, 2e-5);
          args.start = -3;  // some queries see nothing but the sinks
          check(args);
        }
      }
    }
  }
}

TEST(Attention, AnyNumberOfThreads) {
  const std::vector<float> sinks = random_numbers(9, 9);
  for (int queries : {1, 5, 200}) {
    auto args = shape(queries, 9, 3, 64, 900);
    args.softcap = 5;
    args.sinks = sinks.data();
    const Case c(args);
    expect_same_for_any_threads([&] { return c.run(); });
  }
}

// A sequence's result has the same bits alone and in a batch, and whatever the others hold.
TEST(Attention, NeighboursDoNotMatter) {
  for (int queries : {1, 4, 70}) {
    auto args = shape(queries, 6, 2, 64, 700);
    args.batch = 3;
    const Case all(args);
    args.batch = 1;
    Case one(args);
    const size_t q = one.q.size(), rows = static_cast<size_t>(2) * args.capacity * 64 * size_of(args.type);
    under_every_set([&] {
      const auto expected = all.run();
      for (int b = 0; b < 3; ++b) {
        std::copy_n(all.q.begin() + b * q, q, one.q.begin());
        std::memcpy(one.keys.data(), all.keys.data() + b * rows, rows);
        std::memcpy(one.values.data(), all.values.data() + b * rows, rows);
        EXPECT_EQ(one.run(), std::vector<float>(expected.begin() + b * q, expected.begin() + (b + 1) * q));
      }
    });
  }
}

// The same for texts of different lengths.
TEST(Attention, TextsTogetherAndAlone) {
  std::vector<Case> cases;
  for (const auto& [queries, length] : {std::pair(1, 700), {1, 3}, {20, 300}, {1, 64}, {3, 2000}, {70, 70}}) {
    cases.emplace_back(shape(queries, 6, 2, 64, length));
  }
  under_every_set([&] {
    std::vector<std::vector<float>> out;
    std::vector<AttentionArgs> texts;
    for (const auto& c : cases) out.emplace_back(c.results(), NAN);
    for (size_t i = 0; i < cases.size(); ++i) texts.push_back(cases[i].on(out[i].data()));
    attention(texts);
    for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(out[i], cases[i].run()) << i;
  });
}

}  // namespace
}  // namespace mlx_lm::kernels
