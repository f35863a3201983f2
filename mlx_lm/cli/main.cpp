// mlx_lm <subcommand> ..., also reachable as mlx_lm.<subcommand>.
#include <fcntl.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/commands.h"

namespace {

// The arguments without the program's name, with the subcommand that a link's name stands for.
std::vector<std::string> arguments(int argc, char** argv) {
  std::vector<std::string> list(argv + 1, argv + argc);
  const auto name = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "";
  if (constexpr std::string_view kPrefix = "mlx_lm."; name.starts_with(kPrefix)) {
    list.insert(list.begin(), name.substr(kPrefix.size()));
  }
  return {list.rbegin(), list.rend()};  // CLI11 takes them from the back
}

int fail_with(const char* message) {
  // One line, and nothing that a terminal obeys, whatever a file or a server made the message quote.
  std::string line(message);
  for (char& c : line) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  std::fprintf(stderr, "mlx_lm: %s\n", line.c_str());
  return 1;
}

// A stream that the caller closed leaves its number to the next file that is opened, which could be one to write. It is
// opened for reading, so that writing to it still fails.
void fill_closed_streams() {
  for (int stream : {0, 1, 2}) {
    if (::fcntl(stream, F_GETFD) == -1) [[maybe_unused]]
      const int opened = ::open("/dev/null", O_RDONLY);
  }
}

}  // namespace

int main(int argc, char** argv) {
  fill_closed_streams();
  CLI::App program("Language models on this machine: MLX models and GGUF files, without Python.", "mlx_lm");
  program.set_version_flag("--version", MLX_LM_VERSION);
  program.require_subcommand(1);
  program.get_formatter()->column_width(34);
  const mlx_lm::cli::Command commands[] = {
      mlx_lm::cli::add_generate(program),     mlx_lm::cli::add_chat(program),   mlx_lm::cli::add_benchmark(program),
      mlx_lm::cli::add_cache_prompt(program), mlx_lm::cli::add_models(program), mlx_lm::cli::add_perplexity(program),
      mlx_lm::cli::add_server(program),
  };
  try {
    program.parse(arguments(argc, argv));
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? 0 : 2;
  }
  try {
    for (const auto& command : commands) {
      if (command.app->parsed()) return command.run();
    }
    return 2;  // not reached: one subcommand is required
  } catch (const std::exception& error) {
    return fail_with(error.what());
  }
}
