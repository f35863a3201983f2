// The merges of a byte-pair SentencePiece model, which stores only its pieces and their scores.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace mlx_lm {

struct PieceMerge {
  std::string_view left, right;
  float score;
};

// Every way to put a piece together from two others, best score first, then the longer parts. takes_part: false for
// control tokens and bytes. Source: generate_merges() of transformers, which makes the tokenizer.json files of such
// models. Errors: WeightError for a vocabulary that gives more merges than any real one.
std::vector<PieceMerge> sentencepiece_merges(std::span<const std::string_view> pieces, std::span<const float> scores,
                                             const std::vector<bool>& takes_part);

}  // namespace mlx_lm
