// /v1/messages and /v1/messages/count_tokens. Source: Anthropic's API reference.
#include <utility>

#include <fmt/format.h>

#include "mlx_lm/serve/block_writer.h"
#include "mlx_lm/serve/chat_answer.h"
#include "mlx_lm/serve/chat_prompt.h"
#include "mlx_lm/serve/openai.h"

namespace mlx_lm::serve {
namespace {

using json = Json;

constexpr size_t kMaxMessages = 10'000;

std::string error_type(const ApiError& error) {
  if (error.status() == 413) return "request_too_large";
  if (error.status() == 503) return "overloaded_error";
  return error.status() < 500 ? error.type() : "api_error";
}

json error_body(const ApiError& error, const std::string& id) {
  return {{"type", "error"}, {"error", {{"type", error_type(error)}, {"message", error.what()}}}, {"request_id", id}};
}

void send_messages_error(HttpExchange& exchange, const ApiError& error) {
  send_error(exchange, error, error_body(error, exchange.request().id));
}

json to_usage(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.completion_tokens}};
}

json to_block(const Block& block) {
  switch (block.kind) {
    case Block::Kind::reasoning:
      return {{"type", "thinking"}, {"thinking", block.text}, {"signature", ""}};
    case Block::Kind::text:
      return {{"type", "text"}, {"text", block.text}};
    case Block::Kind::call:
      break;
  }
  // Arguments that were cut short are no JSON.
  auto input = json::parse(block.text, nullptr, /* allow_exceptions */ false);
  if (!input.is_object()) input = json::object();
  return {{"type", "tool_use"}, {"id", block.id}, {"name", block.name}, {"input", std::move(input)}};
}

class MessageWriter final : public BlockWriter {
 public:
  MessageWriter(std::string model, std::shared_ptr<HttpExchange> exchange, bool streams)
      : model_(std::move(model)), stream_(std::move(exchange)), streams_(streams) {}

  void begin(const Usage& usage) override {
    if (streams_) send("message_start", {{"message", message(usage)}});
  }
  void progress(int, int) override {
    if (streams_) send("ping", json::object());
  }

  void open(const Block& block) override {
    if (!streams_) return;
    auto empty = block;
    empty.text.clear();
    send("content_block_start", {{"index", index()}, {"content_block", to_block(empty)}});
  }
  void grow(const Block& block, const std::string& text) override {
    if (!streams_) return;
    json delta;
    switch (block.kind) {
      case Block::Kind::reasoning:
        delta = {{"type", "thinking_delta"}, {"thinking", text}};
        break;
      case Block::Kind::text:
        delta = {{"type", "text_delta"}, {"text", text}};
        break;
      case Block::Kind::call:
        delta = {{"type", "input_json_delta"}, {"partial_json", text}};
        break;
    }
    send("content_block_delta", {{"index", index()}, {"delta", std::move(delta)}});
  }
  void close(const Block&) override {
    if (streams_) send("content_block_stop", {{"index", index()}});
  }

  void done(const std::vector<Choice>&, const Usage& usage) override {
    if (!streams_) {
      auto body = message(usage);
      for (const auto& block : blocks()) body["content"].push_back(to_block(block));
      body.update(ending());
      return stream_.exchange().send({.body = dump(body)});
    }
    send("message_delta", {{"delta", ending()}, {"usage", to_usage(usage)}});
    send("message_stop", json::object());
    stream_.end();
  }
  void failed(const ApiError& error) override {
    auto& exchange = stream_.exchange();
    if (!stream_.begun()) return send_messages_error(exchange, error);
    stream_.send("error", error_body(error, exchange.request().id));
    stream_.end();
  }

