// The subcommands: each adds its flags to the parser and runs when it was chosen.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace mlx_lm::cli {

// Adds the subcommand to the program. The returned function runs it and gives the exit status.
using Command = std::function<int()>;
Command add_generate(CLI::App& program);

}  // namespace mlx_lm::cli
