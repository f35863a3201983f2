// Answers as a row of blocks (reasoning, text, calls) that begin and end, for the APIs that have them so.
#pragma once

#include <string>
#include <vector>

#include "mlx_lm/serve/answer.h"

namespace mlx_lm::serve {

struct Block {
  enum class Kind { reasoning, text, call } kind;
  std::string id;    // random; of a call: as the client is to name it
  std::string text;  // call: its arguments, as JSON
  std::string name;  // call: of the function
};

// Turns the pieces of the only choice into blocks.
class BlockWriter : public AnswerWriter {
 public:
  void piece(int choice, const AnswerPiece& piece, const std::vector<ScoredToken>& logprobs) final;
  void end(int choice, const Choice& result) final;

 protected:
  // The newest block began, grew by a text, and ended.
  virtual void open(const Block& block) = 0;
  virtual void grow(const Block& block, const std::string& text) = 0;
  virtual void close(const Block& block) = 0;

  const std::vector<Block>& blocks() const { return blocks_; }
  int index() const { return int(blocks_.size()) - 1; }
  // Once the answer has ended.
  const std::string& finish_reason() const { return finish_reason_; }
  const std::string& stop_word() const { return stop_word_; }

 private:
  void start(Block block);
  void finish();

  std::vector<Block> blocks_;
  bool is_open_ = false;
  std::string finish_reason_, stop_word_;
};

}  // namespace mlx_lm::serve
