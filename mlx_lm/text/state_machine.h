// Text in states that markers begin and end, as it comes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_lm::text {

// The markers of each state, as one Aho-Corasick automaton per state. Immutable. Threads: safe to use from several.
// Source: mlx-lm's TextStateMachine (mlx_lm/generate.py), there on characters, here on the bytes of UTF-8.
class TextStateMachine {
 public:
  static constexpr int kEnd = -1;  // a state: nothing more is read
  struct Edge {
    std::string marker;  // empty: never found; of equal ones the last counts
    int to;              // the state that it begins
  };

  // edges[state]. Errors: RequestError for more than kMaxBytes of markers.
  explicit TextStateMachine(const std::vector<std::vector<Edge>>& edges);
  static constexpr size_t kMaxBytes = 1 << 20;

 private:
  friend class TextStream;
  struct Node {
    int32_t child = 0, sibling = 0;  // the first child, the next one of the same parent; 0: none
    int32_t fail = 0;                // the longest suffix that is a node, too
    int32_t depth = 0;
    int32_t match = -1;  // the edge whose marker ends here, the longest
    uint8_t byte = 0;
  };
  struct Trie {
    std::vector<Node> nodes;
    std::vector<Edge> edges;

    explicit Trie(std::vector<Edge> edges);
    int32_t child(int32_t node, uint8_t byte) const;
    int32_t next(int32_t node, uint8_t byte) const;

   private:
    void link();
  };
  std::vector<Trie> tries_;
};

struct TextSegment {
  int state;
  std::string text;

  bool operator==(const TextSegment&) const = default;
};

// One answer on its way through a machine: markers are taken out, and what may still become one is held back, and so
// are the first bytes of a character. Pieces may be cut anywhere. Time: linear in the text.
class TextStream {
 public:
  explicit TextStream(std::shared_ptr<const TextStateMachine> machine, int initial = 0);

  // A segment for each state passed, empty ones included; the last one is of the state at the end.
  std::vector<TextSegment> add(std::string_view piece);
  // The text ends here, and what was held back belongs to it.
  TextSegment flush();
  // The same, but what was held back was the beginning of a marker, and goes.
  void discard();

  int state() const { return state_; }

 private:
  std::shared_ptr<const TextStateMachine> machine_;
  int state_;
  int32_t node_ = 0;
  std::string held_;  // from begin_ on
  size_t begin_ = 0;
};

}  // namespace mlx_lm::text
