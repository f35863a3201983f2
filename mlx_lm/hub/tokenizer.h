// Hugging Face's tokenizers.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlx_lm {

namespace bridge {
struct BridgeTokenizer;
}

// A byte-pair tokenizer in parts, for files that hold it in another form than tokenizer.json.
struct BytePairs {
  struct Added {
    size_t id;
    bool special;
  };

  std::string shell;                                                  // tokenizer.json without what follows
  std::vector<std::string_view> tokens;                               // by id; of equal ones the last counts
  std::vector<std::pair<std::string_view, std::string_view>> merges;  // the first to be made first
  std::vector<Added> added;                                           // found in a text as they are, and cut out whole
};

// Text to token ids and back. Immutable; copies share it. Threads: safe to use from several.
class Tokenizer {
 public:
  // tokenizer.json. Errors: Error for a file that cannot be read or holds no tokenizer.
  static Tokenizer from_file(const std::filesystem::path& path);
  // Its text. where: as errors should call it.
  static Tokenizer from_json(std::string_view json, std::string_view where);
  // Errors: Error for tokens or merges that are no tokenizer.
  static Tokenizer from_byte_pairs(const BytePairs& parts, std::string_view where);

  // special: with the tokens that the post-processor puts around the text. Errors: RequestError for text that is not
  // UTF-8 or that the tokenizer cannot encode.
  std::vector<int> encode(std::string_view text, bool special) const;
  // Ids that the tokenizer does not know are left out. skip_special: special tokens, too.
  std::string decode(std::span<const int> ids, bool skip_special) const;

  std::optional<int> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(int id) const;
  // Tokens, added ones included.
  int vocab_size() const;
  // By id; empty where no token has the id.
  std::vector<std::string> vocabulary() const;
  // Those that are cut out of a text before it is tokenized, so that who writes one's text writes that token: the
  // special ones, or the others. In no order.
  std::vector<std::string> added_tokens(bool special) const;
  // The `decoder` of tokenizer.json, or "null".
  std::string decoder_json() const;

 private:
  friend class GrammarTokens;
  struct Handle;
  const bridge::BridgeTokenizer& inner() const;
  explicit Tokenizer(std::shared_ptr<const Handle> handle) : handle_(std::move(handle)) {}
  std::shared_ptr<const Handle> handle_;
};

}  // namespace mlx_lm
