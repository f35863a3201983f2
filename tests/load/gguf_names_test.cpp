#include "mlx_lm/load/gguf_names.h"

#include <utility>

#include <gtest/gtest.h>

#include "tests/load/temp_folder.h"
#include "tests/load/tiny_gguf.h"

namespace mlx_lm {
namespace {

std::shared_ptr<const GgufFile> open(const TempFolder& folder, const GgufWriter& writer) {
  return GgufFile::open(folder.write("m.gguf", writer.build()));
}

TEST(GgufNames, FindsTheArchitecture) {
  TempFolder folder;
  for (const auto& [name, type] : {std::pair("llama", "llama"), std::pair("qwen2", "qwen2"),
                                   std::pair("qwen3", "qwen3"), std::pair("gemma3", "gemma3_text")}) {
    const auto file = open(folder, tiny_gguf(name));
    EXPECT_EQ(gguf_architecture(*file).model_type, type);
    EXPECT_EQ(gguf_architecture(*file).name, name);
  }
  for (const char* name : {"", "Llama", "llama ", "bert", "llama\n"}) {
    try {
      gguf_architecture(*open(folder, tiny_gguf(name)));
      ADD_FAILURE() << name;
    } catch (const UnsupportedModel& error) {
      EXPECT_NE(std::string(error.what()).find("llama, qwen2, qwen3"), std::string::npos);
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    }
  }
  EXPECT_THROW(gguf_architecture(*open(folder, GgufWriter())), WeightError);
  EXPECT_THROW(gguf_architecture(*open(folder, GgufWriter().add("general.architecture", uint32_t(1)))), WeightError);
}

TEST(GgufNames, TranslatesTensors) {
  TempFolder folder;
  const auto llama = gguf_architecture(*open(folder, tiny_gguf("llama")));
  for (const auto& [name, expected] :
       {std::pair("token_embd.weight", "model.embed_tokens.weight"), std::pair("output.weight", "lm_head.weight"),
        std::pair("output_norm.weight", "model.norm.weight"),
        std::pair("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        std::pair("blk.17.attn_k.bias", "model.layers.17.self_attn.k_proj.bias"),
        std::pair("blk.3.ffn_norm.weight", "model.layers.3.post_attention_layernorm.weight"),
        std::pair("blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight")}) {
    EXPECT_EQ(checkpoint_name(llama, name), expected);
  }
  const auto gemma = gguf_architecture(*open(folder, tiny_gguf("gemma3")));
  EXPECT_EQ(checkpoint_name(gemma, "blk.3.ffn_norm.weight"), "model.layers.3.pre_feedforward_layernorm.weight");
  EXPECT_EQ(checkpoint_name(gemma, "blk.3.post_attention_norm.weight"),
            "model.layers.3.post_attention_layernorm.weight");
}

TEST(GgufNames, LeavesOtherNamesAsTheyAre) {
  TempFolder folder;
  const auto llama = gguf_architecture(*open(folder, tiny_gguf("llama")));
  for (const char* name : {"",
                           ".",
                           "..",
                           "weight",
                           ".weight",
                           "blk",
                           "blk.",
                           "blk..",
                           "blk.weight",
                           "blk.0.weight",
                           "blk..attn_q.weight",
                           "blk.x.attn_q.weight",
                           "blk.-1.attn_q.weight",
                           "blk.1e3.attn_q.weight",
                           "blk.0.attn_q",
                           "blk.0.attn_q.scales",
                           "blk.0.attn_q.weight.weight",
                           "blk.0..weight",
                           "blk.0.attn_z.weight",
                           "BLK.0.attn_q.weight",
                           "token_embd",
                           "token_embd.scale",
                           "blk.0.post_attention_norm.weight",
                           "rope_freqs.weight"}) {
    EXPECT_EQ(checkpoint_name(llama, name), name);
  }
}

}  // namespace
}  // namespace mlx_lm
