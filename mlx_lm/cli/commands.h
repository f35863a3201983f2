// The subcommands: each adds its flags to the parser, and is run when it was chosen.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace mlx_lm::cli {

struct Command {
  CLI::App* app;             // its flags
  std::function<int()> run;  // gives the exit status
};

// Each adds its subcommand to the program.
Command add_benchmark(CLI::App& program);
Command add_cache_prompt(CLI::App& program);
Command add_chat(CLI::App& program);
Command add_generate(CLI::App& program);
Command add_models(CLI::App& program);
Command add_perplexity(CLI::App& program);
Command add_server(CLI::App& program);

}  // namespace mlx_lm::cli
