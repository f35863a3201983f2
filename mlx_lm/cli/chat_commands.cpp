#include "mlx_lm/cli/chat_commands.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "mlx_lm/base/edit_distance.h"
#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/chat_settings.h"

namespace mlx_lm::cli {
namespace {

using Kind = ChatCommand::Kind;

enum class Argument { none, optional, required };

struct Entry {
  std::string_view name;
  Kind kind;
  Argument argument;
  std::string_view argument_help, help;
};

constexpr Entry kCommands[] = {
    {"help", Kind::help, Argument::none, "", "this list (h)"},
    {"reset", Kind::reset, Argument::none, "", "start a new conversation (r)"},
    {"undo", Kind::undo, Argument::none, "", "take the last message and its answer back"},
    {"retry", Kind::retry, Argument::none, "", "answer the last message anew"},
    {"drop", Kind::drop, Argument::none, "", "when the context is full: go on without the oldest turns"},
    {"system", Kind::system, Argument::optional, "[TEXT|off]", "show or change the system message"},
    {"set", Kind::set, Argument::optional, "[NAME [VALUE]]", "show or change a setting: /set temp 0.7"},
    {"stats", Kind::stats, Argument::none, "", "how full the context is, how fast it went"},
    {"save", Kind::save, Argument::required, "FILE", "write the conversation to a JSON file"},
    {"load", Kind::load, Argument::required, "FILE", "go on with one from a file"},
    {"quit", Kind::quit, Argument::none, "", "end (q, Ctrl-D)"},
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace

std::optional<ChatCommand> parse_command(std::string_view line) {
  const auto text = trim(line);
  if (text == "q") return ChatCommand{Kind::quit, {}};
  if (text == "r") return ChatCommand{Kind::reset, {}};
  if (text == "h") return ChatCommand{Kind::help, {}};
  if (!text.starts_with('/')) return std::nullopt;
  const auto word = text.substr(1, text.find_first_of(" \t\n", 1) - 1);
  if (word.find('/') != word.npos) return std::nullopt;
  const auto argument = trim(text.substr(1 + word.size()));

  const auto found = std::ranges::find(kCommands, word, &Entry::name);
  if (found == std::end(kCommands)) {
    std::vector<std::string_view> names;
    for (const auto& each : kCommands) names.push_back(each.name);
    fail<RequestError>("[chat] command: expected one of /{}; found /{}; did you mean /{}?", fmt::join(names, ", /"),
                       word.substr(0, 60), nearest(word, names));
  }
  if (found->argument == Argument::required && argument.empty()) {
    fail<RequestError>("[chat] /{}: expected {}, found nothing", found->name, found->argument_help);
  }
  if (found->argument == Argument::none && !argument.empty()) {
    fail<RequestError>("[chat] /{}: expected nothing after it, found '{}'", found->name, argument.substr(0, 60));
  }
  return ChatCommand{found->kind, std::string(argument)};
}

std::string to_message(std::string_view line) { return std::string(line.starts_with("//") ? line.substr(1) : line); }

std::string command_help() {
  std::string out;
  for (const auto& each : kCommands) {
    out += fmt::format("  {:<24}{}\n", fmt::format("/{} {}", each.name, each.argument_help), each.help);
  }
  return out +
         "  several lines: end a line with \\, begin and end a block with \"\"\", or press Alt-Enter\n"
         "  Ctrl-C stops an answer; at an empty prompt, twice, it ends the chat";
}

std::vector<std::string> complete_command(std::string_view text) {
  std::vector<std::string> found;
  const auto offer = [&](std::string candidate) {
    if (candidate.starts_with(text)) found.push_back(std::move(candidate));
  };
  if (!text.starts_with('/')) return found;
  for (const auto& each : kCommands) offer(fmt::format("/{}{}", each.name, each.argument_help.empty() ? "" : " "));
  for (const auto name : ChatSettings::names()) {
    if (text.size() > 5) offer(fmt::format("/set {} ", name));
  }
  return found;
}

}  // namespace mlx_lm::cli
