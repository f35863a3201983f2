#include "mlx_lm/load/sentencepiece_merges.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <tuple>
#include <unordered_map>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

size_t characters(std::string_view text) {
  return size_t(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::vector<PieceMerge> sentencepiece_merges(std::span<const std::string_view> pieces, std::span<const float> scores,
                                             const std::vector<bool>& takes_part) {
  // A piece of a hostile file may be megabytes long, and the work grows with the square of it.
  constexpr size_t kLongest = 256;
  // And its pieces may all be parts of each other: real vocabularies have 2 merges for each piece.
  constexpr size_t kMost = 64;
  std::unordered_map<std::string_view, size_t> ids;
  ids.reserve(pieces.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (takes_part[id]) ids.emplace(pieces[id], id);
  }
  std::vector<PieceMerge> merges;
  merges.reserve(2 * pieces.size());
  std::vector<std::tuple<size_t, size_t, size_t>> own;  // left id, right id, size of the left
  for (size_t id = 0; id < pieces.size(); ++id) {
    auto piece = pieces[id];
    if (!takes_part[id] || piece.size() > kLongest || ids.at(piece) != id) continue;
    own.clear();
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((piece[cut] & 0xc0) == 0x80) continue;  // inside a character
      auto left = ids.find(piece.substr(0, cut));
      if (left == ids.end()) continue;
      auto right = ids.find(piece.substr(cut));
      if (right != ids.end()) own.emplace_back(left->second, right->second, cut);
    }
    std::ranges::sort(own);
    // Not a number would break the order below.
    const float score = std::isnan(scores[id]) ? -INFINITY : scores[id];
    for (auto [left, right, cut] : own) merges.push_back({piece.substr(0, cut), piece.substr(cut), score});
    if (merges.size() > kMost * pieces.size()) {
      fail<WeightError>("[gguf] tokenizer.ggml.tokens: expected at most {} merges for each of {} pieces, found more",
                        kMost, pieces.size());
    }
  }
  auto longer = [](std::string_view a, std::string_view b) { return characters(a) <=> characters(b); };
  std::ranges::stable_sort(merges, [&](const PieceMerge& a, const PieceMerge& b) {
    if (a.score != b.score) return a.score > b.score;
    if (auto order = longer(a.left, b.left); order != 0) return order > 0;
    return longer(a.right, b.right) > 0;
  });
  return merges;
}

}  // namespace mlx_lm
