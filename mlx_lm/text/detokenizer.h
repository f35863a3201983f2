// Token ids to text as they come, never cutting a character in two.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlx_lm/hub/tokenizer.h"

namespace mlx_lm::text {

// Holds text back until its characters are complete. Source: mlx_lm/tokenizer_utils.py.
class Detokenizer {
 public:
  virtual ~Detokenizer() = default;
  virtual void add_token(int id) = 0;
  // No more tokens come: lets go of what was held back.
  virtual void finalize() = 0;
  // The text that became readable since the last call; often empty.
  std::string last_segment() { return std::exchange(ready_, {}); }

 protected:
  std::string ready_;
};

// The one that fits the `decoder` of tokenizer.json: byte-level BPE, SentencePiece-like, or any other.
// The tokenizer must outlive it.
std::unique_ptr<Detokenizer> make_detokenizer(const Tokenizer& tokenizer, const nlohmann::json& decoder);

}  // namespace mlx_lm::text
