// Pieces of text against mlx-lm's (tests/golden/dump_detokenizer.py), and the rules by tokenizers of a few tokens.
#include "mlx_lm/text/detokenizer.h"

#include <fstream>

#include <gtest/gtest.h>

#include "mlx_lm/text/utf8.h"

#include "tests/text/tiny_tokenizer.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;
using Segments = std::vector<std::string>;

const json kByteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
const json kSentencePiece = json::parse(R"({"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]})");

json stripping(json decoder) {
  decoder["decoders"].push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return decoder;
}

// What comes out after each id, and at the end.
Segments stream(const Tokenizer& tokenizer, const json& decoder, const std::vector<int>& ids) {
  auto detokenizer = make_detokenizer(tokenizer, decoder);
  Segments segments;
  for (int id : ids) {
    detokenizer->add_token(id);
    segments.push_back(detokenizer->last_segment());
    EXPECT_EQ(find_invalid(segments.back()), std::string::npos) << "token " << id << " cuts a character";
  }
  detokenizer->finalize();
  segments.push_back(detokenizer->last_segment());
  EXPECT_EQ(find_invalid(segments.back()), std::string::npos);
  return segments;
}

// The tokens in their order.
Segments stream(const std::vector<std::string>& tokens, const json& decoder) {
  std::vector<int> ids(tokens.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = int(i);
  return stream(tiny_tokenizer(tokens, decoder), decoder, ids);
}

std::string joined(const Segments& segments) {
  std::string text;
  for (const auto& segment : segments) text += segment;
  return text;
}

TEST(ByteLevelDetokenizer, cuts_smollm2_tokens_as_mlx_lm_does) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/detokenizer.json"));
  ASSERT_GE(golden.at("texts").size(), 20u);
  const auto pieces = golden.at("tokens").get<std::vector<std::pair<int, std::string>>>();
  std::vector<std::string> tokens;
  std::map<int, int> number;  // of the token here
  for (const auto& [id, piece] : pieces) {
    number[id] = int(tokens.size());
    tokens.push_back(piece);
  }
  const auto tokenizer = tiny_tokenizer(tokens, kByteLevel);
  for (const auto& entry : golden.at("texts")) {
    std::vector<int> ids;
    for (int id : entry.at("ids")) ids.push_back(number.at(id));
    EXPECT_EQ(stream(tokenizer, kByteLevel, ids), entry.at("segments").get<Segments>()) << entry.at("text");
  }
}

// Broken characters, lone bytes, spaces in every place (tests/golden/dump_detokenizer_random.py).
TEST(Detokenizer, cuts_random_tokens_as_mlx_lm_does) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/detokenizer_random.json"));
  ASSERT_EQ(golden.size(), 3u);
  for (const auto& entry : golden) {
    const auto& decoder = entry.at("decoder");
    const bool byte_level = decoder.at("type") == "ByteLevel";
    const auto tokenizer = tiny_tokenizer(entry.at("tokens"), byte_level ? kByteLevel : decoder);
    for (const auto& [ids, segments] : entry.at("texts").get<std::vector<std::pair<std::vector<int>, Segments>>>()) {
      EXPECT_EQ(stream(tokenizer, byte_level ? kByteLevel : decoder, ids), segments) << decoder.at("type") << json(ids);
    }
  }
}

TEST(ByteLevelDetokenizer, holds_a_character_until_it_is_complete) {
  // U+1F600 is F0 9F 98 80, in GPT-2's letters.
  EXPECT_EQ(stream({"Ġa", "ð", "Ł", "ĺ", "Ģ", "b"}, kByteLevel), (Segments{"a", "", "", "", "😀", "b", ""}));
}

TEST(ByteLevelDetokenizer, replaces_what_never_becomes_a_character) {
  EXPECT_EQ(stream({"a", "ð", "Ł"}, kByteLevel), (Segments{"a", "", "", "\uFFFD"}));
  EXPECT_EQ(stream({"ð", "b"}, kByteLevel), (Segments{"", "\uFFFDb", ""}));
}

TEST(ByteLevelDetokenizer, drops_one_space_at_the_start_only) {
  EXPECT_EQ(stream({"ĠĠa", "Ġb"}, kByteLevel), (Segments{" a", " b", ""}));
  // A lone space waits for what follows it.
  EXPECT_EQ(stream({"Ġ", "a", "Ġ"}, kByteLevel).size(), 4u);
  EXPECT_EQ(stream({"Ġ", "a"}, kByteLevel), (Segments{"", "a", ""}));
  EXPECT_EQ(stream({"a", "Ġ", "b"}, kByteLevel), (Segments{"a", "", " b", ""}));
  EXPECT_EQ(stream({"a", "Ġ"}, kByteLevel), (Segments{"a", "", " "}));
}

TEST(ByteLevelDetokenizer, knows_byte_zero_and_added_tokens_own_letters) {
  EXPECT_EQ(stream({"Ā", "<｜tool▁call｜>", "a b"}, kByteLevel),
            (Segments{std::string(1, '\0'), "<｜tool▁call｜>", "a b", ""}));
}

