// Quantized keys and values: MLX's own numbers, and the same attention by our kernels as by MLX.
#include "mlx_lm/ops/kv_buffer.h"

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/attention.h"

#include "tests/ops/both_backends.h"

namespace mlx_lm::ops {
namespace {

class KVBuffers : public BothBackends {
 protected:
  static void expect_equal(const KVBuffer& a, const KVBuffer& b, const std::string& what) {
    ASSERT_EQ(a.format, b.format) << what;
    const auto ours = a.arrays(), theirs = b.arrays();
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].dtype(), theirs[i].dtype()) << what;
      EXPECT_TRUE(mx::array_equal(ours[i], theirs[i]).item<bool>()) << what << ", array " << i;
    }
  }
  static KVBuffer evaluated(const KVBuffer& buffer) {
    mx::eval(buffer.arrays());
    return buffer;
  }
  static KVBuffer copied(const KVBuffer& buffer) {
    return evaluated(buffer.with([](const mx::array& array) { return mx::copy(array); }));
  }
};

constexpr int kBits[] = {2, 3, 4, 5, 6, 8};

TEST_F(KVBuffers, quantize_gives_the_numbers_of_mlx) {
  int cases = 0;
  for (auto dtype : kTypes) {
    for (int bits : kBits) {
      for (const auto& [group, dim] : {std::pair(32, 96), {64, 64}, {64, 192}, {128, 256}}) {
        auto rows = random({2, 3, 7, dim}, dtype);
        if (cases % 3 == 1) rows = mx::where(rows < mx::array(0, dtype), mx::array(0, dtype), rows);  // one sign only
        if (cases % 3 == 2) rows = mx::floor(rows);  // ends that meet, and whole groups of one number
        const KVFormat format{bits, group};
        const auto what = fmt::format("{} bits by {}, case {}", bits, group, cases);
        set_backend(Backend::kernels);
        const auto ours = evaluated(quantized(elsewhere(rows, cases % 4), format));
        set_backend(Backend::mlx);
        expect_equal(ours, quantized(rows, format), what);
        EXPECT_EQ(ours.dim(), dim);
        EXPECT_EQ(ours.rows(), 7);
        EXPECT_EQ(ours.dtype(), dtype);
        ++cases;
      }
    }
  }
  EXPECT_EQ(cases, 72);
}

TEST_F(KVBuffers, new_rows_are_quantized_as_they_are_written) {
  for (int i = 0; i < 24; ++i) {
    const KVFormat format{kBits[i % 6], i % 4 == 3 ? 32 : 64};
    const auto dtype = kTypes[i / 2 % 3];
    const auto keys = evaluated(quantized(random({1, 2, 9, 128}, dtype), format)),
               values = evaluated(quantized(random({1, 2, 9, 64}, dtype), format));
    const auto new_keys = random({1, 3, 2, 128}), new_values = elsewhere(random({1, 3, 2, 64}), i % 4);
    std::vector<KVBuffer> written;
    for (auto backend : {Backend::kernels, Backend::mlx}) {
      set_backend(backend);
      auto k = copied(keys), v = copied(values);
      const KVSlot slot{&k, &v, 3, 4};
      write_rows(std::span(&slot, 1), new_keys, new_values);
      written.push_back(evaluated(k)), written.push_back(evaluated(v));
    }
    const auto what = fmt::format("{} bits by {}, case {}", format.bits, format.group_size, i);
    expect_equal(written[0], written[2], what);
    expect_equal(written[1], written[3], what);
    const auto rows = mx::astype(mx::swapaxes(new_keys, 1, 2), dtype);
    const auto expected = quantized(rows, format);
    auto stop = written[0].data.shape();
    stop[2] = 7;
    EXPECT_TRUE(mx::array_equal(mx::slice(written[0].data, {0, 0, 4, 0}, stop), expected.data).item<bool>()) << what;
  }
}

