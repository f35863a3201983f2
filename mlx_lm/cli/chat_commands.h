// The commands of a chat, which are no messages to the model.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_lm::cli {

struct ChatCommand {
  enum class Kind { help, reset, undo, retry, drop, system, set, stats, save, load, quit };

  Kind kind;
  std::string argument;  // what follows the name, without the spaces around it
};

// A line as it was typed: a command, or nullopt for a message. Commands are /name and mlx-lm's q, r and h alone. A line
// that begins with // or with a path is a message. Errors: RequestError for an unknown name, with the nearest known
// one, for an argument that is missing, and for one that is not expected.
std::optional<ChatCommand> parse_command(std::string_view line);

// The line as a message: // at its beginning is one slash.
std::string to_message(std::string_view line);

// A line for each command, without the last line end.
std::string command_help();

// What may stand where the text stands, for the Tab key: names of commands and settings.
std::vector<std::string> complete_command(std::string_view text);

}  // namespace mlx_lm::cli
