// What a layer remembers of a text from step to step. One interface, one file per kind.
#pragma once

#include <memory>
#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::cache {
namespace mx = mlx::core;

// Threads: one step at a time, and every step on the thread that made the first.
class Cache {
 public:
  virtual ~Cache() = default;

  // Tokens seen so far, which is the position of the next one.
  virtual int offset() const { return offset_; }
  // Tells a cache that was restored from a state without that number.
  virtual void assume_offset(int /*tokens*/) {}

  // How many of the last tokens can be forgotten again (speculation, reuse of a prefix).
  virtual int trimmable() const = 0;
  // Any number of them can.
  bool is_trimmable() const { return trimmable() >= offset(); }
  // Forgets the last min(n, trimmable()) tokens and returns how many that was.
  virtual int trim(int n) = 0;

  // How many tokens a step may have so that all of it can be taken back, and each sees what it would see in a step of
  // its own: what drafts need.
  virtual int draftable() const = 0;

  // A cache that goes on by itself from here. Eval: forces what this one holds.
  virtual std::unique_ptr<Cache> copy() const = 0;
  // What it is now, to go back to from a step that was built but not evaluated. The buffers are the same.
  virtual std::unique_ptr<Cache> shallow_copy() const = 0;

  // The arrays that it holds, for ops::join, which replaces them; none before the first step.
  virtual std::vector<mx::array*> arrays() = 0;
  // The same to evaluate.
  std::vector<mx::array> state() const;
  size_t nbytes() const;

 protected:
  int offset_ = 0;
};

// One for each layer.
using KVCaches = std::vector<std::unique_ptr<Cache>>;

// How many of the last tokens all of them can forget.
int trimmable(const KVCaches& caches);
// How many tokens a step may have whose drafts all of them can check.
int draftable(const KVCaches& caches);
// Forgets the last n tokens. Requires n <= trimmable().
void trim(KVCaches& caches, int n);
// Each goes on by itself. Eval: forces what the caches hold.
KVCaches copy(const KVCaches& caches);
KVCaches shallow_copy(const KVCaches& caches);
size_t nbytes(const KVCaches& caches);

}  // namespace mlx_lm::cache