TEST_F(KVBuffers, attention) {
  for (int i = 0; i < 60; ++i) {
    const KVFormat format{kBits[i % 6], i % 4 == 1 ? 32 : 64};
    const int kv_heads = between(1, 3), heads = kv_heads * between(1, 4), size = i % 3 ? 64 : 128;
    const int queries = i % 2 ? 1 : between(1, 40), length = queries + between(0, i % 5 ? 40 : 400);
    const Span span{.length = length, .start = length - queries, .window = i % 7 == 3 ? between(1, length) : 0};
    AttentionOptions options;
    if (i % 5 == 2) options.softcap = 20;
    if (i % 4 == 3) options.sinks = random({heads});
    const auto q = random({2, queries, heads, size});
    set_backend(Backend::mlx);
    const auto type = kTypes[i / 6 % 3];
    const auto keys = evaluated(quantized(random({2, kv_heads, length + 3, size}, type), format)),
               values = evaluated(quantized(random({2, kv_heads, length + 3, 64}, type), format));
    expect_same(
        [&] {
          return attention(q, {{keys, values, queries, span}}, 0.125f, options);
        },
        3e-5f,
        fmt::format("case {}: {} bits by {}, {} heads over {}, {} of {} rows", i, format.bits, format.group_size, heads,
                    kv_heads, queries, length));
  }
}

// Texts whose caches are stored in different ways, in one step.
TEST_F(KVBuffers, runs_of_different_formats) {
  const auto q = random({1, 4, 6, 64}), k = random({1, 4, 2, 64}), v = random({1, 4, 2, 64});
  for (auto backend : {Backend::kernels, Backend::mlx}) {
    set_backend(backend);
    const KVBuffer numbers = random({1, 2, 20, 64}, mx::float16);
    std::vector<KVBuffer> all{copied(numbers),
                              copied(numbers),
                              copied(quantized(numbers, {8, 64})),
                              copied(quantized(numbers, {8, 64})),
                              copied(quantized(numbers, {4, 32})),
                              copied(quantized(numbers, {4, 32}))};
    const auto before = all;
    const int tokens[] = {1, 2, 1};
    std::vector<KVSlot> slots;
    for (int i = 0; i < 3; ++i) slots.push_back({&all[2 * i], &all[2 * i + 1], tokens[i], 10});
    write_rows(slots, k, v);
    KVView seen;
    const auto span = [&](int i) { return Span{.length = 10 + tokens[i], .start = 10}; };
    for (int i = 0; i < 3; ++i) seen.push_back({all[2 * i], all[2 * i + 1], tokens[i], span(i)});
    auto together = attention(q, seen, 0.125f);
    together.eval();
    for (int i = 0, at = 0; i < 3; at += tokens[i], ++i) {
      const auto part = [&](const mx::array& x) {
        auto stop = x.shape();
        stop[1] = at + tokens[i];
        return mx::slice(x, {0, at, 0, 0}, stop);
      };
      auto own_keys = copied(before[2 * i]), own_values = copied(before[2 * i + 1]);
      const KVSlot slot{&own_keys, &own_values, tokens[i], 10};
      write_rows(std::span(&slot, 1), part(k), part(v));
      const auto alone = attention(part(q), {{own_keys, own_values, tokens[i], span(i)}}, 0.125f);
      EXPECT_EQ(difference(part(together), alone), 0) << "run " << i;
    }
  }
}

TEST_F(KVBuffers, refuses_what_does_not_fit) {
  const auto message = [](const KVFormat& format, int dim) -> std::string {
    try {
      KVBuffer::zeros(1, 1, 1, dim, mx::float16, format);
    } catch (const RequestError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message({8, 64}, 64), "");
  EXPECT_EQ(message({0, 1}, 7), "");
  EXPECT_EQ(message({7, 64}, 64), "[cache] kv-bits: expected 2, 3, 4, 5, 6 or 8, found 7");
  EXPECT_EQ(message({8, 16}, 64), "[cache] kv-group-size: expected 32, 64 or 128, found 16");
  EXPECT_EQ(message({8, 64}, 96),
            "[cache] kv-group-size: expected a divisor of the head size of this model, 96, found 64");
  EXPECT_THROW(quantized(random({1, 1, 2, 48}), {4, 32}), RequestError);
}

}  // namespace
}  // namespace mlx_lm::ops
