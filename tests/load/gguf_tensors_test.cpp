#include "mlx_lm/load/gguf_tensors.h"

#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/load/gguf_blocks.h"

#include "tests/load/temp_folder.h"
#include "tests/load/tiny_gguf.h"

namespace mlx_lm {
namespace {

namespace mx = mlx::core;

class GgufTensorsTest : public testing::Test {
 protected:
  GgufTensorsTest() { mx::set_default_device(mx::Device::cpu); }

  std::map<std::string, nn::StoredTensor> list(const GgufWriter& writer) {
    return gguf_tensors(GgufFile::open(folder_.write("m.gguf", writer.build())));
  }

  static std::vector<float> numbers(const nn::StoredTensor& tensor) {
    auto array = tensor.read();
    EXPECT_EQ(array.shape(), tensor.shape);
    EXPECT_EQ(array.dtype(), tensor.dtype);
    array = mx::contiguous(mx::astype(array, mx::float32));
    array.eval();
    return {array.data<float>(), array.data<float>() + array.size()};
  }

  TempFolder folder_;
};

// Row i of a head holds what GGUF has at 2 (i % half) + i / half.
std::vector<float> taken_apart(int rows, int head_rows, int cols) {
  std::vector<float> out;
  for (int row = 0; row < rows; ++row) {
    int in = row % head_rows, half = head_rows / 2, source = row - in + 2 * (in % half) + in / half;
    for (int i = 0; i < cols; ++i) out.push_back(float(source * cols + i));
  }
  return out;
}

TEST_F(GgufTensorsTest, UseTheNamesOfACheckpoint) {
  auto w = tiny_gguf();
  w.add_f32("output.weight", {8, 6}, counting(48)).add_f32("rope_freqs.weight", {2}, {1, 2});
  w.add_f32("blk.1.ffn_gate.weight", {8, 12}, counting(96)).add_f32("blk.1.ffn_norm.weight", {8}, counting(8));
  w.add_f32("something.else", {8}, counting(8)).add_f32("blk.x.attn_q.weight", {8}, counting(8));
  auto tensors = list(w);
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                           "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.v_proj.weight",
                           "model.layers.1.input_layernorm.weight", "model.layers.1.mlp.gate_proj.weight",
                           "model.layers.1.post_attention_layernorm.weight", "something.else", "blk.x.attn_q.weight"}) {
    EXPECT_TRUE(tensors.contains(name)) << name;
  }
  EXPECT_FALSE(tensors.contains("rope_freqs.weight"));
  EXPECT_EQ(tensors.size(), 15u);
}

TEST_F(GgufTensorsTest, TakeTheHalvesOfLlamasHeadsApart) {
  auto tensors = list(tiny_gguf("llama"));
  EXPECT_EQ(numbers(tensors.at("model.layers.0.self_attn.q_proj.weight")), taken_apart(8, 4, 8));
  EXPECT_EQ(numbers(tensors.at("model.layers.0.self_attn.k_proj.weight")), taken_apart(4, 4, 8));
  EXPECT_EQ(numbers(tensors.at("model.layers.0.self_attn.v_proj.weight")), counting(32));
  auto others = list(tiny_gguf("qwen2"));
  EXPECT_EQ(numbers(others.at("model.layers.0.self_attn.q_proj.weight")), counting(64));
}

TEST_F(GgufTensorsTest, TakeTheHalvesOfBiasesApart) {
  auto w = tiny_gguf();
  w.add_f32("blk.0.attn_q.bias", {8}, counting(8));
  EXPECT_EQ(numbers(list(w).at("model.layers.0.self_attn.q_proj.bias")), taken_apart(8, 4, 1));
}

TEST_F(GgufTensorsTest, ConvertQuantizedMatricesOnce) {
  auto w = tiny_gguf();
  std::mt19937 random(3);
  const int rows = 8, cols = 64;
  std::string blocks(rows * cols / 32 * 34, '\0');  // Q8_0
  for (char& byte : blocks) byte = char(random());
  for (size_t i = 0; i < blocks.size(); i += 34) blocks[i + 1] = 0x2c;
  w.tensors[2].dimensions = {cols, rows};  // blk.0.attn_q.weight
  w.tensors[2].type = 8;
  w.tensors[2].data = blocks;
  for (int first : {0, 1, 2}) {  // whichever is read first
    auto tensors = list(w);
    const std::string stem = "model.layers.0.self_attn.q_proj.";
    const char* parts[] = {"weight", "scales", "biases"};
    std::map<std::string, mx::array> read;
    for (int i = 0; i < 3; ++i) {
      const char* part = parts[(first + i) % 3];
      const auto& tensor = tensors.at(stem + part);
      auto array = tensor.read();
      EXPECT_EQ(array.shape(), tensor.shape);
      EXPECT_EQ(array.dtype(), tensor.dtype);
      read.emplace(part, array);
    }
    EXPECT_EQ(read.at("weight").shape(), (mx::Shape{8, 16}));
    EXPECT_EQ(read.at("scales").shape(), (mx::Shape{8, 2}));
    auto values = mx::dequantize(mx::view(read.at("weight"), mx::uint32), mx::astype(read.at("scales"), mx::float32),
                                 mx::astype(read.at("biases"), mx::float32), 32, 8);
    values.eval();
    auto order = taken_apart(rows, 4, 1);
    for (int row = 0; row < rows; ++row) {
      for (int i = 0; i < cols; ++i) {
        const char* block = blocks.data() + (int(order[size_t(row)]) * 2 + i / 32) * 34;
        float scale = 0.0625f * (1 + float(uint8_t(block[0])) / 1024);
        EXPECT_EQ(values.data<float>()[row * cols + i], scale * float(int8_t(block[2 + i % 32])));
      }
    }
  }
}

