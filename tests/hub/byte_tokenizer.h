// Byte-pair tokenizers that can write any text, made from a few merges, and what the grammar tests do with them.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/hub/grammar.h"
#include "mlx_lm/hub/tokenizer.h"

namespace mlx_lm {

inline std::string utf8_letter(int point) {
  if (point < 0x80) return {char(point)};
  if (point < 0x800) return {char(0xC0 | point >> 6), char(0x80 | (point & 0x3F))};
  return {char(0xE0 | point >> 12), char(0x80 | (point >> 6 & 0x3F)), char(0x80 | (point & 0x3F))};
}

// GPT-2's letter for a byte.
inline std::string byte_letter(int byte) {
  const auto shown = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
  if (shown(byte)) return utf8_letter(byte);
  int point = 256;
  for (int b = 0; b < byte; ++b) point += !shown(b);
  return utf8_letter(point);
}

inline nlohmann::json added_token(size_t id, const std::string& text, bool special) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// The tokens of `merges` after those that are there; each merge is of two tokens in the tokenizer's own letters.
inline nlohmann::json byte_pairs_json(std::vector<std::string> tokens,
                                      const std::vector<std::pair<std::string, std::string>>& merges, bool fallback) {
  nlohmann::json vocabulary = nlohmann::json::object(), pairs = nlohmann::json::array();
  for (const auto& [left, right] : merges) {
    tokens.push_back(left + right);
    pairs.push_back({left, right});
  }
  for (const auto& token : tokens) vocabulary.emplace(token, vocabulary.size());
  const auto id = vocabulary.size();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", {added_token(id, "<s>", true), added_token(id + 1, "</s>", true)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", nullptr},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", fallback},
            {"byte_fallback", fallback},
            {"vocab", vocabulary},
            {"merges", pairs}}}};
}

using Merges = std::vector<std::pair<std::string, std::string>>;

// Token i is the byte i; then the merges (a space is "\u0120" in them), then <s> and </s>.
inline nlohmann::json byte_level_json(const Merges& merges) {
  std::vector<std::string> letters;
  for (int byte = 0; byte < 256; ++byte) letters.push_back(byte_letter(byte));
  auto file = byte_pairs_json(letters, merges, false);
  const nlohmann::json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  file["pre_tokenizer"] = bytes;
  file["decoder"] = bytes;
  return file;
}

// As Llama's: the 256 tokens <0x00> to <0xFF>, then the printable letters of ASCII and "\u2581" for the space, then the
// merges, <s> and </s>. A text gets a space before it.
inline nlohmann::json sentencepiece_json(const Merges& merges) {
  using nlohmann::json;
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    constexpr const char* kHex = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">");
  }
  for (char c = '!'; c <= '~'; ++c) tokens.emplace_back(1, c);
  tokens.push_back("\u2581");
  auto file = byte_pairs_json(tokens, merges, true);
  const json space = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", "\u2581"}}, space}}};
  const json back = {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}};
  const json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  file["decoder"] = {{"type", "Sequence"}, {"decoders", {back, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}};
  return file;
}

inline Tokenizer tokenizer_of(const nlohmann::json& file) { return Tokenizer::from_json(file.dump(), "tiny"); }

// The tokens that a mask allows.
inline std::vector<int> allowed(GrammarMatcher& matcher) {
  std::vector<uint32_t> bits((matcher.vocabulary() + 31) / 32, ~0u);
  matcher.mask(bits);
  std::vector<int> ids;
  for (int id = 0; id < int(bits.size()) * 32; ++id) {
    if (bits[id / 32] >> (id % 32) & 1) ids.push_back(id);
  }
  return ids;
}

}  // namespace mlx_lm
