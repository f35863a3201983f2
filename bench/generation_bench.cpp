// Prompt and generation speed of a whole model, in the words of scripts that compare programs:
//   bench_generation MODEL [PROMPT_TOKENS [GENERATED_TOKENS [ROUNDS]]]      default 512 128 1
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>

#include "mlx_lm/mlx_lm.h"

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 5) {
    std::cerr << "usage: " << argv[0] << " MODEL [PROMPT_TOKENS [GENERATED_TOKENS [ROUNDS]]]\n";
    return 2;
  }
  const auto number = [&](int i, int fallback) { return i < argc ? std::atoi(argv[i]) : fallback; };
  const int prompt_tokens = number(2, 512), generated = number(3, 128), rounds = number(4, 1);
  const auto loaded = mlx_lm::load(argv[1]);
  std::mt19937 engine(0);
  std::uniform_int_distribution<int> any(0, loaded.model->vocab_size() - 1);

  const auto run = [&](bool report) {
    std::vector<int> prompt(prompt_tokens);
    for (int& id : prompt) id = any(engine);
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    auto first = start;
    int n = 0;
    for ([[maybe_unused]] auto& step : mlx_lm::generate_step(prompt, *loaded.model, {.max_tokens = generated + 1})) {
      if (n++ == 0) first = Clock::now();
    }
    const std::chrono::duration<double> reading = first - start, writing = Clock::now() - first;
    if (!report) return;
    std::printf("%-34s prompt %8.1f tok/s   generation %8.1f tok/s\n", "mlx-lm.cpp as is",
                prompt_tokens / reading.count(), generated / writing.count());
  };
  run(false);
  for (int i = 0; i < rounds; ++i) run(true);
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
