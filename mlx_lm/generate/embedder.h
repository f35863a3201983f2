// Texts as vectors: what a model's last layer makes of their tokens, pooled.
#pragma once

#include <utility>
#include <vector>

#include "mlx_lm/load/pooling.h"
#include "mlx_lm/models/architecture.h"

namespace mlx_lm {
namespace mx = mlx::core;

// Computes in pieces, so that others can have the model's thread between them. Short texts share a piece: later tokens
// change nothing before them, so that shorter ones are filled up at their end.
// Threads: its own caches stay with the thread that made it; it must end there too.
class Embedder {
 public:
  // texts: of at least one token each, below model.vocab_size(). piece: tokens that are computed at once.
  Embedder(const models::LanguageModel& model, Pooling pooling, std::vector<std::vector<int>> texts, int piece);

  // The next piece. False: everything is done. Eval: forces. Errors: Error for numbers that are not finite.
  bool step();
  // Bytes that the caches of the texts under way will have at their end; known after their first piece.
  size_t bytes() const { return bytes_; }

  // In the order of the texts; those that are not done are empty. Units: of length 1.
  const std::vector<std::vector<float>>& vectors() const { return vectors_; }
  std::vector<std::vector<float>> take() { return std::move(vectors_); }

 private:
  void begin();
  void pool(const mx::array& states);
  void end();

  const models::LanguageModel& model_;
  const Pooling pooling_;
  const std::vector<std::vector<int>> texts_;
  const int piece_;
  std::vector<int> order_;  // texts by length
  std::vector<std::vector<float>> vectors_;

  // The texts under way: order_[first_] to order_[end_].
  size_t first_ = 0, end_ = 0;
  int done_ = 0;  // tokens of each
  cache::KVCaches caches_;
  std::vector<std::vector<double>> sums_;
  size_t bytes_ = 0;
};

}  // namespace mlx_lm
