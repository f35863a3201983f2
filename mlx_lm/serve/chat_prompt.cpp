#include "mlx_lm/serve/chat_prompt.h"

#include <algorithm>
#include <random>
#include <set>

#include <fmt/format.h>

namespace mlx_lm::serve {
namespace {

using json = Json;

constexpr size_t kMaxMessages = 10'000, kMaxTools = 512;

json read_calls(const json& calls, const std::string& path) {
  auto read = json::array();
  for (size_t i = 0; i < calls.size(); ++i) {
    const Fields call(calls[i], fmt::format("{}[{}]", path, i));
    const Fields function(call.need("function", "an object"), call.path("function"));
    json arguments = json::object();
    if (const auto* value = function.find("arguments")) {
      if (value->is_string()) {
        const auto& text = value->get_ref<const std::string&>();
        try {
          arguments = text.empty() ? json::object() : parse_body(text);
        } catch (const ApiError&) {
          function.wrong("arguments", "the JSON text of an object");
        }
      } else {
        arguments = *value;
      }
      if (!arguments.is_object()) function.wrong("arguments", "the JSON text of an object");
    }
    json entry = {{"type", "function"},
                  {"function", {{"name", function.need_text("name")}, {"arguments", std::move(arguments)}}}};
    if (const auto id = call.text("id")) entry["id"] = *id;
    read.push_back(std::move(entry));
  }
  return read;
}

// Cuts the texts of control tokens after their first character: what stands on both sides is tokenized by itself.
class Protector {
 public:
  explicit Protector(const std::unordered_set<std::string>& tokens) : tokens_(tokens) {
    // A mark that no client can guess.
    std::random_device random;
    mark_ = fmt::format("\xEE\x83\xB0{:08x}{:08x}\xEE\x83\xB1", random(), random());
    for (const auto& token : tokens_) {
      starts_[static_cast<unsigned char>(token[0])] = true;
      sizes_.insert(token.size());
    }
  }

  // These may come in a text as the tokens that they are.
  void allow(std::set<std::string> tokens) { allowed_ = std::move(tokens); }

  void protect(std::string& text) const {
    std::string out;
    size_t copied = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      if (!starts_[static_cast<unsigned char>(text[i])] || !is_token(text, i)) continue;
      size_t cut = i + 1;  // a whole character
      while (cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) ++cut;
      out.append(text, copied, cut - copied);
      out += mark_;
      copied = cut;
    }
    if (copied == 0) return;
    out.append(text, copied);
    text = std::move(out);
  }
  void protect(json& value) const {
    if (value.is_string()) {
      protect(value.get_ref<std::string&>());
    } else if (value.is_structured()) {
      for (auto& item : value) protect(item);
    }
  }

  std::vector<int> encode(const std::string& text, const text::TokenizerWrapper& tokenizer, bool add_special) const {
    std::vector<int> tokens;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(mark_, begin), text.size());
      const auto piece = tokenizer.encode(text.substr(begin, end - begin), add_special && begin == 0);
      tokens.insert(tokens.end(), piece.begin(), piece.end());
      begin = end == text.size() ? end + 1 : end + mark_.size();
    }
    return tokens;
  }

 private:
  bool is_token(const std::string& text, size_t at) const {
    return std::any_of(sizes_.begin(), sizes_.end(), [&](size_t size) {
      if (size > text.size() - at) return false;
      const auto piece = text.substr(at, size);
      return tokens_.contains(piece) && !allowed_.contains(piece);
    });
  }

  const std::unordered_set<std::string>& tokens_;
  std::set<size_t> sizes_;  // of the tokens
  std::set<std::string> allowed_;
  std::string mark_;
  bool starts_[256] = {};
};

// Source: mlx_lm/server.py, convert_chat.
std::string without_template(const json& messages) {
  std::string prompt;
  for (const auto& message : messages) {
    const auto& role = message.at("role").get_ref<const std::string&>();
    const char* name = role == "system" ? "ASSISTANT's RULE: "
                       : role == "user" ? "USER: "
                       : role == "tool" ? "TOOL: "
                                        : "ASSISTANT: ";
    prompt += name + message.at("content").get<std::string>() + "\n";
  }
  return prompt + "ASSISTANT:";
}

}  // namespace

std::string read_content(const Fields& message, const std::string& key) {
  const auto* content = message.find(key);
  if (!content) return "";
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) message.wrong(key, "a text or a list of parts");
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const Fields part((*content)[i], fmt::format("{}[{}]", message.path(key), i));
    const auto type = part.need_text("type");
    if (type == "refusal") {
      text += part.need_text("refusal");
    } else if (type == "text" || type == "input_text" || type == "output_text") {
      text += part.need_text("text");
    } else {
      part.wrong("type", "\"text\", for this model reads nothing else");
    }
  }
  return text;
}

json read_message(const json& value, const std::string& path) {
  const Fields message(value, path);
  message.need("role", "a text");
  auto role = *message.choice("role", {"system", "developer", "user", "assistant", "tool", "function"});
  if (role == "developer") role = "system";
  if (role == "function") role = "tool";
  json entry = {{"role", role}, {"content", read_content(message)}};
  for (const char* key : {"name", "tool_call_id"}) {
    if (const auto value = message.text(key)) entry[key] = *value;
  }
  if (role == "assistant") {
    for (const char* key : {"reasoning_content", "reasoning"}) {
      if (const auto value = message.text(key)) entry["reasoning_content"] = *value;
    }
    if (const auto* calls = message.list("tool_calls", kMaxTools); calls && !calls->empty()) {
      entry["tool_calls"] = read_calls(*calls, message.path("tool_calls"));
    }
  } else if (!message.has("content")) {
    message.need("content", "a text or a list of parts");
  }
  return entry;
}

