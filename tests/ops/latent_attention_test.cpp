// Latent attention against attention over keys that are put together first, and products of heads.
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/ops/attention.h"
#include "mlx_lm/ops/experts.h"

#include "tests/ops/both_backends.h"

namespace mlx_lm::ops {
namespace {

class LatentAttentionTest : public BothBackends {
 protected:
  struct Shape {
    int batch, queries, heads, dim, tail, length, capacity;
  };

  void expect_as_one(const Shape& s, mx::Dtype dtype, const KVFormat& format) {
    SCOPED_TRACE(fmt::format("{} queries, {} heads, {} keys, {} bits", s.queries, s.heads, s.length, format.bits));
    const auto q = random({s.batch, s.queries, s.heads, s.dim}), q_tail = random({s.batch, s.queries, s.heads, s.tail});
    const auto latents = random({s.batch, 1, s.capacity, s.dim}, dtype),
               tails = random({s.batch, 1, s.capacity, s.tail}, dtype);
    KVBuffer keys(latents), values(tails);
    auto plain_latents = latents, plain_tails = tails;
    if (format.quantized()) {
      keys = quantized(keys, format), values = quantized(values, format);
      const auto numbers = [&](const KVBuffer& b) {
        return mx::astype(mx::dequantize(b.data, *b.scales, b.biases, format.group_size, format.bits), mx::float32);
      };
      plain_latents = numbers(keys), plain_tails = numbers(values);
    }
    const Span span{s.length, s.length - s.queries, 0};
    const auto wanted = by(Backend::kernels, [&] {
      return attention(mx::concatenate({q, q_tail}, -1), mx::concatenate({plain_latents, plain_tails}, -1),
                       plain_latents, span, 0.2f);
    });
    for (auto backend : {Backend::kernels, Backend::mlx}) {
      const auto found = by(backend, [&] {
        return attention(q, KVView{{keys, values, s.queries, span}}, 0.2f,
                         {.softcap = 0, .sinks = {}, .q_tail = q_tail});
      });
      ASSERT_EQ(found.shape(), wanted.shape());
      EXPECT_LT(difference(found, wanted), 2e-5f) << "backend " << int(backend);
    }
  }
};

TEST_F(LatentAttentionTest, is_attention_over_both_parts) {
  for (auto dtype : {mx::float32, mx::float16}) {
    for (const Shape& s : {Shape{1, 1, 4, 32, 8, 9, 16},
                           {1, 1, 20, 40, 6, 700, 768},
                           {2, 1, 3, 24, 4, 65, 70},
                           {1, 5, 4, 32, 8, 9, 16},
                           {2, 30, 20, 64, 16, 130, 256},
                           {1, 3, 128, 16, 8, 70, 70}}) {
      expect_as_one(s, dtype, {});
    }
  }
}

TEST_F(LatentAttentionTest, of_quantized_rows) {
  expect_as_one({1, 1, 4, 64, 32, 100, 128}, mx::float32, {.bits = 8, .group_size = 32});
  expect_as_one({1, 6, 20, 64, 32, 100, 128}, mx::float32, {.bits = 4, .group_size = 32});
}

TEST_F(LatentAttentionTest, of_several_texts) {
  const auto q = random({1, 3, 4, 16}), tail = random({1, 3, 4, 8});
  const auto keys = random({1, 1, 12, 16}), values = random({1, 1, 12, 8});
  const auto part = [](const mx::array& x, int begin, int end) {
    return mx::slice(x, {0, begin, 0, 0}, {1, end, x.shape(2), x.shape(3)});
  };
  expect_same(
      [&] {
        const KVView seen{{keys, values, 2, {7, 5, 0}}, {keys, values, 1, {12, 11, 0}}};
        return attention(q, seen, 0.3f, {.softcap = 0, .sinks = {}, .q_tail = tail});
      },
      1e-5f, "two texts");
  const KVView seen{{keys, values, 2, {7, 5, 0}}, {keys, values, 1, {12, 11, 0}}};
  const auto both = attention(q, seen, 0.3f, {.softcap = 0, .sinks = {}, .q_tail = tail});
  const auto alone =
      attention(part(q, 2, 3), KVView{seen[1]}, 0.3f, {.softcap = 0, .sinks = {}, .q_tail = part(tail, 2, 3)});
  EXPECT_LT(difference(part(both, 2, 3), alone), 1e-6f);
}

// Rotated in the step itself, as the models have it.
TEST_F(LatentAttentionTest, rotates_the_tail) {
  const Rope turn({.dims = 8, .traditional = true});
  const auto q = random({1, 2, 4, 16}), tail = random({1, 2, 4, 8});
  const auto keys = random({1, 1, 9, 16}), values = random({1, 1, 9, 8});
  expect_same(
      [&] {
        return attention(q, KVView{{keys, values, 2, {9, 7, 0}}}, 0.3f,
                         {.softcap = 0, .sinks = {}, .q_tail = rope(tail, turn, 7)});
      },
      1e-5f, "rotated");
}

TEST_F(LatentAttentionTest, products_of_heads) {
  kernels::set_activations(kernels::Activations::float32);
  constexpr int kHeads = 5;
  const auto weight = random({kHeads, 24, 64});
  for (bool packed : {false, true}) {
    auto exact = weight;
    const auto parts = mx::quantize(weight, 32, 4);
    if (packed) exact = mx::dequantize(parts[0], parts[1], parts[2], 32, 4);
    for (int heads : {1, kHeads}) {
      const auto x = random({2, 7, heads, 64});
      const auto wanted = mx::swapaxes(mx::matmul(mx::swapaxes(x, 1, 2), mx::swapaxes(exact, -1, -2)), 1, 2);
      for (auto backend : {Backend::kernels, Backend::mlx}) {
        set_backend(backend);
        const auto w = packed ? ExpertMatrices::quantized(parts[0], parts[1], parts[2], {32, 4, "affine"})
                              : ExpertMatrices::dense(weight);
        const auto y = head_matmul(x, w);
        ASSERT_EQ(y.shape(), (mx::Shape{2, 7, kHeads, 24}));
        EXPECT_LT(difference(y, wanted), 1e-4f);
        EXPECT_LT(difference(dequantized(w), exact), 1e-6f);
        EXPECT_THROW(head_matmul(random({2, 7, 2, 64}), w), std::invalid_argument);
        EXPECT_THROW(head_matmul(random({2, 7, heads, 63}), w), std::invalid_argument);
      }
    }
  }
  kernels::set_activations(kernels::Activations::int16);
}

}  // namespace
}  // namespace mlx_lm::ops
