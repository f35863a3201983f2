// A conversation, a message a line: chat MODEL
#include <iostream>
#include <string>

#include "mlx_lm/mlx_lm.h"

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " MODEL\n";
    return 2;
  }
  auto [model, tokenizer, config] = mlx_lm::load(argv[1]);
  mlx_lm::ChatSession session(*model, tokenizer, {.context_size = mlx_lm::context_size(config)});
  for (std::string message; std::getline(std::cin, message);) {
    for (auto& piece : session.say(message, {.max_tokens = 64})) {
      for (const auto& part : piece.parts) std::cout << part.text << std::flush;
    }
    std::cout << std::endl;
  }
} catch (const mlx_lm::Error& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
