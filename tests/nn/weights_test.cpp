#include "mlx_lm/nn/weights.h"

#include <cstring>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/backend.h"

#include "tests/nn/store.h"

namespace mlx_lm::nn {
namespace {

template <class E = WeightError, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing thrown";
}

// What the matrix holds, row by row.
mx::array rows_of(const ops::Matrix& m) { return ops::take_rows(m, mx::arange(m.rows())); }

TEST(Weights, takes_by_path) {
  const auto w = store({{"model.layers.0.norm.weight", random({4})}, {"model.proj.weight", random({3, 5})}});
  const auto model = w / "model";
  EXPECT_TRUE((model / "layers" / 0 / "norm").has("weight"));
  EXPECT_FALSE((model / "layers" / 1 / "norm").has("weight"));
  EXPECT_EQ((model / "layers" / 0 / "norm").take_vector("weight", 4).shape(), mx::Shape{4});
  const auto matrix = (model / "proj").take_matrix(3, 5);
  EXPECT_EQ(matrix.rows(), 3);
  EXPECT_EQ(matrix.cols(), 5);
  EXPECT_EQ(difference(rows_of(matrix), random({3, 5})), 0);
  w.expect_all_taken();
}

TEST(Weights, counts_what_is_taken) {
  ops::set_backend(ops::Backend::kernels);
  Arrays arrays{
      {"norm.weight", random({4})}, {"head.weight", random({6, 32}, mx::float16)}, {"table.weight", random({9, 32})}};
  add_quantized(arrays, "a", random({8, 64}), {32, 4, "affine"});
  add_quantized(arrays, "b", random({8, 64}, mx::float32, 1), {32, 8, "mxfp8"});
  const auto w = store(arrays, {.common = ops::Quantization{32, 4, "affine"}, .overrides = {}});
  const auto totals = w.totals();
  EXPECT_EQ(totals->parameters(), 0);
  (w / "norm").take_vector("weight", 4);
  (w / "a").take_matrix(8, 64);
  const double mxfp8 = double((w / "b").take_matrix(8, 64).nbytes());
  (w / "head").take_matrix(6, 32, MatrixUse::output);
  (w / "table").take_matrix(9, 32, MatrixUse::table);
  w.expect_all_taken();

  EXPECT_EQ(totals->vectors, 4);
  EXPECT_EQ(totals->layers.rounded, 8 * 64);
  EXPECT_EQ(totals->layers.floating, 8 * 64);
  // Codes of 4 bits with a scale and a bias in float32 for each 32; and mxfp8, whose activations stay as they are.
  EXPECT_EQ(totals->layers.bytes, 8 * 64 / 2 + 8 * 2 * 8 + mxfp8);
  EXPECT_GE(mxfp8, 8 * 64);
  EXPECT_EQ(totals->output.floating, 6 * 32);
  EXPECT_EQ(totals->output.bytes, 6 * 32 * 2);
  EXPECT_EQ(totals->tables.numbers(), 9 * 32);
  EXPECT_EQ(totals->parameters(), 4 + 2 * 8 * 64 + 6 * 32 + 9 * 32);
  EXPECT_EQ(totals->bytes_per_step(), totals->layers.bytes + 6 * 32 * 2);
  w.tie_output();
  EXPECT_EQ(totals->bytes_per_step(), totals->layers.bytes + 9 * 32 * 4);
}

TEST(Weights, names_a_tensor_that_is_missing) {
  const auto w = store({{"a.weight", random({4})}});
  EXPECT_EQ(message_of([&] { (w / "b" / 3).take_vector("weight", 4); }),
            "[weights] b.3.weight: expected a tensor, found nothing, in folder");
  EXPECT_EQ(message_of([&] { (w / "b").take_matrix(2, 2); }),
            "[weights] b.weight: expected a tensor, found nothing, in folder");
  (w / "a").take_vector("weight", 4);
  EXPECT_THROW((w / "a").take_vector("weight", 4), WeightError) << "each is taken once";
}

TEST(Weights, names_a_tensor_of_another_shape) {
  const auto w = store({{"v", random({4})}, {"m.weight", random({3, 5})}, {"n.weight", random({15})}});
  EXPECT_EQ(message_of([&] { w.take_vector("v", 5); }), "[weights] v: expected shape (5), found (4), in folder");
  EXPECT_EQ(message_of([&] { (w / "m").take_matrix(5, 3); }),
            "[weights] m.weight: expected shape (5, 3), found (3, 5), in folder");
  EXPECT_THROW((w / "n").take_matrix(3, 5), WeightError);
}

TEST(Weights, wants_floating_point_numbers) {
  const auto w = store({{"v", mx::zeros({4}, mx::int32)}, {"m.weight", mx::zeros({3, 5}, mx::uint32)}});
  EXPECT_EQ(message_of([&] { w.take_vector("v", 4); }),
            "[weights] v: expected floating-point numbers, found another type, in folder");
  EXPECT_EQ(message_of([&] { (w / "m").take_matrix(3, 5); }),
            "[weights] m.weight: expected floating-point numbers or a quantized weight with scales, found another "
            "type, in folder");
}

TEST(Weights, lists_what_nobody_took) {
  Arrays arrays;
  for (char c = 'a'; c <= 'g'; ++c) arrays.emplace(std::string("extra.") + c, random({1}));
  EXPECT_EQ(message_of([&] { store(arrays).expect_all_taken(); }),
            "[weights] folder: expected only the model's own tensors, found 7 more: extra.a, extra.b, extra.c, "
            "extra.d, extra.e, ...");
  const auto w = store({{"one", random({1})}});
  EXPECT_EQ(message_of([&] { w.expect_all_taken(); }),
            "[weights] folder: expected only the model's own tensors, found 1 more: one");
}

TEST(Weights, ignores_by_the_end_of_the_path_below_its_scope) {
  const auto w = store({{"a.rotary.inv_freq", random({1})},
                        {"b.rotary.inv_freq", random({1})},
                        {"lm_head.weight", random({1})},
                        {"lm_head_norm.weight", random({1})}});
  (w / "a").ignore("inv_freq");
  EXPECT_FALSE(w.has("a.rotary.inv_freq"));
  EXPECT_TRUE(w.has("b.rotary.inv_freq"));
  (w / "lm_head").ignore("");
  EXPECT_FALSE(w.has("lm_head.weight"));
  EXPECT_TRUE(w.has("lm_head_norm.weight")) << "a path ends at a dot";
  w.ignore("inv_freq");
  EXPECT_FALSE(w.has("b.rotary.inv_freq"));
}

TEST(Weights, reads_each_tensor_at_most_once_and_lets_it_go) {
  auto reads = std::make_shared<int>(0);
  std::map<std::string, StoredTensor> tensors;
  for (const char* name : {"a", "b"}) {
    tensors.emplace(name, StoredTensor{{2}, mx::float32, [reads] { return ++*reads, mx::ones({2}); }});
  }
  const Weights w(std::move(tensors), {}, "folder");
  EXPECT_TRUE(w.has("a"));
  EXPECT_THROW(w.take_vector("a", 3), WeightError);
  EXPECT_EQ(*reads, 0) << "shapes are known without reading";
  w.take_vector("a", 2);
  EXPECT_EQ(*reads, 1);
  EXPECT_FALSE(w.has("a"));
  w.ignore("b");
  EXPECT_EQ(*reads, 1);
  EXPECT_EQ(reads.use_count(), 1) << "what was taken is no longer held";
}

TEST(Weights, chooses_the_type_to_compute_in) {
  const auto f16 = random({2}, mx::float16), bf16 = random({2}, mx::bfloat16), f32 = random({2});
  EXPECT_EQ(store({{"a", f32}, {"b", bf16}, {"c", f16}}).dtype(), mx::bfloat16);
  EXPECT_EQ(store({{"a", f32}, {"c", f16}}).dtype(), mx::float16);
  EXPECT_EQ(store({{"a", f32}, {"b", mx::zeros({2}, mx::uint32)}}).dtype(), mx::float32);
  EXPECT_EQ(store({}).dtype(), mx::float32);
  EXPECT_EQ(store({{"b", bf16}}, {}, mx::float32).dtype(), mx::float32) << "as the caller says";
}

TEST(Weights, keeps_vectors_in_the_type_of_the_backend) {
  const auto v = random({4}, mx::float16);
  auto kernels = store({{"v", v}}).take_vector("v", 4);
  EXPECT_EQ(kernels.dtype(), mx::float32);
  EXPECT_EQ(difference(kernels, v), 0);
  ops::set_backend(ops::Backend::mlx);
  EXPECT_EQ(store({{"v", v}}).take_vector("v", 4).dtype(), mx::float16);
  ops::set_backend(ops::Backend::kernels);
}

class QuantizedWeights : public testing::TestWithParam<ops::Quantization> {
 protected:
  const mx::array w_ = random({16, 128});
};

TEST_P(QuantizedWeights, are_taken_where_there_are_scales) {
  const auto q = GetParam();
  Arrays arrays{{"plain.weight", w_}};
  add_quantized(arrays, "q", w_, q);
  const auto parts = mx::quantize(w_, q.group_size, q.bits, q.mode);
  const auto biases = parts.size() > 2 ? std::optional(parts[2]) : std::nullopt;
  const auto wanted = mx::dequantize(parts[0], parts[1], biases, q.group_size, q.bits, q.mode, std::nullopt,
                                     q.mode == "affine" ? mx::float32 : mx::bfloat16);
  // By the common entry, by the path's own, and by the shapes where the common entry is another one.
  const QuantizationConfig by_common{q, {}}, by_path{ops::Quantization{}, {{"q", q}}},
      by_shape{ops::Quantization{128, 3, "affine"}, {}};
  for (const auto& config : {by_common, by_path, by_shape}) {
    const auto w = store(arrays, config);
    EXPECT_LT(difference(rows_of((w / "q").take_matrix(16, 128)), wanted), 1e-5);
    EXPECT_EQ(difference(rows_of((w / "plain").take_matrix(16, 128)), w_), 0) << "no scales, not quantized";
    w.expect_all_taken();
  }
}

TEST_P(QuantizedWeights, must_have_this_layers_shape) {
  const auto q = GetParam();
  Arrays arrays;
  add_quantized(arrays, "q", w_, q);
  const auto take = [&](int rows, int cols, const QuantizationConfig& config) {
    return message_of([&] { (store(arrays, config) / "q").take_matrix(rows, cols); });
  };
  const QuantizationConfig path{std::nullopt, {{"q", q}}};
  EXPECT_NE(take(15, 128, path).find("[weights] q.weight: expected shape (15, 128) packed in"), std::string::npos);
  EXPECT_NE(take(16, 64, path).find("[weights] q.weight: expected"), std::string::npos) << take(16, 64, path);
  EXPECT_NE(take(16, 256, path).find("[weights] q.weight: expected shape (16, 256) packed in"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Kinds, QuantizedWeights,
                         testing::Values(ops::Quantization{32, 4, "affine"}, ops::Quantization{64, 8, "affine"},
                                         ops::Quantization{128, 2, "affine"}, ops::Quantization{64, 6, "affine"},
                                         ops::Quantization{32, 4, "mxfp4"}, ops::Quantization{32, 8, "mxfp8"},
                                         ops::Quantization{16, 4, "nvfp4"}),
                         [](const auto& info) {
                           const auto& q = info.param;
                           return q.mode + "_" + std::to_string(q.bits) + "_" + std::to_string(q.group_size);
                         });

class Damaged : public testing::Test {
 protected:
  Damaged() { add_quantized(arrays_, "q", random({16, 128}), {}); }
  template <class E = WeightError>
  std::string taking(const QuantizationConfig& config = {ops::Quantization{}, {}}) {
    return message_of<E>([&] { (store(arrays_, config) / "q").take_matrix(16, 128); });
  }
  Arrays arrays_;
};

TEST_F(Damaged, scales_without_a_quantization_entry) {
  EXPECT_EQ(taking<UnsupportedModel>({}),
            "[weights] q: expected a `quantization` entry in config.json for its scales, found none, in folder");
}

TEST_F(Damaged, parts_that_are_missing) {
  arrays_.erase("q.biases");
  EXPECT_EQ(taking(), "[weights] q.weight: biases: expected a tensor beside the scales, found nothing, in folder");
  arrays_.erase("q.scales");
  EXPECT_EQ(taking({std::nullopt, {{"q", ops::Quantization{}}}}),
            "[weights] q.scales: expected a tensor, found nothing, in folder");
  arrays_.erase("q.weight");
  EXPECT_EQ(taking(), "[weights] q.weight: expected a tensor, found nothing, in folder");
}

TEST_F(Damaged, scales_and_biases_of_another_shape_or_type) {
  const auto scales = arrays_.at("q.scales"), biases = arrays_.at("q.biases");
  arrays_.insert_or_assign("q.biases", random({16, 3}));
  EXPECT_EQ(taking(), "[weights] q.weight: biases: expected shape (16, 2), found (16, 3), in folder");
  arrays_.insert_or_assign("q.biases", mx::astype(biases, mx::float16));
  EXPECT_EQ(taking(), "[weights] q.weight: biases: its type of number does not fit the quantization, in folder");
  arrays_.insert_or_assign("q.biases", biases);
  for (const auto& bad : {random({15, 2}), random({16}), random({16, 2, 1}), random({16, 0}),
                          mx::zeros({16, 2}, mx::int32), mx::zeros({16, 4}, mx::uint8), random({16, 100})}) {
    arrays_.insert_or_assign("q.scales", bad);
    EXPECT_TRUE(taking().starts_with("[weights] q.weight: ")) << taking();
  }
  arrays_.insert_or_assign("q.scales", scales);
  for (const auto& bad :
       {mx::zeros({16, 16}, mx::int32), random({16, 16}), mx::zeros({16, 0}, mx::uint32), mx::zeros({16}, mx::uint32),
        mx::zeros({16, 16, 1}, mx::uint32), mx::zeros({0, 16}, mx::uint32)}) {
    arrays_.insert_or_assign("q.weight", bad);
    EXPECT_TRUE(taking().starts_with("[weights] q.weight: ")) << taking();
  }
}

TEST_F(Damaged, a_path_that_the_configuration_leaves_unquantized) {
  EXPECT_EQ(taking({ops::Quantization{}, {{"q", std::nullopt}}}),
            "[weights] q.weight: expected shape (16, 128), found (16, 16), in folder");
  arrays_.insert_or_assign("q.weight", random({16, 128}));
  const auto w = store(arrays_, {ops::Quantization{}, {{"q", std::nullopt}}});
  (w / "q").take_matrix(16, 128);
  EXPECT_THROW(w.expect_all_taken(), WeightError) << "its scales are left over";
}

// A weight that can come row by row, as well as in arrays of the same shapes; counts what is asked for.
struct RowsAndArrays {
  std::map<std::string, StoredTensor> tensors() {
    Arrays arrays;
    add_quantized(arrays, "m", random({8, 64}), {32, 8, "affine"});
    auto all = stored(arrays);
    all.at("m.weight").rows = [this]() -> kernels::RowSource {
      ++asked;
      return {8, 64, 8, kernels::Type::f32, [](int row, kernels::Type, uint8_t* codes, void* scales, void* biases) {
                std::memset(codes, row, 64);
                for (int i : {0, 1}) static_cast<float*>(scales)[i] = 1, static_cast<float*>(biases)[i] = 0;
                return true;
              }};
    };
    return all;
  }
  Weights weights() { return Weights(tensors(), {.common = ops::Quantization{32, 8, "affine"}}, "folder"); }
  int asked = 0;
};

TEST(Weights, take_rows_where_the_kernels_repack_them) {
  RowsAndArrays both;
  const auto w = both.weights();
  const auto matrix = (w / "m").take_matrix(8, 64);
  EXPECT_EQ(both.asked, 1);
  const auto expected = mx::broadcast_to(mx::reshape(mx::arange(8.f), {8, 1}), {8, 64});
  EXPECT_EQ(difference(rows_of(matrix), expected), 0);
  w.expect_all_taken();
}

TEST(Weights, take_arrays_where_rows_would_not_do) {
  RowsAndArrays both;
  ops::set_backend(ops::Backend::mlx);
  const auto w = both.weights();
  (w / "m").take_matrix(8, 64);
  w.expect_all_taken();
  ops::set_backend(ops::Backend::kernels);
  for (auto [rows, cols] : {std::pair{4, 64}, {8, 32}, {8, 96}, {16, 32}}) {
    EXPECT_THROW((both.weights() / "m").take_matrix(rows, cols), WeightError) << rows << ", " << cols;
  }
  auto lacking = both.tensors();
  lacking.erase("m.biases");
  EXPECT_THROW((Weights(lacking, {.common = ops::Quantization{32, 8, "affine"}}, "folder") / "m").take_matrix(8, 64),
               WeightError);
  EXPECT_EQ(both.asked, 0);
}

}  // namespace
}  // namespace mlx_lm::nn