 private:
  void send(const std::string& name, const json& more) {
    json event = {{"type", name}};
    event.update(more);
    stream_.send(name, event);
  }
  json message(const Usage& usage) const {
    return {{"id", id_},
            {"type", "message"},
            {"role", "assistant"},
            {"model", model_},
            {"content", json::array()},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage", to_usage(usage)}};
  }
  json ending() const {
    const auto& reason = finish_reason();
    return {{"stop_reason", !stop_word().empty()     ? "stop_sequence"
                            : reason == "length"     ? "max_tokens"
                            : reason == "tool_calls" ? "tool_use"
                                                     : "end_turn"},
            {"stop_sequence", stop_word().empty() ? json() : json(stop_word())}};
  }

  const std::string id_ = random_id("msg_");
  std::string model_;
  EventStream stream_;
  bool streams_;
};

// A user's blocks: results of tools are messages of their own, before the text. Appends to read.
void read_user(const Fields& message, json& read) {
  const auto& content = message.need("content", "a text or a list of blocks");
  if (!content.is_array()) {
    read.push_back({{"role", "user"}, {"content", read_content(message)}});
    return;
  }
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Fields block(content[i], fmt::format("{}[{}]", message.path("content"), i));
    const auto type = block.need_text("type");
    if (type == "text") {
      text += block.need_text("text");
    } else if (type == "tool_result") {
      read.push_back(
          {{"role", "tool"}, {"tool_call_id", block.need_text("tool_use_id")}, {"content", read_content(block)}});
    } else {
      block.wrong("type", "text or tool_result, for this model reads nothing else");
    }
  }
  if (!text.empty() || content.empty()) read.push_back({{"role", "user"}, {"content", text}});
}

void read_assistant(const Fields& message, json& read) {
  const auto& content = message.need("content", "a text or a list of blocks");
  json entry = {{"role", "assistant"}, {"content", ""}};
  if (!content.is_array()) {
    entry["content"] = read_content(message);
  } else {
    std::string text, reasoning;
    for (size_t i = 0; i < content.size(); ++i) {
      const Fields block(content[i], fmt::format("{}[{}]", message.path("content"), i));
      const auto type = block.need_text("type");
      if (type == "text") {
        text += block.need_text("text");
      } else if (type == "thinking") {
        reasoning += block.need_text("thinking");
      } else if (type == "tool_use") {
        const auto* input = block.object("input");
        entry["tool_calls"].push_back(
            {{"id", block.need_text("id")},
             {"type", "function"},
             {"function", {{"name", block.need_text("name")}, {"arguments", input ? *input : json::object()}}}});
      } else if (type != "redacted_thinking") {
        block.wrong("type", "text, thinking or tool_use, for this model reads nothing else");
      }
    }
    entry["content"] = text;
    if (!reasoning.empty()) entry["reasoning_content"] = reasoning;
  }
  read.push_back(std::move(entry));
}

json read_custom_tools(const Fields& f) {
  return read_tool_list(f, [](const Fields& tool) {
    if (const auto type = tool.text("type"); type && *type != "custom") {
      tool.wrong("type", "\"custom\", for the server has no tools of its own");
    }
    auto read = read_function(tool, "input_schema");
    tool.need("input_schema", "a JSON schema");
    return read;
  });
}

ToolChoice read_choice(const Fields& f, const json& tools) {
  using Mode = ToolChoice::Mode;
  ToolChoice choice{.mode = tools.is_null() ? Mode::none : Mode::automatic, .tools = tools};
  const auto* object = f.object("tool_choice");
  if (!object) return choice;
  const Fields wanted(*object, f.path("tool_choice"));
  wanted.need("type", "one of auto, any, tool, none");
  const auto type = *wanted.choice("type", {"auto", "any", "tool", "none"});
  choice.parallel = !wanted.boolean("disable_parallel_tool_use").value_or(false);
  if (type == "none") choice.mode = Mode::none;
  if (type == "none" || type == "auto") return choice;
  if (tools.is_null()) f.wrong("tools", "at least one tool, for tool_choice asks for a call");
  choice.mode = Mode::required;
  if (type == "tool" && !require_tool(choice, wanted.need_text("name"))) wanted.wrong("name", "a tool of tools");
  return choice;
}

