// Loads a model and streams an answer: stream MODEL "PROMPT"
#include <iostream>

#include "mlx_lm/mlx_lm.h"

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: " << argv[0] << " MODEL PROMPT\n";
    return 2;
  }
  auto [model, tokenizer, config] = mlx_lm::load(argv[1]);
  auto prompt = tokenizer.apply_chat_template({{{"role", "user"}, {"content", argv[2]}}}, {});
  for (auto& response : mlx_lm::stream_generate(*model, tokenizer, prompt, {.max_tokens = 64})) {
    std::cout << response.text << std::flush;
  }
  std::cout << std::endl;
} catch (const mlx_lm::Error& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
