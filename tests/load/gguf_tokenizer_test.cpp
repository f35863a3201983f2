#include "mlx_lm/load/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include "tests/load/gguf_writer.h"
#include "tests/load/temp_folder.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

class GgufTokenizerTest : public testing::Test {
 protected:
  GgufTokenizer convert(const GgufWriter& writer) {
    return gguf_tokenizer(*GgufFile::open(folder_.write("m.gguf", writer.build())));
  }
  // The whole of tokenizer.json.
  json tokenizer(const GgufWriter& writer) {
    const auto file = GgufFile::open(folder_.write("m.gguf", writer.build()));  // which the parts point into
    const auto parts = gguf_tokenizer(*file).byte_pairs;
    auto whole = json::parse(parts.shell);
    for (size_t id = 0; id < parts.tokens.size(); ++id) whole["model"]["vocab"][std::string(parts.tokens[id])] = id;
    for (const auto& [left, right] : parts.merges) whole["model"]["merges"].push_back({left, right});
    for (const auto& [id, special] : parts.added) {
      whole["added_tokens"].push_back({{"id", id},
                                       {"content", parts.tokens[id]},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", false},
                                       {"special", special}});
    }
    return whole;
  }
  TempFolder folder_;
};

GgufWriter byte_level(const char* pre = "smollm") {
  GgufWriter w;
  w.add("general.architecture", "llama").add("llama.context_length", uint32_t(64));
  w.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", pre);
  w.add("tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "a", "b", "ab", "\"\\\n", "<tool>", "é"});
  w.add_array<int32_t>("tokenizer.ggml.token_type", 5, {3, 1, 1, 1, 1, 4, 1});
  w.add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  return w.add("tokenizer.ggml.bos_token_id", uint32_t(0)).add("tokenizer.ggml.eos_token_id", uint32_t(5));
}

GgufWriter sentencepiece() {
  GgufWriter w;
  w.add("general.architecture", "llama").add("tokenizer.ggml.model", "llama");
  w.add("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<s>", "<0x41>", "▁", "a", "▁a", "a▁a", "▁a▁a"});
  w.add_array<int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 6, 1, 1, 1, 1, 1});
  w.add_array<float>("tokenizer.ggml.scores", 6, {0, 0, 0, -4, -5, -1, -2, -3});
  return w.add("tokenizer.ggml.unknown_token_id", uint32_t(0)).add("tokenizer.ggml.bos_token_id", uint32_t(1));
}

TEST_F(GgufTokenizerTest, WritesByteLevelBpe) {
  auto t = tokenizer(byte_level());
  EXPECT_EQ(t["model"]["vocab"],
            json::parse(R"({"<s>": 0, "a": 1, "b": 2, "ab": 3, "\"\\\n": 4, "<tool>": 5, "é": 6})"));
  EXPECT_EQ(t["model"]["merges"], json::parse(R"([["a", "b"]])"));
  EXPECT_EQ(t["model"]["ignore_merges"], false);
  ASSERT_EQ(t["added_tokens"].size(), 2u);
  EXPECT_EQ(t["added_tokens"][0]["content"], "<s>");
  EXPECT_EQ(t["added_tokens"][0]["special"], true);
  EXPECT_EQ(t["added_tokens"][1]["id"], 5);
  EXPECT_EQ(t["added_tokens"][1]["special"], false);
  EXPECT_TRUE(t["post_processor"].is_null());
  EXPECT_EQ(t["pre_tokenizer"]["pretokenizers"].size(), 3u);
}

