#include "mlx_lm/serve/block_writer.h"

#include <utility>

#include "mlx_lm/serve/openai.h"

namespace mlx_lm::serve {

void BlockWriter::start(Block block) {
  finish();
  blocks_.push_back(std::move(block));
  is_open_ = true;
  open(blocks_.back());
}

void BlockWriter::finish() {
  if (std::exchange(is_open_, false)) close(blocks_.back());
}

void BlockWriter::piece(int, const AnswerPiece& piece, const std::vector<ScoredToken>&) {
  using Kind = AnswerPiece::Kind;
  if (piece.kind == Kind::call) return start({Block::Kind::call, piece.id, "", piece.text});
  if (piece.text.empty()) return;
  if (piece.kind != Kind::arguments) {
    const bool is_text = piece.kind == Kind::text;
    const auto kind = is_text ? Block::Kind::text : Block::Kind::reasoning;
    if (!is_open_ || blocks_.back().kind != kind) start({kind, random_id(is_text ? "msg_" : "rs_"), "", ""});
  }
  blocks_.back().text += piece.text;
  grow(blocks_.back(), piece.text);
}

void BlockWriter::end(int, const Choice& result) {
  finish();
  finish_reason_ = result.finish_reason;
  stop_word_ = result.stop_word;
}

}  // namespace mlx_lm::serve
