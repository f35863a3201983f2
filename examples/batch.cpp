// Several prompts answered together: example_batch MODEL PROMPT...
#include <iostream>

#include "mlx_lm/mlx_lm.h"

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::cerr << "usage: " << argv[0] << " MODEL PROMPT...\n";
    return 2;
  }
  const auto [model, tokenizer, config] = mlx_lm::load(argv[1]);
  std::vector<mlx_lm::BatchPrompt> prompts;
  for (int i = 2; i < argc; ++i) {
    const auto prompt = tokenizer.apply_chat_template({{{"role", "user"}, {"content", argv[i]}}}, {});
    prompts.push_back({tokenizer.encode(prompt, /* add_special_tokens */ false), {.max_tokens = 100}});
  }
  const auto result = mlx_lm::batch_generate(*model, tokenizer, std::move(prompts));
  for (const auto& answer : result.answers) std::cout << argv[2 + answer.index] << "\n  " << answer.text << "\n";
} catch (const mlx_lm::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
