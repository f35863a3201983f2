// Tokenizers of a few tokens, made from a list.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/hub/tokenizer.h"

namespace mlx_lm {

// The text of a tokenizer.json whose token i is tokens[i]; a word that is not among them becomes token 0. The first
// `special` tokens are special ones. bos: put token `bos` before each text; -1: nothing.
inline std::string tiny_tokenizer_json(const std::vector<std::string>& tokens, const nlohmann::json& decoder,
                                       int special = 0, const nlohmann::json& pre_tokenizer = nullptr, int bos = -1) {
  using nlohmann::json;
  json vocabulary = json::object(), added = json::array(), processor = nullptr;
  for (size_t i = 0; i < tokens.size(); ++i) {
    vocabulary[tokens[i]] = i;
    if (int(i) < special) {
      added.push_back({{"id", i},
                       {"content", tokens[i]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
  }
  if (bos >= 0) {
    const auto& name = tokens[bos];
    const json first = {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
    const auto text = [](const char* id) { return json{{"Sequence", {{"id", id}, {"type_id", 0}}}}; };
    processor = {{"type", "TemplateProcessing"},
                 {"single", {first, text("A")}},
                 {"pair", {first, text("A"), text("B")}},
                 {"special_tokens", {{name, {{"id", name}, {"ids", {bos}}, {"tokens", {name}}}}}}};
  }
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added},
              {"normalizer", nullptr},
              {"pre_tokenizer", pre_tokenizer},
              {"post_processor", processor},
              {"decoder", decoder},
              {"model", {{"type", "WordLevel"}, {"vocab", vocabulary}, {"unk_token", tokens[0]}}}}
      .dump();
}

inline Tokenizer tiny_tokenizer(const std::vector<std::string>& tokens, const nlohmann::json& decoder, int special = 0,
                                const nlohmann::json& pre_tokenizer = nullptr, int bos = -1) {
  return Tokenizer::from_json(tiny_tokenizer_json(tokens, decoder, special, pre_tokenizer, bos), "tiny");
}

// 96 tokens, as many as the golden models have: <s>, </s>, and the letters from space to }, one for each.
// Byte-level; <s> comes before each text.
inline Tokenizer letters_tokenizer() {
  using nlohmann::json;
  std::vector<std::string> tokens{"<s>", "</s>"};
  for (char c = ' '; c <= '}'; ++c) tokens.push_back(c == ' ' ? "\u0120" : std::string(1, c));
  const json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  const json each = {{"type", "Split"}, {"pattern", {{"Regex", "."}}}, {"behavior", "Isolated"}, {"invert", false}};
  const json pre = {{"type", "Sequence"}, {"pretokenizers", {each, bytes}}};
  return tiny_tokenizer(tokens, bytes, /* special */ 2, pre, /* bos */ 0);
}

}  // namespace mlx_lm