json read_messages(const json& messages, const std::string& path) {
  if (!messages.is_array()) {
    throw ApiError(400, fmt::format("{}: expected a list of messages, found {}", path, kind_of(messages)), path,
                   "invalid_type");
  }
  if (messages.empty() || messages.size() > kMaxMessages) {
    throw ApiError(400, fmt::format("{}: expected 1 to {} messages, found {}", path, kMaxMessages, messages.size()),
                   path, "invalid_value");
  }
  auto read = json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    read.push_back(read_message(messages[i], fmt::format("{}[{}]", path, i)));
  }
  return read;
}

json read_tool_list(const Fields& fields, const std::function<json(const Fields& tool)>& read) {
  const auto* tools = fields.list("tools", kMaxTools);
  if (!tools || tools->empty()) return nullptr;
  auto all = json::array();
  for (size_t i = 0; i < tools->size(); ++i) {
    all.push_back(read(Fields((*tools)[i], fmt::format("{}[{}]", fields.path("tools"), i))));
  }
  return all;
}

json read_function(const Fields& function, const std::string& schema_key) {
  json read = {{"name", function.need_text("name")}};
  const auto& name = read["name"].get_ref<const std::string&>();
  if (name.empty() || name.size() > 256) function.wrong("name", "1 to 256 bytes");
  const auto* schema = function.object(schema_key);
  if (const auto description = function.text("description")) read["description"] = *description;
  if (schema) read["parameters"] = *schema;
  return {{"type", "function"}, {"function", std::move(read)}};
}

json read_tools(const Fields& fields) {
  const auto checked = read_tool_list(fields, [](const Fields& tool) {
    if (tool.need_text("type") != "function") tool.wrong("type", "\"function\"");
    return read_function(Fields(tool.need("function", "an object"), tool.path("function")), "parameters");
  });
  // As they were given: templates show what else they have.
  return checked.is_null() ? checked : *fields.find("tools");
}

json read_template_variables(const Fields& fields, const json& defaults) {
  auto variables = defaults;
  const auto* given = fields.object("chat_template_kwargs");
  if (!given) return variables;
  for (const auto& item : given->items()) {
    static const std::set<std::string> kOwn = {
        "messages",  "tools",    "add_generation_prompt", "continue_final_message", "bos_token", "eos_token",
        "unk_token", "pad_token"};
    if (kOwn.contains(item.key())) {
      const auto path = fields.path("chat_template_kwargs") + "." + item.key();
      throw ApiError(400, path + ": expected a variable of the template, found one that the server sets", path,
                     "invalid_value");
    }
    variables[item.key()] = item.value();
  }
  return variables;
}

std::vector<int> encode_chat(const ChatPrompt& prompt, const ServedModel& model) {
  const auto& tokenizer = model.tokenizer();
  const Protector protector(model.control_tokens);
  auto messages = prompt.messages;
  // Templates cut an assistant's earlier answers at these, so there they are what they say.
  std::set<std::string> marks;
  if (const auto& thinking = tokenizer.thinking()) marks = {thinking->start, thinking->end};
  auto answers = protector;
  answers.allow(std::move(marks));
  for (auto& message : messages) {
    const bool is_answer = message.at("role") == "assistant";
    for (auto& item : message.items()) {
      if (item.key() != "role") (is_answer ? answers : protector).protect(item.value());
    }
  }
  auto tools = prompt.tools;
  protector.protect(tools);
  auto variables = prompt.variables;
  protector.protect(variables);
  try {
    if (!tokenizer.has_chat_template()) return protector.encode(without_template(messages), tokenizer, true);
    const auto text = tokenizer.apply_chat_template(messages, {.add_generation_prompt = !prompt.continues_last,
                                                               .continue_final_message = prompt.continues_last,
                                                               .tools = std::move(tools),
                                                               .extra = std::move(variables)});
    return protector.encode(text, tokenizer, false);
  } catch (const RequestError& error) {
    throw ApiError(400, fmt::format("messages: {}", error.what()), "messages", "invalid_value");
  }
}

int shared_tokens(const ChatPrompt& prompt, const std::vector<int>& tokens, const ServedModel& model) {
  ChatPrompt other{.messages = json::array(), .tools = prompt.tools, .variables = prompt.variables};
  if (prompt.messages[0]["role"] == "system") other.messages.push_back(prompt.messages[0]);
  // Two others: what a template's text has in common with one of them may be chance.
  size_t shared = tokens.size();
  for (const char* said : {"0", "?"}) {
    auto asked = other;
    asked.messages.push_back({{"role", "user"}, {"content", said}});
    std::vector<int> encoded;
    try {
      encoded = encode_chat(asked, model);
    } catch (const ApiError&) {
      return 0;  // a template may want more
    }
    const auto part = std::mismatch(tokens.begin(), tokens.end(), encoded.begin(), encoded.end()).first;
    shared = std::min(shared, size_t(part - tokens.begin()));
  }
  return int(shared);
}

}  // namespace mlx_lm::serve
