#include "mlx_lm/generate/prefix_tree.h"

#include <algorithm>

namespace mlx_lm {

struct PrefixTree::Node {
  Tree* tree;
  Node* parent;
  int begin;  // tokens before
  std::vector<int> tokens = {};
  RowBytes rows = nullptr;
  WholeCaches whole = nullptr;
  uint64_t used = 0;
  std::map<int, std::unique_ptr<Node>> children = {};

  int size() const { return int(tokens.size()); }
  int end() const { return begin + size(); }
  size_t bytes() const;
};

struct PrefixTree::Tree {
  explicit Tree(CacheForm form) : form(std::make_shared<const CacheForm>(std::move(form))) {}
  std::shared_ptr<const CacheForm> form;
  Node root{this, nullptr, 0};
};

size_t PrefixTree::Node::bytes() const {
  return kNodeBytes + tokens.size() * (sizeof(int) + tree->form->row_bytes()) + nbytes(whole);
}

cache::KVCaches HeldPrefix::caches(int capacity) const {
  return form ? form->join(pieces, whole, trimmed, std::max(capacity, tokens)) : cache::KVCaches();
}

PrefixTree::PrefixTree(size_t max_bytes, int max_entries) : max_bytes_(max_bytes), max_entries_(max_entries) {}

// Not by the nodes' own destructors, which would go as deep as the tree.
PrefixTree::~PrefixTree() {
  while (!leaves_.empty()) remove(leaves_.begin()->second);
}

PrefixTree::Tree& PrefixTree::tree_of(const std::string& key, const cache::KVCaches& caches) {
  CacheForm form(caches);
  for (auto [at, end] = trees_.equal_range(key); at != end; ++at) {
    if (*at->second->form == form) return *at->second;
  }
  return *trees_.emplace(key, std::make_unique<Tree>(std::move(form)))->second;
}

std::pair<PrefixTree::Path, int> PrefixTree::walk(const Tree& tree, std::span<const int> tokens) {
  Path path;
  size_t known = 0;
  const Node* node = &tree.root;
  while (known < tokens.size()) {
    const auto child = node->children.find(tokens[known]);
    if (child == node->children.end()) break;
    node = child->second.get();
    path.push_back(child->second.get());
    const auto rest = tokens.subspan(known);
    const auto same = std::mismatch(node->tokens.begin(), node->tokens.end(), rest.begin(), rest.end()).first;
    known += size_t(same - node->tokens.begin());
    if (same != node->tokens.end()) break;
  }
  return {path, int(known)};
}

// path: receives the nodes that take part.
HeldPrefix PrefixTree::find(const Tree& tree, std::span<const int> tokens, Path& path) {
  int known;
  std::tie(path, known) = walk(tree, tokens);
  HeldPrefix held{.form = tree.form};
  if (tree.form->cuttable()) {
    held.tokens = known;
  } else {
    // Whole caches that go further, if that can be taken back; else the last that do not.
    const auto gives = [&](const Node& node) {
      return node.whole && (node.end() <= known || cache::trimmable(*node.whole) >= node.end() - known);
    };
    while (!path.empty() && path.back()->end() <= known && path.back()->children.size() == 1 && !gives(*path.back())) {
      path.push_back(path.back()->children.begin()->second.get());
    }
    while (!path.empty() && !gives(*path.back())) path.pop_back();
    if (path.empty()) return {};
    held.whole = path.back()->whole;
    held.tokens = std::min(known, path.back()->end());
    held.trimmed = path.back()->end() - held.tokens;
  }
  for (const Node* node : path) {
    const int used = std::min(node->end(), held.tokens) - node->begin;
    if (used > 0) held.pieces.push_back({node->rows, node->size(), used});
  }
  return held;
}

HeldPrefix PrefixTree::find(const std::string& key, std::span<const int> tokens, int limit) {
  HeldPrefix best;
  Path best_path;
  tokens = tokens.first(size_t(std::clamp(limit, 0, int(tokens.size()))));
  for (auto [at, end] = trees_.equal_range(key); at != end; ++at) {
    Path path;
    auto held = find(*at->second, tokens, path);
    if (held.tokens > best.tokens) best = std::move(held), best_path = std::move(path);
  }
  touch(best_path);
  return best;
}

void PrefixTree::touch(const Path& path) {
  clock_ += 1;
  for (Node* node : path) {
    const bool leaf = leaves_.erase({node->used, node}) > 0;
    node->used = clock_;
    if (leaf) leaves_.insert({clock_, node});
  }
}

// Cuts a node in two; returns the first part, which becomes the parent of what the node is then.
PrefixTree::Node* PrefixTree::split(Node* node, int at) {
  const auto& form = *node->tree->form;
  auto& slot = node->parent->children.at(node->tokens[0]);
  auto first = std::make_unique<Node>(Node{node->tree, node->parent, node->begin});
  first->tokens.assign(node->tokens.begin(), node->tokens.begin() + at);
  first->rows = form.part(node->rows, node->size(), at, false);
  first->used = node->used;
  node->rows = form.part(node->rows, node->size(), at, true);
  node->tokens.erase(node->tokens.begin(), node->tokens.begin() + at);
  node->begin += at;
  node->parent = first.get();
  first->children.emplace(node->tokens[0], std::move(slot));
  slot = std::move(first);
  bytes_ += kNodeBytes;
  return slot.get();
}

PrefixTree::Inserted PrefixTree::insert(const std::string& key, std::span<const int> tokens,
                                        const cache::KVCaches& caches) {
  const int n = int(tokens.size());
  std::erase_if(trees_, [](const auto& tree) { return tree.second->root.children.empty(); });
  auto& tree = tree_of(key, caches);
  const auto& form = *tree.form;
  auto [path, known] = walk(tree, tokens);
  touch(path);
  const bool at_end = path.empty() || path.back()->end() == known;
  if (known == n && (form.cuttable() || (at_end && path.back()->whole))) return Inserted::known;

  // What it would all take, before anything is copied or let go: a node more if one has to be cut.
  const auto whole = form.take_whole(caches);
  size_t own = nbytes(whole) + (at_end ? 0 : kNodeBytes), all = own;
  if (known < n) own += kNodeBytes + size_t(n - known) * (sizeof(int) + form.row_bytes());
  all = own;
  for (const Node* node : path) all += node->bytes();
  if (all > max_bytes_) return Inserted::nothing;
  // The path was used last, so all others go before it.
  const int new_leaf = known < n && (path.empty() || !at_end || !path.back()->children.empty());
  const auto others_left = [&] { return !leaves_.empty() && leaves_.begin()->first != clock_; };
  while (others_left() && (bytes_ + own > max_bytes_ || (max_entries_ > 0 && entries() + new_leaf > max_entries_))) {
    evict();
  }

  Node* parent = path.empty() ? &tree.root : path.back();
  if (!at_end) parent = split(parent, known - parent->begin);
  if (known == n) {
    parent->whole = whole;
    bytes_ += nbytes(whole);
    return Inserted::added;
  }
  auto node = std::make_unique<Node>(Node{&tree, parent, known});
  node->tokens.assign(tokens.begin() + known, tokens.end());
  node->rows = form.take(caches, known, n);
  node->whole = whole;
  node->used = ++clock_;
  bytes_ += node->bytes();
  leaves_.erase({parent->used, parent});
  leaves_.insert({clock_, node.get()});
  parent->children.emplace(tokens[size_t(known)], std::move(node));
  // The text that it parts from, perhaps.
  while (max_entries_ > 0 && entries() > max_entries_) evict();
  return Inserted::added;
}

// The least recently used leaf, and nodes before it that are good for nothing then.
void PrefixTree::evict() {
  remove(leaves_.begin()->second);
  evictions_ += 1;
}

void PrefixTree::remove(Node* leaf) {
  const Tree& tree = *leaf->tree;
  leaves_.erase({leaf->used, leaf});
  for (;;) {
    Node* const parent = leaf->parent;
    bytes_ -= leaf->bytes();
    parent->children.erase(leaf->tokens[0]);
    if (parent == &tree.root || !parent->children.empty()) return;
    // It goes too if there is nothing to go on from, and it is not the one that is about to get something.
    if (tree.form->cuttable() || parent->whole || parent->used == clock_) {
      leaves_.insert({parent->used, parent});
      return;
    }
    leaf = parent;
  }
}

}  // namespace mlx_lm