// Every type, packed from its rows and by way of MLX's arrays, with q_proj's halves taken apart.
TEST_F(GgufTensorsTest, RowsPackAsTheArraysDo) {
  const struct {
    uint32_t type;
    int block, bytes, half;  // half: where a float16 is
  } types[] = {{2, 32, 18, 0},    {3, 32, 20, 0},      {6, 32, 22, 0},      {7, 32, 24, 0},
               {8, 32, 34, 0},    {10, 256, 84, 80},   {11, 256, 110, 108}, {12, 256, 144, 0},
               {13, 256, 176, 0}, {14, 256, 210, 208}, {20, 32, 18, 0},     {23, 256, 136, 0}};
  std::mt19937 random(5);
  const int rows = 88, cols = 512;
  for (const auto& t : types) {
    SCOPED_TRACE(t.type);
    std::string blocks(size_t(rows * cols / t.block * t.bytes), '\0');
    for (char& byte : blocks) byte = char(random());
    for (size_t at = size_t(t.half); at < blocks.size(); at += size_t(t.bytes)) blocks[at + 1] = 0x2c;
    for (const char* name : {"q_proj", "o_proj"}) {
      GgufWriter w;
      w.add("general.architecture", "llama").add("llama.attention.head_count", uint32_t(11));
      w.tensors.push_back(
          {*name == 'q' ? "blk.0.attn_q.weight" : "blk.0.attn_output.weight", {cols, rows}, t.type, blocks, {}, {}});
      const std::string stem = std::string("model.layers.0.self_attn.") + name;
      auto tensors = list(w), again = list(w);
      const auto source = tensors.at(stem + ".weight").rows();
      const auto expected =
          ops::Matrix::quantized(again.at(stem + ".weight").read(), again.at(stem + ".scales").read(),
                                 again.at(stem + ".biases").read(), {.group_size = 32, .bits = source.bits});
      const auto found = ops::Matrix::quantized(source);
      EXPECT_EQ(found.dtype(), expected.dtype());
      const auto ids = mx::arange(rows);
      EXPECT_TRUE(mx::array_equal(mx::view(ops::take_rows(found, ids), mx::uint32),
                                  mx::view(ops::take_rows(expected, ids), mx::uint32))
                      .item<bool>());
    }
  }
}

TEST_F(GgufTensorsTest, WidenScalesWhoseBiasesFloat16CannotHold) {
  GgufWriter w;
  w.add("general.architecture", "qwen2");
  std::string block(34, '\x05');
  block[0] = 0, block[1] = 0x70;  // 8192
  w.tensors.push_back({"output.weight", {32, 1}, 8, block, {}, {}});
  auto tensors = list(w);
  EXPECT_EQ(tensors.at("lm_head.scales").read().dtype(), mx::float32);
  auto biases = tensors.at("lm_head.biases").read();
  EXPECT_EQ(biases.item<float>(), -128.f * 8192);
  EXPECT_EQ(ops::Matrix::quantized(list(w).at("lm_head.weight").rows()).dtype(), mx::float32);
}

TEST_F(GgufTensorsTest, TakeTheOneOutOfGemmasNorms) {
  GgufWriter w;
  w.add("general.architecture", "gemma3");
  w.add_f32("output_norm.weight", {3}, {1, 2, 0.5f}).add_f32("blk.0.ffn_norm.weight", {1}, {1});
  auto tensors = list(w);
  EXPECT_EQ(numbers(tensors.at("model.norm.weight")), (std::vector<float>{0, 1, -0.5f}));
  EXPECT_TRUE(tensors.contains("model.layers.0.pre_feedforward_layernorm.weight"));
}

TEST_F(GgufTensorsTest, RefuseWhatTheyCannotRead) {
  GgufWriter none;
  EXPECT_THROW(list(none), WeightError);
  GgufWriter other;
  other.add("general.architecture", "clip");
  EXPECT_THROW(list(other), UnsupportedModel);
  auto type = tiny_gguf();
  type.tensors.push_back({"x.weight", {256}, 16, std::string(66, 'x'), {}, {}});
  try {
    list(type);
    ADD_FAILURE();
  } catch (const UnsupportedModel& error) {
    EXPECT_NE(std::string(error.what()).find("IQ2_XXS"), std::string::npos);
  }
  auto twice = tiny_gguf();
  twice.add_f32("model.norm.weight", {8}, counting(8));
  EXPECT_THROW(list(twice), WeightError);
}

TEST_F(GgufTensorsTest, RefuseRowsThatAreNoHeads) {
  for (uint32_t heads : {0u, 3u, 8u, 9u, 0x80000000u, 0xffffffffu}) {
    GgufWriter w;
    w.add("general.architecture", "llama").add("llama.attention.head_count", heads);
    w.add_f32("blk.0.attn_q.weight", {8, 8}, counting(64));
    EXPECT_THROW(list(w), WeightError) << heads;
  }
  GgufWriter w;
  w.add("general.architecture", "llama").add_f32("blk.0.attn_k.weight", {8, 8}, counting(64));
  EXPECT_THROW(list(w), WeightError);
}

}  // namespace
}  // namespace mlx_lm
