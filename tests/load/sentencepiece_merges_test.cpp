#include "mlx_lm/load/sentencepiece_merges.h"

#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

std::vector<std::string> merged(const std::vector<std::string_view>& pieces, const std::vector<float>& scores,
                                std::vector<bool> takes_part = {}) {
  if (takes_part.empty()) takes_part.assign(pieces.size(), true);
  std::vector<std::string> out;
  for (const auto& merge : sentencepiece_merges(pieces, scores, takes_part)) {
    out.push_back(std::string(merge.left).append("+").append(merge.right));
  }
  return out;
}

TEST(SentencePieceMerges, PutsTheBestScoreFirst) {
  using Merges = std::vector<std::string>;
  EXPECT_EQ(merged({}, {}), Merges{});
  EXPECT_EQ(merged({"a", "b", "c", "ab", "bc"}, {0, 0, 0, -2, -1}), (Merges{"b+c", "a+b"}));
  // Equal scores: the longer left part, then the longer right one.
  EXPECT_EQ(merged({"a", "aa", "aaa"}, {0, 0, 0}), (Merges{"aa+a", "a+aa", "a+a"}));
  EXPECT_EQ(merged({"a", "b", "ab"}, {0, 0, 0}, {true, false, true}), Merges{});
  EXPECT_EQ(merged({"é", "è", "éè"}, {0, 0, 0}), (Merges{"é+è"}));
  EXPECT_EQ(merged({"\xc3", "\xa9", "é"}, {0, 0, 0}), Merges{});  // characters are never cut
}

TEST(SentencePieceMerges, OrderNotANumberAndLongPieces) {
  std::string longest(100000, 'a');
  std::vector<std::string_view> pieces = {"a", "aa", longest};
  auto merges = sentencepiece_merges(pieces, std::vector<float>{0, NAN, 1}, {true, true, true});
  ASSERT_EQ(merges.size(), 1u);
  EXPECT_EQ(merges[0].left, "a");
}

TEST(SentencePieceMerges, BoundsWhatAHostileVocabularyCosts) {
  // The same piece again adds nothing.
  const std::vector<std::string_view> same = {"a", "aa", "aa", "aa"};
  EXPECT_EQ(merged(same, {0, 0, 0, 0}), std::vector<std::string>{"a+a"});
  // Pieces that are all parts of each other.
  std::vector<std::string> all;
  for (int a = 0; a <= 200; ++a) {
    for (int b = 0; b <= 20; ++b) {
      if (a + b > 0) all.push_back(std::string(size_t(a), 'a') + std::string(size_t(b), 'b'));
    }
  }
  const std::vector<std::string_view> pieces(all.begin(), all.end());
  EXPECT_THROW(merged(pieces, std::vector<float>(pieces.size(), 0.f)), WeightError);
}

}  // namespace
}  // namespace mlx_lm
