// The texts by which a model says that it begins or ends to think or to call tools.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_lm/hub/tokenizer.h"

namespace mlx_lm::text {

struct Markers {
  std::string start, end;               // end may be empty: at the end of the answer
  std::vector<int> start_ids, end_ids;  // their tokens

  static Markers of(const Tokenizer& tokenizer, std::string start, std::string end);
};

// From the tokens that the vocabulary holds. Source: mlx_lm/tokenizer_utils.py.
std::optional<Markers> find_thinking(const Tokenizer& tokenizer);
// Whether the vocabulary is one of Kimi K3's kind, whose parts are <|open|>kind<|sep|> and <|close|>kind<|sep|>.
bool has_xtml(const Tokenizer& tokenizer);

}  // namespace mlx_lm::text