TEST_F(GgufTokenizerTest, FollowsThePreTokenizer) {
  EXPECT_EQ(tokenizer(byte_level("qwen2"))["normalizer"]["type"], "NFC");
  auto llama = tokenizer(byte_level("llama-bpe"));
  EXPECT_EQ(llama["model"]["ignore_merges"], true);
  EXPECT_EQ(llama["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
  EXPECT_EQ(llama["post_processor"]["special_tokens"]["<s>"]["ids"], json({0}));
  EXPECT_EQ(llama["post_processor"]["pair"].size(), 4u);
  EXPECT_EQ(tokenizer(byte_level("default"))["pre_tokenizer"]["pretokenizers"].size(), 5u);
  EXPECT_THROW(convert(byte_level("viking")), UnsupportedModel);
}

TEST_F(GgufTokenizerTest, PutsTokensAroundATextAsTheFileSays) {
  auto both = byte_level().add("tokenizer.ggml.add_bos_token", true).add("tokenizer.ggml.add_eos_token", true);
  auto processor = tokenizer(both)["post_processor"];
  EXPECT_EQ(processor["single"].size(), 3u);
  EXPECT_EQ(processor["single"][2]["SpecialToken"]["id"], "<tool>");
  EXPECT_EQ(processor["special_tokens"].size(), 2u);
  EXPECT_TRUE(
      tokenizer(byte_level("llama-bpe").add("tokenizer.ggml.add_bos_token", false))["post_processor"].is_null());
}

TEST_F(GgufTokenizerTest, GivesTheSettings) {
  auto w = byte_level().add("tokenizer.chat_template", "{{ messages }}");
  EXPECT_EQ(convert(w).tokenizer_config, json::parse(R"({
    "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false, "bos_token": "<s>",
    "eos_token": "<tool>", "add_bos_token": false, "add_eos_token": false, "chat_template": "{{ messages }}",
    "model_max_length": 64})"));
}

TEST_F(GgufTokenizerTest, FindsTheMergesOfSentencePieceAgain) {
  auto t = tokenizer(sentencepiece());
  EXPECT_EQ(t["model"]["merges"],
            json::parse(R"([["▁", "a"], ["a", "▁a"], ["▁a", "▁a"], ["▁", "a▁a"]])"));  // longer left parts first
  EXPECT_EQ(t["model"]["byte_fallback"], true);
  EXPECT_EQ(t["model"]["unk_token"], "<unk>");
  EXPECT_EQ(t["normalizer"]["normalizers"].size(), 2u);
  EXPECT_EQ(t["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
  auto bare = tokenizer(sentencepiece().add("tokenizer.ggml.add_space_prefix", false));
  EXPECT_EQ(bare["normalizer"]["normalizers"].size(), 1u);
}

TEST_F(GgufTokenizerTest, RefusesBadMetadata) {
  EXPECT_THROW(convert(GgufWriter()), WeightError);
  auto tokens = [](const char* model, const std::vector<std::string>& tokens) {
    return GgufWriter().add("tokenizer.ggml.model", model).add("tokenizer.ggml.tokens", tokens);
  };
  EXPECT_THROW(convert(tokens("gpt2", {})), WeightError);
  EXPECT_THROW(convert(tokens("gpt2", {"a"})), WeightError);   // no merges
  EXPECT_THROW(convert(tokens("llama", {"a"})), WeightError);  // no scores
  EXPECT_THROW(convert(tokens("bert", {"a"})), UnsupportedModel);
  EXPECT_THROW(convert(GgufWriter().add("tokenizer.ggml.tokens", std::vector<std::string>{"a"})), UnsupportedModel);
  EXPECT_THROW(convert(tokens("gpt2", {"\xff"}).add("tokenizer.ggml.merges", std::vector<std::string>{})), WeightError);
  for (const char* merge : {"", " ", "ab", "a ", " b", "a b c", "\xff a"}) {
    auto w = tokens("gpt2", {"a", "b"}).add("tokenizer.ggml.merges", std::vector<std::string>{merge});
    EXPECT_THROW(convert(w), WeightError) << merge;
  }
  auto types = tokens("gpt2", {"a", "b"}).add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  EXPECT_NO_THROW(convert(types));
  EXPECT_THROW(convert(types.add_array<int32_t>("tokenizer.ggml.token_type", 5, {1})), WeightError);
  EXPECT_THROW(convert(tokens("llama", {"a"}).add_array<float>("tokenizer.ggml.scores", 6, {1, 2})), WeightError);
  for (int64_t id : {int64_t(-1), int64_t(7), int64_t(1) << 40}) {
    GgufWriter w = byte_level();
    EXPECT_THROW(convert(w.add_raw("tokenizer.ggml.padding_token_id", 11, GgufWriter::raw(id))), WeightError) << id;
  }
  EXPECT_THROW(convert(byte_level().add("tokenizer.chat_template", "\xc0\x80")), WeightError);
}

// What the parts make is what tokenizer.json would.
TEST_F(GgufTokenizerTest, IsTheTokenizerOfItsJson) {
  std::vector<GgufWriter> files{sentencepiece(), sentencepiece().add("tokenizer.ggml.add_space_prefix", false)};
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "default"}) {
    files.push_back(byte_level(pre));
    files.push_back(
        byte_level(pre).add("tokenizer.ggml.add_bos_token", true).add("tokenizer.ggml.add_eos_token", true));
  }
  for (const auto& writer : files) {
    const auto expected = Tokenizer::from_json(tokenizer(writer).dump(), "json");
    const auto file = GgufFile::open(folder_.write("n.gguf", writer.build()));
    const auto found = Tokenizer::from_byte_pairs(gguf_tokenizer(*file).byte_pairs, "parts");
    EXPECT_EQ(found.vocab_size(), expected.vocab_size());
    EXPECT_EQ(found.vocabulary(), expected.vocabulary());
    EXPECT_EQ(found.decoder_json(), expected.decoder_json());
    for (const char* text : {"ab aab", "<s>ab<tool>ba", "aéb", "A a a", " <unk>a", ""}) {
      for (bool special : {false, true}) {
        const auto ids = found.encode(text, special);
        EXPECT_EQ(ids, expected.encode(text, special)) << text;
        EXPECT_EQ(found.decode(ids, special), expected.decode(ids, special)) << text;
      }
    }
  }
}

TEST_F(GgufTokenizerTest, TakesAMergeThatReadsLikeAComment) {
  auto w = GgufWriter().add("tokenizer.ggml.model", "gpt2");
  w.add("tokenizer.ggml.tokens", std::vector<std::string>{"#version", "x", "#versionx"});
  w.add("tokenizer.ggml.merges", std::vector<std::string>{"#version x"});
  EXPECT_EQ(tokenizer(w)["model"]["merges"], json::parse(R"([["#version", "x"]])"));
}

}  // namespace
}  // namespace mlx_lm
