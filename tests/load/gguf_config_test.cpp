#include "mlx_lm/load/gguf_config.h"

#include <gtest/gtest.h>

#include "tests/load/temp_folder.h"
#include "tests/load/tiny_gguf.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

class GgufConfigTest : public testing::Test {
 protected:
  json config(const GgufWriter& writer) {
    return gguf_config(*GgufFile::open(folder_.write("m.gguf", writer.build())));
  }
  TempFolder folder_;
};

TEST_F(GgufConfigTest, SaysWhatConfigJsonWould) {
  auto w = tiny_gguf().add("tokenizer.ggml.bos_token_id", uint32_t(1)).add("tokenizer.ggml.eos_token_id", uint32_t(2));
  EXPECT_EQ(config(w), json::parse(R"({
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12, "hidden_act": "silu",
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 6, "max_position_embeddings": 64,
    "rms_norm_eps": 9.999999747378752e-06, "rope_theta": 500000.0, "tie_word_embeddings": true,
    "attention_bias": false, "mlp_bias": false, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"})"));
}

TEST_F(GgufConfigTest, FollowsTheTensors) {
  auto w = tiny_gguf("qwen2")
               .add("tokenizer.ggml.eos_token_id", uint32_t(2))
               .add("tokenizer.ggml.eot_token_id", uint32_t(5))
               .add("qwen2.pooling_type", uint32_t(3));
  w.add_f32("output.weight", {8, 6}, counting(48)).add_f32("blk.0.attn_q.bias", {8}, counting(8));
  w.add_f32("blk.0.ffn_gate.bias", {12}, counting(12));
  auto c = config(w);
  EXPECT_EQ(c["model_type"], "qwen2");
  EXPECT_EQ(c["pooling_type"], 3);
  EXPECT_EQ(c["tie_word_embeddings"], false);
  EXPECT_EQ(c["attention_bias"], true);
  EXPECT_EQ(c["mlp_bias"], true);
  EXPECT_EQ(c["eos_token_id"], json({2, 5}));
  EXPECT_EQ(config(tiny_gguf("qwen3").add("qwen3.attention.key_length", uint32_t(16)))["head_dim"], 16);
}

TEST_F(GgufConfigTest, ListsTheBitsOfEachWeight) {
  auto w = tiny_gguf();
  w.tensors.push_back({"blk.0.ffn_up.weight", {32, 1}, 2, std::string(18, 'x'), {}, {}});
  w.tensors.push_back({"blk.0.ffn_down.weight", {32, 1}, 3, std::string(20, 'x'), {}, {}});
  w.tensors.push_back({"output.weight", {32, 1}, 8, std::string(34, 'x'), {}, {}});
  auto c = config(w);
  EXPECT_EQ(c["quantization"], json::parse(R"({"group_size": 32, "bits": 4, "mode": "affine",
                                               "lm_head": {"group_size": 32, "bits": 8}})"));
  EXPECT_EQ(c["torch_dtype"], "float16");
}

TEST_F(GgufConfigTest, KnowsTheRotaryScalings) {
  EXPECT_FALSE(config(tiny_gguf().add("llama.rope.scaling.type", "none")).contains("rope_scaling"));
  EXPECT_EQ(
      config(
          tiny_gguf().add("llama.rope.scaling.type", "linear").add("llama.rope.scaling.factor", 2.f))["rope_scaling"],
      json::parse(R"({"rope_type": "linear", "factor": 2.0})"));
  EXPECT_EQ(config(tiny_gguf()
                       .add("llama.rope.scaling.type", "yarn")
                       .add("llama.rope.scaling.factor", 4.f)
                       .add("llama.rope.scaling.original_context_length", uint32_t(32)))["rope_scaling"],
            json::parse(R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32})"));
  EXPECT_EQ(config(tiny_gguf().add_f32("rope_freqs.weight", {2}, {1, 8}))["rope_scaling"],
            json::parse(R"({"rope_type": "factors", "factors": [1.0, 8.0]})"));
  EXPECT_THROW(config(tiny_gguf().add("llama.rope.scaling.type", "longrope")), UnsupportedModel);
  EXPECT_THROW(config(tiny_gguf().add("llama.rope.scaling.type", "linear")), WeightError);
  EXPECT_THROW(config(tiny_gguf().add_f32("rope_freqs.weight", {1, 2}, {1, 8})), WeightError);
  EXPECT_THROW(config(tiny_gguf().add("llama.rope.scale_linear", 2.f).add_f32("rope_freqs.weight", {2}, {1, 8})),
               UnsupportedModel);
}

TEST_F(GgufConfigTest, TakesANumberForEachLayerIfAllAreEqual) {
  auto w = tiny_gguf();
  w.add_array<int32_t>("llama.attention.key_length", 5, {4, 4});
  EXPECT_EQ(config(w)["head_dim"], 4);
  EXPECT_THROW(config(tiny_gguf().add_array<int32_t>("llama.attention.key_length", 5, {4, 8})), UnsupportedModel);
  EXPECT_THROW(config(tiny_gguf().add_array<int32_t>("llama.attention.key_length", 5, {})), UnsupportedModel);
}

TEST_F(GgufConfigTest, RefusesWhatIsMissingOrUnknown) {
  EXPECT_THROW(config(GgufWriter()), WeightError);
  EXPECT_THROW(config(GgufWriter().add("general.architecture", "llama")), WeightError);
  EXPECT_THROW(config(GgufWriter().add("general.architecture", "\x1b[0m")), UnsupportedModel);
  EXPECT_THROW(config(tiny_gguf().add("llama.expert_count", uint32_t(8))), UnsupportedModel);
  EXPECT_THROW(config(tiny_gguf().add("llama.rope.dimension_count", uint32_t(2))), UnsupportedModel);
  EXPECT_EQ(config(tiny_gguf().add("llama.rope.dimension_count", uint32_t(4)))["hidden_size"], 8);
  auto w = tiny_gguf();
  w.tensors.erase(w.tensors.begin());
  EXPECT_THROW(config(w), WeightError);  // no embedding
  EXPECT_THROW(config(tiny_gguf().add("llama.attention.key_length", "four")), WeightError);
}

// Any number that a file may hold reaches the model's own checks, or stops here; nothing divides by it before.
TEST_F(GgufConfigTest, SurvivesHostileSizes) {
  for (uint64_t n : {uint64_t(0), uint64_t(1) << 31, uint64_t(1) << 62, ~uint64_t(0)}) {
    GgufWriter w;
    w.add("general.architecture", "llama");
    for (const char* key : {"block_count", "embedding_length", "feed_forward_length", "attention.head_count",
                            "attention.layer_norm_rms_epsilon", "rope.dimension_count"}) {
      w.add_raw(std::string("llama.") + key, 10, GgufWriter::raw(n));
    }
    w.add_f32("token_embd.weight", {8, 6}, counting(48));
    try {
      config(w);
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace mlx_lm
