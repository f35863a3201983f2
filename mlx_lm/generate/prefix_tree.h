// A tree over token ids, in which common beginnings of texts are held once.
//
// A node is a run of tokens with their rows, and perhaps, valid at its end only, the whole caches of layers that have
// no rows. Children differ in their first token. There is a tree for each key and form of caches; all share one budget.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlx_lm/generate/prefix_rows.h"

namespace mlx_lm {

// The beginning of a text as it is held. Holds its memory, whatever becomes of the tree.
struct HeldPrefix {
  int tokens = 0;  // 0: nothing is held, and the rest is empty
  std::shared_ptr<const CacheForm> form = nullptr;
  std::vector<CacheForm::Piece> pieces = {};
  WholeCaches whole = nullptr;
  int trimmed = 0;  // last tokens of `whole` that are not wanted

  // Caches that go on by themselves, with room for `capacity` tokens, at least those there are.
  cache::KVCaches caches(int capacity) const;
};

// Threads: one at a time.
class PrefixTree {
 public:
  // max_entries: leaves; 0: no limit.
  PrefixTree(size_t max_bytes, int max_entries);
  ~PrefixTree();

  // The longest held beginning of at most `limit` tokens. It counts as used.
  HeldPrefix find(const std::string& key, std::span<const int> tokens, int limit);

  enum class Inserted { nothing, known, added };
  // Holds what evaluated caches of at least these tokens have of them. Nothing: they cannot be cut there, or would take
  // more than the budget. The least recently used leaves make room.
  Inserted insert(const std::string& key, std::span<const int> tokens, const cache::KVCaches& caches);

  // Of all nodes: their rows, whole caches, tokens, and kNodeBytes for each.
  size_t bytes() const { return bytes_; }
  int entries() const { return int(leaves_.size()); }
  int evictions() const { return evictions_; }

  static constexpr size_t kNodeBytes = 512;  // that a node takes beside what it holds, about

 private:
  struct Node;
  struct Tree;
  using Path = std::vector<Node*>;

  Tree& tree_of(const std::string& key, const cache::KVCaches& caches);
  // From the root's child on: the nodes that begin the tokens, and how many tokens they agree in, of the last one
  // perhaps only some.
  static std::pair<Path, int> walk(const Tree& tree, std::span<const int> tokens);
  static HeldPrefix find(const Tree& tree, std::span<const int> tokens, Path& path);
  void touch(const Path& path);
  Node* split(Node* node, int at);
  void evict();
  void remove(Node* leaf);

  size_t max_bytes_;
  int max_entries_;
  size_t bytes_ = 0;
  int evictions_ = 0;
  uint64_t clock_ = 0;
  std::multimap<std::string, std::unique_ptr<Tree>> trees_;
  std::set<std::pair<uint64_t, Node*>> leaves_;  // by when they were used
};

}  // namespace mlx_lm