// output_config.format: {"type": "json_schema", "schema"}, or output_format of older clients.
std::optional<GrammarOptions> read_output_format(const Fields& f) {
  if (const auto* object = f.object("output_format")) return read_format(Fields(*object, f.path("output_format")));
  const auto* config = f.object("output_config");
  if (!config) return std::nullopt;
  const Fields output(*config, f.path("output_config"));
  const auto* format = output.object("format");
  return format ? read_format(Fields(*format, output.path("format"))) : std::nullopt;
}

ChatRequest read_chat(const Fields& f, const json& variables) {
  ChatRequest chat{.messages = json::array(), .variables = variables};
  if (auto system = read_content(f, "system"); !system.empty()) {
    chat.messages.push_back({{"role", "system"}, {"content", std::move(system)}});
  }
  const auto& messages = f.need("messages", "a list of messages");
  if (!messages.is_array() || messages.empty() || messages.size() > kMaxMessages) {
    f.wrong("messages", fmt::format("a list of 1 to {} messages", kMaxMessages));
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const Fields message(messages[i], fmt::format("messages[{}]", i));
    message.need("role", "user or assistant");
    const bool is_user = *message.choice("role", {"user", "assistant"}) == "user";
    (is_user ? read_user : read_assistant)(message, chat.messages);
    chat.continues_last = !is_user;
  }
  chat.tools = read_choice(f, read_custom_tools(f));
  chat.format = read_output_format(f);
  chat.format_field = "output_config.format";
  if (chat.format && chat.tools.mode == ToolChoice::Mode::required) {
    f.wrong("tool_choice", "auto or none, since the answer has a format");
  }
  if (const auto* object = f.object("thinking")) {
    const Fields thinking(*object, f.path("thinking"));
    thinking.need("type", "enabled, disabled or adaptive");
    chat.variables["enable_thinking"] = *thinking.choice("type", {"enabled", "disabled", "adaptive"}) != "disabled";
  }
  return chat;
}

void answer_message(const Api& api, const std::shared_ptr<HttpExchange>& exchange, bool only_count) {
  const auto body = parse_body(exchange->request().body);
  const Fields f(body);
  const auto requested = f.text("model");
  auto chat = read_chat(f, read_template_variables(f, api.defaults.chat_template_args));
  if (!only_count) f.need("max_tokens", "a number of tokens");
  f.object("metadata");
  const auto model = api.models.get(requested, f.text("adapters"));
  auto generation = read_generation(f, api.defaults, model->model().vocab_size());
  if (generation.n != 1) f.wrong("n", "1");
  generation.stop = f.texts("stop_sequences", GenerationRequest::kMaxStops);
  std::erase(generation.stop, "");
  const bool streams = generation.stream;
  auto request = chat_answer(model, std::move(generation), std::move(chat));
  if (only_count) return exchange->send({.body = dump({{"input_tokens", request.prompt.size()}})});
  auto numbers = start_answer(api.engine, std::move(request),
                              std::make_shared<MessageWriter>(requested.value_or(model->id), exchange, streams),
                              exchange->request().id);
  cancel_when_gone(api, *exchange, std::move(numbers));
}

// The same, with errors of this API's form.
void answer_in_form(const Api& api, const std::shared_ptr<HttpExchange>& exchange, bool only_count) {
  try {
    answer_message(api, exchange, only_count);
  } catch (const ApiError& error) {
    send_messages_error(*exchange, error);
  } catch (const RequestError& error) {
    send_messages_error(*exchange, ApiError(400, error.what()));
  }
}

}  // namespace

void messages(const Api& api, const std::shared_ptr<HttpExchange>& exchange) { answer_in_form(api, exchange, false); }
void count_tokens(const Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  answer_in_form(api, exchange, true);
}

}  // namespace mlx_lm::serve
