#include "mlx_lm/text/state_machine.h"

#include <algorithm>

#include "mlx_lm/base/error.h"
#include "mlx_lm/text/utf8.h"

namespace mlx_lm::text {
namespace {

// How much of text does not end within a character.
size_t whole_characters(std::string_view text) {
  for (size_t tail = 1; tail <= std::min<size_t>(3, text.size()); ++tail) {
    const uint8_t byte = uint8_t(text[text.size() - tail]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > tail ? text.size() - tail : text.size();
  }
  return text.size();
}

}  // namespace

TextStateMachine::Trie::Trie(std::vector<Edge> given) : nodes(1), edges(std::move(given)) {
  for (size_t i = 0; i < edges.size(); ++i) {
    int32_t node = 0;
    for (const char c : edges[i].marker) {
      int32_t next = child(node, uint8_t(c));
      if (next == 0) {
        next = int32_t(nodes.size());
        nodes.push_back({.sibling = nodes[node].child, .depth = nodes[node].depth + 1, .byte = uint8_t(c)});
        nodes[node].child = next;
      }
      node = next;
    }
    if (node != 0) nodes[node].match = int32_t(i);
  }
  link();
}

int32_t TextStateMachine::Trie::child(int32_t node, uint8_t byte) const {
  int32_t found = nodes[node].child;
  while (found != 0 && nodes[found].byte != byte) found = nodes[found].sibling;
  return found;
}

// The longest suffix of the node's text and this byte that is a node.
int32_t TextStateMachine::Trie::next(int32_t node, uint8_t byte) const {
  int32_t found = child(node, byte);
  while (found == 0 && node != 0) {
    node = nodes[node].fail;
    found = child(node, byte);
  }
  return found;
}

// By breadth: the suffixes of a node are shorter than it.
void TextStateMachine::Trie::link() {
  std::vector<int32_t> queue{0};
  queue.reserve(nodes.size());
  for (size_t i = 0; i < queue.size(); ++i) {
    const int32_t parent = queue[i];
    for (int32_t n = nodes[parent].child; n != 0; n = nodes[n].sibling) {
      queue.push_back(n);
      if (parent == 0) continue;
      nodes[n].fail = next(nodes[parent].fail, nodes[n].byte);
      if (nodes[n].match < 0) nodes[n].match = nodes[nodes[n].fail].match;
    }
  }
}

TextStateMachine::TextStateMachine(const std::vector<std::vector<Edge>>& edges) {
  size_t bytes = 0;
  for (const auto& state : edges) {
    for (const auto& edge : state) bytes += edge.marker.size();
  }
  if (bytes > kMaxBytes) {
    fail<RequestError>("[text] stop words and markers: expected at most {} bytes in all states, found {}", kMaxBytes,
                       bytes);
  }
  for (const auto& state : edges) tries_.emplace_back(state);
}

TextStream::TextStream(std::shared_ptr<const TextStateMachine> machine, int initial)
    : machine_(std::move(machine)), state_(initial) {}

std::vector<TextSegment> TextStream::add(std::string_view piece) {
  std::vector<TextSegment> segments;
  if (state_ == TextStateMachine::kEnd) return {{state_, {}}};
  size_t at = held_.size();
  held_ += piece;
  const auto cut = [&](size_t end) {
    segments.push_back({state_, held_.substr(begin_, end - begin_)});
    begin_ = end;
  };
  for (; at < held_.size(); ++at) {
    const auto& trie = machine_->tries_[size_t(state_)];
    node_ = trie.next(node_, uint8_t(held_[at]));
    const int32_t match = trie.nodes[node_].match;
    if (match < 0) continue;
    const auto& edge = trie.edges[size_t(match)];
    cut(at + 1 - edge.marker.size());
    begin_ = at + 1;
    node_ = 0;
    state_ = edge.to;
    if (state_ == TextStateMachine::kEnd) {
      discard();
      segments.push_back({state_, {}});
      return segments;
    }
  }
  const auto pending = size_t(machine_->tries_[size_t(state_)].nodes[node_].depth);
  cut(begin_ + whole_characters(std::string_view(held_).substr(begin_, held_.size() - pending - begin_)));
  // Now and then, so that a long marker held back is not moved with each piece.
  if (begin_ > held_.size() / 2) {
    held_.erase(0, begin_);
    begin_ = 0;
  }
  return segments;
}

TextSegment TextStream::flush() {
  TextSegment rest{state_, held_.substr(begin_)};
  discard();
  return rest;
}

void TextStream::discard() {
  held_.clear();
  begin_ = 0;
  node_ = 0;
}

}  // namespace mlx_lm::text
