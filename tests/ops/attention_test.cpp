// Each step by our kernels against MLX's own operations, on random shapes.
#include "mlx_lm/ops/attention.h"

#include <cmath>

#include "tests/ops/both_backends.h"

namespace mlx_lm::ops {
namespace {

class Attention : public BothBackends {};

TEST_F(Attention, rope) {
  for (int i = 0; i < 60; ++i) {
    const int dims = 2 * between(1, 20), size = dims + (i % 3 == 0 ? 0 : between(0, 7));
    Rope::Options options{.dims = dims, .traditional = i % 2 == 1, .base = 1e4f, .scale = i % 5 == 0 ? 0.25f : 1.f};
    if (i % 4 == 1) {
      for (int k = 0; k < dims / 2; ++k) options.freqs.push_back(float(std::pow(3.0, k)) + 0.5f);
    }
    if (i % 4 == 2) options.magnitude = 1.3f;
    const Rope r(options);
    const auto x = elsewhere(random({between(1, 3), between(1, 6), between(1, 4), size}), i % 4);
    const int offset = i % 2 ? between(0, 100) : 0;
    expect_same([&] { return rope(x, r, offset); }, 1e-4f, fmt::format("dims {} of {}, case {}", dims, size, i));
  }
}

TEST_F(Attention, rope_wavelengths_may_be_infinite) {
  Rope::Options options{.dims = 4};
  options.freqs = {1.f, INFINITY};
  const auto x = random({1, 3, 1, 4});
  expect_same([&] { return rope(x, Rope(options), 5); }, 1e-5f, "a pair that does not rotate");
}

TEST_F(Attention, write_rows) {
  for (int i = 0; i < 40; ++i) {
    const int batch = between(1, 2), heads = between(1, 3), size = between(1, 40), capacity = between(4, 12);
    const int length = between(1, capacity), position = between(0, capacity - length);
    const auto dtype = kTypes[i % 3];
    const auto keys = random({batch, heads, capacity, size}, dtype), values = random(keys.shape(), dtype);
    const auto new_keys = elsewhere(random({batch, length, heads, size}, i % 2 ? mx::float32 : dtype), i % 4),
               new_values = elsewhere(random({batch, length, heads, size}), i / 4 % 4);
    // The kernels write into the buffers that they are given, so each run gets its own.
    const auto run = [&](int which) {
      return [&, which] {
        auto k = mx::copy(keys), v = mx::copy(values);
        mx::eval(k, v);
        auto written = write_rows(k, v, new_keys, new_values, position);
        return which == 0 ? written.first : written.second;
      };
    };
    for (int which : {0, 1}) {
      const auto ours = by(Backend::kernels, run(which)), theirs = by(Backend::mlx, run(which));
      EXPECT_EQ(ours.dtype(), dtype);
      EXPECT_EQ(theirs.dtype(), dtype);
      EXPECT_TRUE(mx::array_equal(ours, theirs).item<bool>()) << "case " << i;
    }
  }
}

TEST_F(Attention, attention) {
  for (int i = 0; i < 120; ++i) {
    const int batch = between(1, 2), kv_heads = between(1, 3), heads = kv_heads * between(1, 4);
    const int size = i % 3 == 0 ? 64 : between(1, 40), length = between(1, i % 10 == 0 ? 300 : 30);
    const int queries = i % 2 ? 1 : between(1, length), capacity = length + between(0, 5);
    Span span{.length = length, .start = length - queries, .window = i % 4 == 3 ? between(1, length + 2) : 0};
    if (i % 7 == 6) span.length = std::min(length, span.start + 1);  // the later queries see no more than the first
    const auto q = elsewhere(random({batch, queries, heads, size}), i % 4);
    const auto type = kTypes[i % 3];
    const auto keys = elsewhere(random({batch, kv_heads, capacity, size}, type), i / 4 % 4),
               values = elsewhere(random({batch, kv_heads, capacity, size}, type), i / 2 % 4);
    if (span.window > 0 && span.window < queries && span.length < length) continue;  // a query would see nothing
    expect_same([&] { return attention(q, keys, values, span, 0.37f); }, 3e-5f,
                fmt::format("case {}: {} heads over {}, {} of {} rows, window {}", i, heads, kv_heads, queries, length,
                            span.window));
  }
}

TEST_F(Attention, attention_with_softcap_sinks_and_values_of_another_size) {
  for (int i = 0; i < 60; ++i) {
    const int kv_heads = between(1, 3), heads = kv_heads * between(1, 4), size = between(1, 100);
    const int queries = between(1, 30), length = queries + between(0, 40), value_size = i % 3 ? size : between(1, 60);
    const auto type = kTypes[i % 3];
    const auto q = elsewhere(random({2, queries, heads, size}), i % 4);
    const auto keys = random({2, kv_heads, length + 5, size}, type),
               values = random({2, kv_heads, length + 5, value_size}, type);
    AttentionOptions options;
    if (i % 2) options.softcap = i % 4 == 1 ? 1.5f : 30.f;
    if (i % 5 > 1) options.sinks = random({heads}, kTypes[i / 3 % 3]);
    const Span span{.length = length, .start = length - queries, .window = i % 7 == 0 ? 9 : 0};
    expect_same([&] { return attention(q, keys, values, span, 0.3f, options); }, 3e-5f,
                fmt::format("case {}: {} heads over {}, {} of {} rows, sizes {} and {}, softcap {}", i, heads, kv_heads,
                            queries, length, size, value_size, options.softcap));
  }
}

TEST_F(Attention, attention_takes_half_precision_queries) {
  for (auto type : {mx::float16, mx::bfloat16}) {
    const auto q = random({1, 3, 4, 16}, type), keys = random({1, 2, 5, 16}, type),
               values = random({1, 2, 5, 16}, type);
    const Span span{.length = 5, .start = 2};
    const auto ours = by(Backend::kernels, [&] { return attention(q, keys, values, span, 0.25f); });
    const auto wanted =
        by(Backend::mlx, [&] { return attention(mx::astype(q, mx::float32), keys, values, span, 0.25f); });
    EXPECT_LT(difference(ours, wanted), 1e-5);
    EXPECT_EQ(by(Backend::mlx, [&] { return attention(q, keys, values, span, 0.25f); }).dtype(), type);
  }
}

// Rows past the length in use may hold anything.
TEST_F(Attention, attention_does_not_look_past_its_span) {
  const auto q = random({1, 2, 2, 8});
  const auto keys = random({1, 1, 6, 8}), values = random({1, 1, 6, 8});
  const auto used = mx::reshape(mx::arange(6) < mx::array(4), {1, 1, 6, 1});
  const auto bad_keys = mx::where(used, keys, mx::array(NAN)), bad_values = mx::where(used, values, mx::array(NAN));
  const Span span{.length = 4, .start = 2};
  for (auto backend : {Backend::kernels, Backend::mlx}) {
    const auto clean = by(backend, [&] { return attention(q, keys, values, span, 1); });
    const auto dirty = by(backend, [&] { return attention(q, bad_keys, bad_values, span, 1); });
    EXPECT_TRUE(mx::array_equal(clean, dirty).item<bool>());
  }
}

// A run of each row of a batch that lies in two buffers.
TEST_F(Attention, runs_in_several_buffers) {
  for (auto backend : {Backend::kernels, Backend::mlx}) {
    set_backend(backend);
    const auto q = random({2, 7, 6, 64}), k = random({2, 7, 2, 64}), v = random({2, 7, 2, 64});
    const auto part = [](const mx::array& x, int b, int begin, int n) {
      return mx::slice(x, {b, begin, 0, 0}, {b + 1, begin + n, x.shape(2), x.shape(3)});
    };
    for (const KVFormat& format : {KVFormat{}, KVFormat{8, 64}}) {
      const auto fresh = [&](int batch, int rows) {
        auto buffer = KVBuffer::zeros(batch, 2, rows, 64, mx::float16, format);
        for (mx::array* array : buffer.arrays()) array->eval();
        return buffer;
      };
      const auto attended = [&](const mx::array& q, const mx::array& k, const mx::array& v,
                                const std::vector<int>& tokens) {
        std::vector<KVBuffer> keys, values;
        std::vector<KVSlot> slots;
        for (int n : tokens) keys.push_back(fresh(q.shape(0), n + 3)), values.push_back(fresh(q.shape(0), n + 3));
        for (size_t i = 0; i < tokens.size(); ++i) slots.push_back({&keys[i], &values[i], tokens[i], 0});
        write_rows(slots, k, v);
        KVView seen;
        for (size_t i = 0; i < tokens.size(); ++i)
          seen.push_back({keys[i], values[i], tokens[i], {.length = tokens[i], .start = 0, .window = 0}});
        return attention(q, seen, 0.2f);
      };
      const auto all = attended(q, k, v, {4, 3});
      for (int b : {0, 1}) {
        for (auto [begin, n] : {std::pair(0, 4), {4, 3}}) {
          const auto alone = attended(part(q, b, begin, n), part(k, b, begin, n), part(v, b, begin, n), {n});
          EXPECT_LT(difference(part(all, b, begin, n), alone), 1e-5) << "row " << b << ", from " << begin;
        }
      }
    }
  }
}

// Several texts in one step, each as it would be alone.
TEST_F(Attention, runs_of_several_texts) {
  const Rope rotation({.dims = 8});
  for (auto backend : {Backend::kernels, Backend::mlx}) {
    set_backend(backend);
    for (const auto& runs : {Runs{{1, 7}, {1, 200}, {1, 0}}, Runs{{5, 0}, {1, 300}, {40, 17}}, Runs{{2, 3}}}) {
      int total = 0;
      for (const auto& run : runs) total += run.tokens;
      const auto q = random({1, total, 6, 8}), k = random({1, total, 2, 8}), v = random({1, total, 2, 10});
      const auto part = [](const mx::array& x, int begin, int n) {
        auto stop = x.shape();
        stop[1] = begin + n;
        return mx::slice(x, {0, begin, 0, 0}, stop);
      };
      std::vector<mx::array> keys, values, alone;
      for (const auto& run : runs) {
        const int capacity = run.position + run.tokens + between(0, 9);
        keys.push_back(random({1, 2, capacity, 8}, mx::float16));
        values.push_back(random({1, 2, capacity, 10}, mx::float16));
        mx::eval(keys.back(), values.back());
      }
      const auto fresh = [](const mx::array& x) {
        auto copy = mx::concatenate({x, mx::zeros({1, 2, 1, x.shape(3)}, x.dtype())}, 2);
        copy.eval();
        return copy;
      };
      const auto span_of = [](const ops::Run& run, int window) {
        return Span{.length = run.position + run.tokens, .start = run.position, .window = window};
      };
      for (int window : {0, 20}) {
        std::vector<KVBuffer> all_keys, all_values;
        std::vector<KVSlot> slots;
        for (size_t i = 0; i < runs.size(); ++i)
          all_keys.push_back(fresh(keys[i])), all_values.push_back(fresh(values[i]));
        for (size_t i = 0; i < runs.size(); ++i) {
          slots.push_back({&all_keys[i], &all_values[i], runs[i].tokens, runs[i].position});
        }
        write_rows(slots, rope(k, rotation, runs), v);
        KVView seen;
        for (size_t i = 0; i < runs.size(); ++i) {
          seen.push_back({all_keys[i], all_values[i], runs[i].tokens, span_of(runs[i], window)});
        }
        const auto all = attention(rope(q, rotation, runs), seen, 0.4f);
        int at = 0;
        for (size_t i = 0; i < runs.size(); at += runs[i].tokens, ++i) {
          const auto [tokens, position] = runs[i];
          auto [own_keys, own_values] =
              write_rows(fresh(keys[i]), fresh(values[i]), rope(part(k, at, tokens), rotation, position),
                         part(v, at, tokens), position);
          const auto one = attention(rope(part(q, at, tokens), rotation, position), own_keys, own_values,
                                     span_of(runs[i], window), 0.4f);
          EXPECT_EQ(difference(part(all, at, tokens), one), 0)
              << "run " << i << " of " << runs.size() << ", window " << window;
          EXPECT_EQ(difference(all_keys[i].data, own_keys), 0);
          EXPECT_EQ(difference(all_values[i].data, own_values), 0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mlx_lm::ops
