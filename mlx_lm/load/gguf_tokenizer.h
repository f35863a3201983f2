// A GGUF file's tokenizer as the Hugging Face files that the same tokenizer would have, but for its vocabulary.
#pragma once

#include <nlohmann/json.hpp>

#include "mlx_lm/hub/tokenizer.h"
#include "mlx_lm/load/gguf_reader.h"

namespace mlx_lm {

struct GgufTokenizer {
  BytePairs byte_pairs;             // tokenizer.json in parts, which point into the file
  nlohmann::json tokenizer_config;  // chat_template, bos_token, eos_token, add_bos_token, ...
};

// Byte-level BPE ("gpt2", with the pre-tokenizers smollm, llama-bpe, qwen2, gpt-2, tekken and default) and
// SentencePiece
// ("llama", its merges found again from the scores).
// Errors: UnsupportedModel for another kind of tokenizer or pre-tokenizer, by name; WeightError for metadata that is
// missing, of the wrong length, out of range or not UTF-8.
GgufTokenizer gguf_tokenizer(const GgufFile& file);

}  // namespace mlx_lm
