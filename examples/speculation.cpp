// Tokens guessed from the prompt, or by a smaller model: example_speculation MODEL PROMPT [DRAFT_MODEL]
#include <iostream>

#include "mlx_lm/mlx_lm.h"

int main(int argc, char** argv) try {
  if (argc < 3 || argc > 4) {
    std::cerr << "usage: " << argv[0] << " MODEL PROMPT [DRAFT_MODEL]\n";
    return 2;
  }
  const auto [model, tokenizer, config] = mlx_lm::load(argv[1]);
  std::unique_ptr<mlx_lm::Loaded> draft;
  std::unique_ptr<mlx_lm::Drafter> drafter = std::make_unique<mlx_lm::NgramDrafter>();
  if (argc > 3) {
    draft = std::make_unique<mlx_lm::Loaded>(mlx_lm::load(argv[3]));
    drafter = std::make_unique<mlx_lm::ModelDrafter>(*draft->model, *model);
  }
  mlx_lm::StepOptions options{.max_tokens = 200};
  options.drafter = drafter.get();
  int tokens = 0, guessed = 0;
  const auto prompt = tokenizer.apply_chat_template({{{"role", "user"}, {"content", argv[2]}}}, {});
  for (auto& response : mlx_lm::stream_generate(*model, tokenizer, prompt, options)) {
    std::cout << response.text << std::flush;
    tokens = response.generation_tokens;
    guessed += response.from_draft && !response.finish_reason;
  }
  std::cout << "\n" << guessed << " of " << tokens << " tokens were guessed\n";
} catch (const mlx_lm::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
