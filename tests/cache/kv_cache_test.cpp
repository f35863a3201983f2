// What all caches of keys and values have: their quantized form.
#include "mlx_lm/cache/kv_cache.h"

#include <functional>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/batch.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/ops/backend.h"

#include "tests/cache/cache_case.h"

namespace mlx_lm::cache {
namespace {

constexpr ops::KVFormat k8{8, 64}, k4{4, 32};

// Random rows (1, n, 2, 64).
mx::array rows(int n, int seed) { return mx::random::normal({1, n, 2, 64}, mx::float32, mx::random::key(seed)); }

mx::array numbers(const ops::KVBuffer& buffer) {
  if (!buffer.format.quantized()) return buffer.data;
  return mx::dequantize(buffer.data, *buffer.scales, buffer.biases, buffer.format.group_size, buffer.format.bits);
}

float difference(const mx::array& a, const mx::array& b) {
  return mx::max(mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32))).item<float>();
}

// A quantized cache holds what mx::quantize makes of the rows of a floating-point one, whatever happens to both.
void check_like_floats(const std::function<std::unique_ptr<KVCache>()>& make, const ops::KVFormat& format,
                       const std::vector<int>& steps, int convert_after) {
  for (auto backend : {ops::Backend::kernels, ops::Backend::mlx}) {
    ops::set_backend(backend);
    auto plain = make(), quantized = make();
    int seed = 0;
    for (int n : steps) {
      if (seed == convert_after) quantized->quantize(format);
      ++seed;
      if (n < 0) {
        EXPECT_EQ(plain->trim(-n), quantized->trim(-n));
        continue;
      }
      const auto k = rows(n, 2 * seed), v = rows(n, 2 * seed + 1);
      const auto wanted = plain->update(k, v, 0).at(0), found = quantized->update(k, v, 0).at(0);
      ASSERT_EQ(found.keys.format, seed > convert_after ? format : ops::KVFormat{});
      EXPECT_EQ(found.span.length, wanted.span.length);
      EXPECT_EQ(found.span.start, wanted.span.start);
      EXPECT_EQ(found.span.window, wanted.span.window);
      mx::eval(plain->state());
      mx::eval(quantized->state());
      if (seed <= convert_after) continue;
      for (auto part : {&ops::KVSegment::keys, &ops::KVSegment::values}) {
        const auto used = [&](const mx::array& array) {
          auto stop = array.shape();
          stop[2] = wanted.span.length;
          return mx::slice(array, {0, 0, 0, 0}, stop);
        };
        const auto expected = ops::quantized(used((wanted.*part).data), format);
        EXPECT_TRUE(mx::array_equal(used((found.*part).data), expected.data).item<bool>()) << "step " << seed;
        EXPECT_TRUE(mx::array_equal(used(*(found.*part).scales), *expected.scales).item<bool>());
        EXPECT_TRUE(mx::array_equal(used(*(found.*part).biases), *expected.biases).item<bool>());
      }
    }
    EXPECT_EQ(plain->offset(), quantized->offset());
    if (format == k8) {
      EXPECT_NEAR(double(quantized->nbytes()) / double(plain->nbytes()), (64 + 4) / 128., 1e-9);
    }
  }
  ops::set_backend(ops::Backend::kernels);
}

TEST(KVCache, grows_quantized) {
  for (auto dtype : {mx::float16, mx::bfloat16, mx::float32}) {
    const auto make = [&] { return std::make_unique<GrowingKVCache>(dtype); };
    for (int after : {0, 1, 3}) {
      check_like_floats(make, dtype == mx::float32 ? k4 : k8, {5, 1, 1, 250, 1, -3, 2, 300, 1}, after);
    }
  }
  check_like_floats([] { return std::make_unique<GrowingKVCache>(mx::float16); }, {3, 64}, {5, 1, 300}, 1);
}

TEST(KVCache, rotates_quantized) {
  for (int keep : {0, 4}) {
    const auto make = [&] { return std::make_unique<RotatingKVCache>(mx::float16, 16, keep); };
    for (int after : {0, 1, 4}) check_like_floats(make, k4, {5, 1, 20, 1, 1, 1, 7, -3, 1, 1, 40, 1}, after);
    check_like_floats(make, k8, std::vector<int>(40, 1), 20);
  }
}

TEST(KVCache, texts_of_a_batch_may_be_quantized) {
  std::vector<KVCaches> texts(3);
  for (auto& text : texts) text.push_back(std::make_unique<GrowingKVCache>(mx::float16));
  kv(*texts[1][0]).quantize(k8);
  const std::vector<BatchMember> members{{&texts[0], 2}, {&texts[1], 1}, {&texts[2], 3}};
  const auto x = rows(6, 1);
  kv(*batched(members)[0]).update(x, x, 0);
  kv(*texts[2][0]).quantize(k4);
  const auto view = kv(*batched(members)[0]).update(x, x, 0);
  EXPECT_FALSE(view[0].keys.format.quantized());
  EXPECT_EQ(view[1].keys.format, k8);
  EXPECT_EQ(view[2].keys.format, k4);
  EXPECT_EQ(batched(members)[0]->arrays().size(), 2u + 6 + 6);
  EXPECT_LT(difference(mx::slice(numbers(view[1].keys), {0, 0, 0, 0}, {1, 2, 1, 64}),
                       mx::swapaxes(mx::slice(x, {0, 2, 0, 0}, {1, 3, 2, 64}), 1, 2)),
            0.02f);
}

TEST(KVCache, a_quantized_copy_goes_on_by_itself) {
  GrowingKVCache cache(mx::float16);
  cache.update(rows(10, 1), rows(10, 2), 0);
  cache.quantize(k8);
  const auto copied = cache.copy();
  auto& copy = kv(*copied);
  EXPECT_EQ(copy.format(), k8);
  EXPECT_EQ(copy.state()[0].shape(2), 10);
  auto before = mx::copy(copy.state()[0]);
  before.eval();
  cache.trim(5);
  cache.update(rows(3, 3), rows(3, 4), 0);
  mx::eval(cache.state());
  EXPECT_TRUE(mx::array_equal(before, copy.state()[0]).item<bool>());
}

TEST(KVCache, refuses_a_format_that_does_not_fit) {
  const auto message = [](KVCache& cache, const ops::KVFormat& format) -> std::string {
    try {
      cache.quantize(format);
    } catch (const RequestError& error) {
      return error.what();
    }
    return "";
  };
  GrowingKVCache cache(mx::float16);
  EXPECT_EQ(message(cache, {9, 64}), "[cache] kv-bits: expected 2, 3, 4, 5, 6 or 8, found 9");
  cache.update(rows(2, 1), rows(2, 2), 0);
  EXPECT_EQ(message(cache, {8, 128}),
            "[cache] kv-group-size: expected a divisor of the head size of this model, 64, found 128");
  EXPECT_EQ(message(cache, k8), "");
  EXPECT_EQ(message(cache, k8), "") << "again";
  EXPECT_EQ(message(cache, k4), "[cache] kv-bits: expected 8 by groups of 64, which the cache has, found 4 by 32");
  GrowingKVCache empty(mx::float16);
  EXPECT_EQ(message(empty, {8, 128}), "") << "nothing is known of the heads yet";
  EXPECT_THROW(empty.update(rows(2, 1), rows(2, 2), 0), RequestError);
}

}  // namespace
}  // namespace mlx_lm::cache
