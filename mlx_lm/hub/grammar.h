// Constrained generation: which tokens keep a text inside a grammar.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mlx_lm/hub/tokenizer.h"

namespace mlx_lm {

// A tokenizer's vocabulary as grammars need it. Made when the first grammar asks for it (tens of milliseconds), then
// shared by copies and by all grammars. Threads: safe to use from several.
class GrammarTokens {
 public:
  // vocabulary: of the model, which may have more tokens than the tokenizer; those are never allowed.
  // end_tokens: allowed where the grammar may end, and nowhere else; ones that the model does not have are left out.
  GrammarTokens(Tokenizer tokenizer, int vocabulary, std::span<const int> end_tokens);

  int vocabulary() const;
  // Words of a mask.
  size_t words() const { return (size_t(vocabulary()) + 31) / 32; }

 private:
  friend class Grammar;
  struct Handle;
  std::shared_ptr<Handle> handle_;
};

// What a text has to be: exactly one of the first five.
struct GrammarOptions {
  std::optional<std::string> json_schema;  // the schema's text
  bool json_object = false;                // any JSON object
  std::optional<std::string> regex;        // of the whole text; Rust's dialect without look-around
  std::optional<std::string> lark;         // llguidance's dialect of Lark, from the rule `start`
  std::vector<std::string> choice;         // one of these

  // JSON: one space after "," and ":" and no other white space, so that more tokens are forced. Else a space, or a line
  // break with indentation, may stand wherever JSON allows white space.
  bool compact = false;

  // Errors: RequestError for none or several of the first five.
  void validate() const;
};

class GrammarMatcher;

// Immutable; copies share it. Threads: safe to use from several.
class Grammar {
 public:
  // Errors: RequestError of one line that names the kind and the place, for what does not parse, asks for what is not
  // known here, or is too large or too slow to work with; for a tokenizer whose tokens are not bytes of a text, too.
  Grammar(const GrammarTokens& tokens, const GrammarOptions& options);

  // At the start of a text. Cheap. What one matcher finds out about the grammar speeds up the next.
  GrammarMatcher matcher() const;
  // What is less strict than it was asked for (oneOf that is taken as anyOf).
  std::vector<std::string> warnings() const;

 private:
  struct Handle;
  std::shared_ptr<const Handle> handle_;
};

// Where in a grammar a text has got to. A copy goes its own way from there. Threads: one at a time; copies in several
// threads wait for each other where they share what they find out.
// Errors: RequestError from any function when the text became too complex for the grammar's limits, or the tokenizer
// cannot write what has to come; from then on always.
class GrammarMatcher {
 public:
  GrammarMatcher(const GrammarMatcher& other);
  GrammarMatcher& operator=(const GrammarMatcher& other);
  GrammarMatcher(GrammarMatcher&&) noexcept;
  GrammarMatcher& operator=(GrammarMatcher&&) noexcept;
  ~GrammarMatcher();

  int vocabulary() const { return vocabulary_; }

  // One bit for each token of the model's vocabulary, GrammarTokens::words() of them: bit i % 32 of word i / 32 says
  // whether token i may come next. Forced text is allowed in its canonical tokens only. After an end token: none.
  void mask(std::span<uint32_t> bits);

  // The token came. False: the grammar does not allow it, and nothing has changed.
  bool commit(int token);
  // How many of these would be allowed, one after the other. Other than mask() it takes any tokens for forced text.
  int validate(std::span<const int> tokens);
  // Takes the last n tokens back, end tokens included.
  void rollback(int n);

  // The tokens that must come next, as the tokenizer would write them; a part of a token that more text could change is
  // left out. To be fed to the model at once, and committed.
  std::vector<int> forced();
  // A short way from here to the end: tokens without the end token; none if `limit` of them are not enough (or none was
  // found: the search is greedy). Changes nothing. Costs up to one mask a token.
  std::optional<std::vector<int>> ending(int limit) const;

  // The text may end here, so end tokens are allowed.
  bool accepts();
  // Nothing but an end token may follow, or one came.
  bool stopped() const;

 private:
  friend class Grammar;
  struct Handle;
  GrammarMatcher(std::unique_ptr<Handle> handle, int vocabulary);
  std::unique_ptr<Handle> handle_;
  int vocabulary_;
};

}  // namespace mlx_lm
