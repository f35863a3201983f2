// Segments against mlx-lm's (tests/golden/dump_text_states.py), however the text is cut.
#include "mlx_lm/text/state_machine.h"

#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"
#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;
using Edges = std::vector<std::vector<TextStateMachine::Edge>>;
using Segments = std::vector<TextSegment>;

std::shared_ptr<const TextStateMachine> machine(const Edges& edges) {
  return std::make_shared<const TextStateMachine>(edges);
}

// A piece goes on in the state that the one before it ended in.
void append(Segments& all, Segments next) {
  if (!all.empty()) {
    EXPECT_EQ(all.back().state, next.front().state);
    all.back().text += next.front().text;
    next.erase(next.begin());
  }
  all.insert(all.end(), next.begin(), next.end());
}

std::string shown(const Segments& segments) {
  json list = json::array();
  for (const auto& s : segments) list.push_back({s.state, s.text});
  return list.dump(-1, ' ', false, json::error_handler_t::replace);
}

Segments stream(const std::shared_ptr<const TextStateMachine>& machine, int initial,
                const std::vector<std::string>& pieces) {
  TextStream stream(machine, initial);
  Segments all;
  for (const auto& piece : pieces) append(all, stream.add(piece));
  append(all, {stream.flush()});
  return all;
}

std::vector<std::string> cut(std::mt19937& random, const std::string& text, size_t longest) {
  std::vector<std::string> pieces{""};  // so that there is one
  for (size_t at = 0; at < text.size(); at += pieces.back().size()) {
    pieces.push_back(text.substr(at, 1 + random() % longest));
  }
  return pieces;
}

TEST(TextStateMachine, cuts_as_mlx_lm_does_whatever_the_pieces) {
  const auto golden = json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/golden/text_states.json"));
  ASSERT_GE(golden.size(), 100u);
  std::mt19937 random(5);
  size_t texts = 0;
  for (const auto& entry : golden) {
    Edges edges;
    for (const auto& state : entry.at("edges")) {
      edges.emplace_back();
      for (const auto& [marker, to] : state.get<std::vector<std::pair<std::string, int>>>()) {
        edges.back().push_back({marker, to});
      }
    }
    const auto m = machine(edges);
    for (const auto& c : entry.at("texts")) {
      const std::string text = c[0];
      Segments expected;
      for (const auto& s : c[1]) expected.push_back({s[0], s[1]});
      expected.back().text += c[2].get<std::string>();
      ++texts;
      EXPECT_EQ(shown(stream(m, entry.at("initial"), {text})), shown(expected)) << entry.at("edges") << text;
      for (const size_t longest : {1, 2, 7}) {
        EXPECT_EQ(shown(stream(m, entry.at("initial"), cut(random, text, longest))), shown(expected)) << text;
      }
    }
  }
  EXPECT_GE(texts, 1000u);
}

TEST(TextStateMachine, gives_text_as_early_as_it_can) {
  TextStream stream(machine({{{"<think>", 1}, {"stop", TextStateMachine::kEnd}}, {{"</think>", 0}}}));
  EXPECT_EQ(stream.add("a<th"), (Segments{{0, "a"}}));
  EXPECT_EQ(stream.add("<t"), (Segments{{0, "<th"}}));
  EXPECT_EQ(stream.add("hink>in</thin"), (Segments{{0, ""}, {1, "in"}}));
  EXPECT_EQ(stream.add("gs</think>out st"), (Segments{{1, "</things"}, {0, "out "}}));
  EXPECT_EQ(stream.add("op and more"), (Segments{{0, ""}, {TextStateMachine::kEnd, ""}}));
  EXPECT_EQ(stream.add("nothing"), (Segments{{TextStateMachine::kEnd, ""}}));
  EXPECT_EQ(stream.flush(), (TextSegment{TextStateMachine::kEnd, ""}));
}

// mlx-lm holds all of "aaaa" back until the match fails for good.
TEST(TextStateMachine, holds_back_no_more_than_a_marker) {
  TextStream stream(machine({{{"aab", 0}}}));
  EXPECT_EQ(stream.add("aaaa"), (Segments{{0, "aa"}}));
  EXPECT_EQ(stream.add("a"), (Segments{{0, "a"}}));
  EXPECT_EQ(stream.add("b!"), (Segments{{0, ""}, {0, "!"}}));
}

TEST(TextStateMachine, flushes_or_discards_what_it_held_back) {
  const auto m = machine({{{"<think>", 1}}, {}});
  TextStream kept(m), dropped(m);
  EXPECT_EQ(kept.add("x<thi"), (Segments{{0, "x"}}));
  EXPECT_EQ(kept.flush(), (TextSegment{0, "<thi"}));
  EXPECT_EQ(kept.flush(), (TextSegment{0, ""}));
  dropped.add("x<thi");
  dropped.discard();
  EXPECT_EQ(dropped.flush(), (TextSegment{0, ""}));
  EXPECT_EQ(dropped.add("nk>"), (Segments{{0, "nk>"}})) << "begins anew";
}

TEST(TextStateMachine, begins_in_any_state) {
  TextStream stream(machine({{}, {{"</think>", 0}}}), 1);
  EXPECT_EQ(stream.state(), 1);
  EXPECT_EQ(stream.add("so</think>yes"), (Segments{{1, "so"}, {0, "yes"}}));
}

TEST(TextStateMachine, never_cuts_a_character) {
  const std::string text = "aé€😀é日本😀";
  const auto m = machine({{{"éa", 0}, {"😀😀", 0}, {"", 0}}});
  TextStream stream(m);
  std::string all;
  for (const char c : text) {
    for (const auto& segment : stream.add(std::string(1, c))) {
      EXPECT_EQ(find_invalid(segment.text), std::string::npos);
      all += segment.text;
    }
  }
  EXPECT_EQ(all + stream.flush().text, text);
}

TEST(TextStateMachine, takes_bytes_that_are_no_text) {
  std::mt19937 random(2);
  const auto m = machine({{{"\xC3", 1}, {"ab\xFF", 0}}, {{"\x80\x80", 0}}});
  const std::string bytes = "ab\xFF\xC3\x80\xF0\x9F";
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (size_t n = random() % 30; n > 0; --n) text += bytes[random() % bytes.size()];
    EXPECT_EQ(shown(stream(m, 0, cut(random, text, 3))), shown(stream(m, 0, {text})));
  }
}

// Where a naive search takes the product of the lengths: this would not end.
TEST(TextStateMachine, is_linear_in_text_and_markers) {
  const std::string as(200'000, 'a');
  Edges edges(1);
  edges[0] = {{as + "b", 0}, {as.substr(1) + "c", 0}};
  TextStream stream(machine(edges));
  size_t length = 0;
  for (int i = 0; i < 400'000; ++i) {
    for (const auto& segment : stream.add("a")) length += segment.text.size();
  }
  EXPECT_EQ(length, 200'000u);
  EXPECT_EQ(stream.add("c"), (Segments{{0, "a"}, {0, ""}}));
  edges[0].assign(6, {as, 0});
  EXPECT_THROW(TextStateMachine{edges}, RequestError);
}

}  // namespace
}  // namespace mlx_lm::text
