// An answer that fulfils a JSON schema: example_structure MODEL SCHEMA PROMPT
#include <iostream>

#include "mlx_lm/mlx_lm.h"

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::cerr << "usage: " << argv[0] << " MODEL SCHEMA PROMPT\n";
    return 2;
  }
  const auto [model, tokenizer, config] = mlx_lm::load(argv[1]);
  // The vocabulary and the schema are prepared once; a constraint follows one text.
  const std::vector<int> end_tokens(tokenizer.eos_token_ids().begin(), tokenizer.eos_token_ids().end());
  const mlx_lm::GrammarTokens tokens(tokenizer.tokenizer(), model->vocab_size(), end_tokens);
  const mlx_lm::Grammar grammar(tokens, {.json_schema = argv[2]});
  mlx_lm::sample::Constraint constraint(grammar.matcher());

  mlx_lm::StepOptions options{.max_tokens = 300};
  options.constraint = &constraint;
  const auto prompt = tokenizer.apply_chat_template({{{"role", "user"}, {"content", argv[3]}}}, {});
  std::cout << mlx_lm::generate(*model, tokenizer, prompt, options) << "\n";
} catch (const mlx_lm::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
