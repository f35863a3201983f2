#include "mlx_lm/cli/chat_file.h"

#include <cstdlib>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/private_file.h"
#include "mlx_lm/load/json_file.h"

namespace mlx_lm::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxBytes = 64 << 20;
constexpr const char* kFormat = "mlx_lm_chat";
constexpr int kVersion = 1;

fs::path expand(const std::string& file) {
  const char* home = std::getenv("HOME");
  return home && file.starts_with("~/") ? fs::path(home) / file.substr(2) : fs::path(file);
}

class Reader {
 public:
  explicit Reader(const fs::path& path) : where_(path.string()) {
    std::error_code error;
    if (!fs::exists(path, error)) fail<Error>("[chat] {}: expected a file, found nothing", where_);
    if (!fs::is_regular_file(path, error)) fail<Error>("[chat] {}: expected a file, found something else", where_);
    const auto folder = path.parent_path();
    const auto text = read_text(folder.empty() ? fs::path(".") : folder, path.filename().string(), kMaxBytes);
    if (!text) fail<Error>("[chat] {}: could not be read", where_);
    root_ = parse_json(*text, where_);
    if (!root_.is_object() || !root_.contains(kFormat)) wrong("file", "a saved chat", root_);
    if (root_[kFormat] != kVersion) wrong(kFormat, "version 1", root_[kFormat]);
  }

  SavedChat read() {
    SavedChat chat;
    chat.model = string(root_, "model", "model").value_or("");
    chat.system = string(root_, "system", "system");
    if (const auto settings = root_.find("settings"); settings != root_.end()) {
      if (!settings->is_object()) wrong("settings", "an object", *settings);
      chat.settings = *settings;
    }
    const auto messages = root_.find("messages");
    if (messages == root_.end() || !messages->is_array()) wrong("messages", "a list", json());
    bool answered = true;
    for (size_t i = 0; i < messages->size(); ++i) {
      const auto& message = (*messages)[i];
      const auto place = fmt::format("messages[{}]", i);
      if (!message.is_object()) wrong(place, "an object", message);
      const auto role = string(message, "role", place + ".role").value_or("");
      auto content = string(message, "content", place + ".content").value_or("");
      if (role == "system" && i == 0) {
        chat.system = std::move(content);
      } else if (role == "user" && answered) {
        chat.turns.push_back({.message = std::move(content)});
        answered = false;
      } else if (role == "assistant" && !answered) {
        auto& turn = chat.turns.back();
        turn.answer = std::move(content);
        turn.reasoning = string(message, "reasoning_content", place + ".reasoning_content").value_or("");
        read_calls(message, place, turn);
        answered = true;
      } else {
        wrong(place + ".role", answered ? "user" : "assistant", message.value("role", json()));
      }
    }
    if (!answered) wrong("messages", "an answer to the last one", json());
    return chat;
  }

 private:
  [[noreturn]] void wrong(const std::string& place, const std::string& expected, const json& found) const {
    auto text = found.is_structured() ? std::string(found.type_name()) : found.dump(-1, ' ', true);
    if (found.is_null()) text = "nothing";
    fail<Error>("[chat] {}: {}: expected {}, found {}", where_, place, expected, text.substr(0, 60));
  }

  // nullopt for null and for a field that is not there.
  std::optional<std::string> string(const json& object, const char* key, const std::string& place) const {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return std::nullopt;
    if (!found->is_string()) wrong(place, "a text", *found);
    return found->get<std::string>();
  }

  void read_calls(const json& message, const std::string& place, ChatTurn& turn) const {
    const auto calls = message.find("tool_calls");
    if (calls == message.end()) return;
    const auto refuse = [&] { wrong(place + ".tool_calls", "a list of functions with name and arguments", *calls); };
    if (!calls->is_array()) refuse();
    for (const auto& call : *calls) {
      const auto function = call.is_object() ? call.value("function", json()) : json();
      if (!function.is_object() || !function.contains("arguments")) refuse();
      const auto name = string(function, "name", place + ".tool_calls.name");
      if (!name || !function["arguments"].is_object()) refuse();
      turn.calls.push_back({.name = *name, .arguments = function["arguments"].dump()});
    }
  }

  std::string where_;
  json root_;
};

}  // namespace

void save_chat(const std::string& file, const SavedChat& chat) {
  const auto path = expand(file);
  std::error_code error;
  if (fs::exists(path, error)) {
    try {
      Reader reader(path);
    } catch (const Error&) {
      fail<Error>("[chat] {}: expected a saved chat or no file yet, found another file", path.string());
    }
  }
  const json root = {{kFormat, kVersion},
                     {"model", chat.model},
                     {"system", chat.system ? json(*chat.system) : json()},
                     {"messages", to_messages(chat.turns)},
                     {"settings", chat.settings}};
  write_private_file(path, root.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

SavedChat load_chat(const std::string& file) { return Reader(expand(file)).read(); }

}  // namespace mlx_lm::cli