TEST(ByteLevelDetokenizer, writes_a_token_past_the_vocabulary_as_mlx_lm_does) {
  const auto tokenizer = tiny_tokenizer({"a"}, kByteLevel);
  EXPECT_EQ(stream(tokenizer, kByteLevel, {0, 7, -1}), (Segments{"a", "!", "!", ""}));
}

TEST(SentencePieceDetokenizer, turns_bytes_into_characters) {
  EXPECT_EQ(stream({"▁a", "<0xE2>", "<0x82>", "<0xAC>", "▁b", "<0x0A>"}, kSentencePiece),
            (Segments{" a", "", "", "€", " b", "\n", ""}));
  EXPECT_EQ(stream({"<0xE2>", "x"}, kSentencePiece), (Segments{"", "\uFFFDx", ""}));
  EXPECT_EQ(stream({"a", "<0xE2>", "<0x82>"}, kSentencePiece), (Segments{"a", "", "", "\uFFFD"}));
}

TEST(SentencePieceDetokenizer, drops_a_leading_space_if_the_decoder_strips) {
  EXPECT_EQ(stream({"▁a", "▁b"}, stripping(kSentencePiece)), (Segments{"a", " b", ""}));
  EXPECT_EQ(stream({"▁▁a", "▁"}, stripping(kSentencePiece)), (Segments{" a", " ", ""}));
  EXPECT_EQ(stream({"▁a", "▁b"}, kSentencePiece), (Segments{" a", " b", ""}));
}

TEST(SentencePieceDetokenizer, takes_only_bytes_for_bytes) {
  EXPECT_EQ(stream({"<0xZZ>", "<0x-1>", "<0x 1>", "<0x1>", "<0x123>", "<0x41>"}, kSentencePiece),
            (Segments{"<0xZZ>", "<0x-1>", "<0x 1>", "<0x1>", "<0x123>", "A", ""}));
}

TEST(SentencePieceDetokenizer, writes_nothing_for_a_token_past_the_vocabulary) {
  const auto tokenizer = tiny_tokenizer({"a"}, kSentencePiece);
  EXPECT_EQ(stream(tokenizer, kSentencePiece, {0, 7}), (Segments{"a", "", ""}));
}

// Any decoder that is not one of the two is run over the line.
TEST(LineDetokenizer, hands_out_what_is_new_in_the_line) {
  const json decoder = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  EXPECT_EQ(stream({"do", "##ing", "it", "\n", "new", "##er"}, decoder),
            (Segments{"do", "ing", " it", " \n", "new", "er", ""}));
}

TEST(LineDetokenizer, holds_a_character_until_it_is_complete) {
  const json decoder = {{"type", "ByteFallback"}};
  const auto segments = stream({"a", "<0xE2>", "<0x82>", "<0xAC>", "b"}, decoder);
  EXPECT_EQ(segments[1], "");
  EXPECT_EQ(segments[2], "");
  EXPECT_NE(segments[3].find("€"), std::string::npos);
  EXPECT_EQ(stream({"<0xE2>", "<0x82>"}, decoder)[2], "\uFFFD\uFFFD") << "one for each byte, as the decoder says";
}

TEST(LineDetokenizer, keeps_special_tokens) {
  const json decoder = {{"type", "Fuse"}};
  const auto tokenizer = tiny_tokenizer({"<s>", "a"}, decoder, /* special */ 1);
  EXPECT_EQ(joined(stream(tokenizer, decoder, {0, 1})), "<s>a");
}

// "xyz" shrinks to a character of two bytes when it is complete: one byte was shown already, and half a character must
// not follow.
TEST(LineDetokenizer, cuts_no_character_when_the_decoder_changes_its_mind) {
  const auto decoder = json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "xyz"}, "content": "é"}]})");
  EXPECT_EQ(stream({"x", "yz", "b"}, decoder), (Segments{"x", "", "b", ""}));
}

TEST(Detokenizer, ends_with_what_the_tokenizer_decodes) {
  const std::vector<std::string> tokens{"▁Hello", "▁w", "<0xC3>", "<0xB6>", "r",
                                        "ld",     "!",  "<0xE2>", "<0x82>", "<0xAC>"};
  for (const auto& decoder : {kSentencePiece, stripping(kSentencePiece)}) {
    const auto tokenizer = tiny_tokenizer(tokens, decoder);
    const std::vector<int> ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0};
    EXPECT_EQ(joined(stream(tokenizer, decoder, ids)), tokenizer.decode(ids, false));
  }
}

TEST(Detokenizer, gives_nothing_for_no_tokens) {
  for (const auto& decoder : {kByteLevel, kSentencePiece, stripping(kSentencePiece), json()}) {
    EXPECT_EQ(stream(tiny_tokenizer({"a"}, decoder), decoder, {}), Segments{""});
  }
}

}  // namespace
}  // namespace mlx_lm::text
