#include "mlx_lm/serve/served_model.h"

#include <set>
#include <string_view>
#include <utility>

#include "mlx_lm/generate/chat_session.h"
#include "mlx_lm/generate/prefix_rows.h"

namespace mlx_lm::serve {
namespace {

GrammarTokens grammar_tokens(const Loaded& loaded) {
  const auto& ids = loaded.tokenizer.eos_token_ids();
  const std::vector<int> end_tokens(ids.begin(), ids.end());
  return GrammarTokens(loaded.tokenizer.tokenizer(), loaded.model->vocab_size(), end_tokens);
}

// Of the tokens that are added but not special, those in angle brackets are markers ("<tool_call>"), except where a
// tokenizer (Gemma's) has HTML in its vocabulary; others are runs of white space.
bool is_marker(const std::string& token) {
  static const std::set<std::string_view> kHtml = {
      "a",   "b",   "blockquote", "body",  "br", "caption", "code", "div",   "em", "h1",  "h2", "h3",   "h4",
      "h5",  "h6",  "hr",         "html",  "i",  "img",     "li",   "ol",    "p",  "pre", "s",  "span", "strong",
      "sub", "sup", "table",      "tbody", "td", "tfoot",   "th",   "thead", "tr", "u",   "ul"};
  if (token.size() < 3 || token.front() != '<' || token.back() != '>') return false;
  auto name = std::string_view(token).substr(1, token.size() - 2);
  if (name.starts_with('/')) name.remove_prefix(1);
  return !kHtml.contains(name);
}

std::unordered_set<std::string> control_tokens(const Tokenizer& tokenizer) {
  const auto special = tokenizer.added_tokens(/* special */ true);
  std::unordered_set<std::string> tokens(special.begin(), special.end());
  for (auto& token : tokenizer.added_tokens(/* special */ false)) {
    if (is_marker(token)) tokens.insert(std::move(token));
  }
  std::erase_if(tokens, [](const std::string& token) { return token.size() < 2; });
  return tokens;
}

}  // namespace

ServedModel::ServedModel(std::string id, Loaded l)
    : id(std::move(id)),
      loaded(std::move(l)),
      grammar_tokens(serve::grammar_tokens(loaded)),
      control_tokens(serve::control_tokens(loaded.tokenizer.tokenizer())),
      cuttable(mlx_lm::cuttable(loaded.model->make_cache())),
      context_size(mlx_lm::context_size(loaded.config)) {}

}  // namespace mlx_lm::serve
