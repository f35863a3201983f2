// /v1/responses. Source: OpenAI's API reference. Nothing is stored: each request carries its whole conversation.
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "mlx_lm/serve/block_writer.h"
#include "mlx_lm/serve/chat_answer.h"
#include "mlx_lm/serve/chat_prompt.h"
#include "mlx_lm/serve/openai.h"

namespace mlx_lm::serve {
namespace {

using json = Json;

constexpr size_t kMaxItems = 10'000;

json to_usage(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

json to_part(const Block& block) {
  if (block.kind == Block::Kind::reasoning) return {{"type", "reasoning_text"}, {"text", block.text}};
  return {{"type", "output_text"}, {"text", block.text}, {"annotations", json::array()}, {"logprobs", json::array()}};
}

// done: with its content.
json to_item(const Block& block, bool done, const char* status) {
  auto content = done ? json::array({to_part(block)}) : json::array();
  switch (block.kind) {
    case Block::Kind::reasoning:
      return {{"id", block.id},
              {"type", "reasoning"},
              {"summary", json::array()},
              {"content", std::move(content)},
              {"status", status}};
    case Block::Kind::text:
      return {{"id", block.id},
              {"type", "message"},
              {"role", "assistant"},
              {"content", std::move(content)},
              {"status", status}};
    case Block::Kind::call:
      break;
  }
  return {{"id", "fc_" + block.id},
          {"type", "function_call"},
          {"call_id", block.id},
          {"name", block.name},
          {"arguments", done ? block.text : ""},
          {"status", status}};
}

class ResponseWriter final : public BlockWriter {
 public:
  // head: what is the same in all that is sent of the response.
  ResponseWriter(json head, std::shared_ptr<HttpExchange> exchange, bool streams)
      : head_(std::move(head)), stream_(std::move(exchange)), streams_(streams) {}

  void begin(const Usage&) override {
    if (!streams_) return;
    send("response.created", {{"response", response("in_progress")}});
    send("response.in_progress", {{"response", response("in_progress")}});
  }
  void progress(int processed, int total) override {
    if (streams_) stream_.progress(processed, total);
  }

  void open(const Block& block) override {
    if (!streams_) return;
    send("response.output_item.added", {{"output_index", index()}, {"item", to_item(block, false, "in_progress")}});
    if (block.kind == Block::Kind::text)
      send("response.content_part.added", in_part(block, {{"part", to_part(block)}}));
  }
  void grow(const Block& block, const std::string& text) override {
    if (!streams_) return;
    switch (block.kind) {
      case Block::Kind::reasoning:
        return send("response.reasoning_text.delta", in_part(block, {{"delta", text}}));
      case Block::Kind::text:
        return send("response.output_text.delta", in_part(block, {{"delta", text}, {"logprobs", json::array()}}));
      case Block::Kind::call:
        return send("response.function_call_arguments.delta",
                    {{"item_id", "fc_" + block.id}, {"output_index", index()}, {"delta", text}});
    }
  }
  void close(const Block& block) override {
    if (!streams_) return;
    switch (block.kind) {
      case Block::Kind::reasoning:
        send("response.reasoning_text.done", in_part(block, {{"text", block.text}}));
        break;
      case Block::Kind::text:
        send("response.output_text.done", in_part(block, {{"text", block.text}, {"logprobs", json::array()}}));
        send("response.content_part.done", in_part(block, {{"part", to_part(block)}}));
        break;
      case Block::Kind::call:
        send("response.function_call_arguments.done", {{"item_id", "fc_" + block.id},
                                                       {"output_index", index()},
                                                       {"name", block.name},
                                                       {"arguments", block.text}});
        break;
    }
    send("response.output_item.done", {{"output_index", index()}, {"item", to_item(block, true, "completed")}});
  }

  void done(const std::vector<Choice>&, const Usage& usage) override {
    const bool cut = finish_reason() == "length";
    auto body = response(cut ? "incomplete" : "completed");
    if (cut) body["incomplete_details"] = {{"reason", "max_output_tokens"}};
    for (const auto& block : blocks()) {
      const bool is_cut = cut && &block == &blocks().back();
      body["output"].push_back(to_item(block, true, is_cut ? "incomplete" : "completed"));
    }
    body["usage"] = to_usage(usage);
    if (!streams_) return stream_.exchange().send({.body = dump(body)});
    send(cut ? "response.incomplete" : "response.completed", {{"response", std::move(body)}});
    stream_.end();
  }
  void failed(const ApiError& error) override {
    if (!stream_.begun()) return send_error(stream_.exchange(), error);
    auto body = response("failed");
    body["error"] = {{"code", "server_error"}, {"message", error.what()}};
    send("response.failed", {{"response", std::move(body)}});
    stream_.end();
  }

 private:
  void send(const std::string& name, const json& more) {
    json event = {{"type", name}, {"sequence_number", number_++}};
    event.update(more);
    stream_.send(name, event);
  }
  json in_part(const Block& block, const json& more) const {
    json event = {{"item_id", block.id}, {"output_index", index()}, {"content_index", 0}};
    event.update(more);
    return event;
  }
  json response(const char* status) const {
    auto body = head_;
    body["status"] = status;
    return body;
  }

  json head_;
  EventStream stream_;
  bool streams_;
  int number_ = 0;
};

// Calls, and what is thought before an answer, belong to the assistant's message that they stand beside.
json& assistant(json& messages) {
  if (messages.empty() || messages.back()["role"] != "assistant") {
    messages.push_back({{"role", "assistant"}, {"content", ""}});
  }
  return messages.back();
}

void read_item(const json& item, const std::string& path, json& messages) {
  const Fields f(item, path);
  const auto type = f.text("type").value_or("message");
  if (type == "message") {
    auto message = read_message(item, path);
    // Nothing but reasoning before it: that is this message's.
    if (message["role"] == "assistant" && !messages.empty() && messages.back()["role"] == "assistant" &&
        messages.back()["content"] == "" && !messages.back().contains("tool_calls")) {
      message["reasoning_content"] = messages.back()["reasoning_content"];
      messages.erase(messages.size() - 1);
    }
    messages.push_back(std::move(message));
  } else if (type == "function_call") {
    json call = {{"id", f.need_text("call_id")},
                 {"function", {{"name", f.need_text("name")}, {"arguments", f.need_text("arguments")}}}};
    auto read = read_message(json{{"role", "assistant"}, {"tool_calls", {std::move(call)}}}, path);
    assistant(messages)["tool_calls"].push_back(read["tool_calls"][0]);
  } else if (type == "function_call_output") {
    messages.push_back({{"role", "tool"},
                        {"tool_call_id", f.need_text("call_id")},
                        {"content", (f.need("output", "a text or a list of parts"), read_content(f, "output"))}});
  } else if (type == "reasoning") {
    std::string text;
    if (const auto* parts = f.list("content", kMaxItems)) {
      for (size_t i = 0; i < parts->size(); ++i) {
        text += Fields((*parts)[i], fmt::format("{}[{}]", f.path("content"), i)).need_text("text");
      }
    }
    if (!text.empty()) assistant(messages)["reasoning_content"] = text;
  } else {
    f.wrong("type", "message, function_call, function_call_output or reasoning");
  }
}

json read_input(const Fields& f) {
  auto messages = json::array();
  if (const auto instructions = f.text("instructions"); instructions && !instructions->empty()) {
    messages.push_back({{"role", "system"}, {"content", *instructions}});
  }
  const auto& input = f.need("input", "a text or a list of items");
  if (input.is_string()) {
    messages.push_back({{"role", "user"}, {"content", input}});
    return messages;
  }
  if (!input.is_array() || input.empty() || input.size() > kMaxItems) {
    f.wrong("input", fmt::format("a text or a list of 1 to {} items", kMaxItems));
  }
  for (size_t i = 0; i < input.size(); ++i) read_item(input[i], fmt::format("{}[{}]", f.path("input"), i), messages);
  if (messages.empty()) f.wrong("input", "something that was said");  // not nothing but empty reasoning
  return messages;
}

// [{"type": "function", "name", "parameters", ...}], without the object that chat completions have around it.
json read_flat_tools(const Fields& f) {
  return read_tool_list(f, [](const Fields& tool) {
    if (tool.need_text("type") != "function")
      tool.wrong("type", "\"function\", for the server has no tools of its own");
    return read_function(tool, "parameters");
  });
}

std::optional<GrammarOptions> read_text_format(const Fields& f) {
  const auto* object = f.object("text");
  if (!object) return std::nullopt;
  const Fields text(*object, f.path("text"));
  const auto* format = text.object("format");
  return format ? read_format(Fields(*format, text.path("format"))) : std::nullopt;
}

// What the answer says of the request, as clients expect to find it there.
json head(const Fields& f, const GenerationRequest& generation, const std::string& model) {
  const auto given = [&](const char* key, json otherwise) {
    const auto* value = f.find(key);
    return value ? *value : otherwise;
  };
  return {{"id", random_id("resp_")},
          {"object", "response"},
          {"created_at", std::time(nullptr)},
          {"status", nullptr},
          {"error", nullptr},
          {"incomplete_details", nullptr},
          {"instructions", given("instructions", nullptr)},
          {"max_output_tokens", generation.max_tokens},
          {"model", model},
          {"output", json::array()},
          {"parallel_tool_calls", given("parallel_tool_calls", true)},
          {"previous_response_id", nullptr},
          {"reasoning", given("reasoning", {{"effort", nullptr}, {"summary", nullptr}})},
          {"store", false},
          {"temperature", generation.sampler.temp},
          {"text", given("text", {{"format", {{"type", "text"}}}})},
          {"tool_choice", given("tool_choice", "auto")},
          {"tools", given("tools", json::array())},
          {"top_p", generation.sampler.top_p},
          {"truncation", "disabled"},
          {"usage", nullptr},
          {"user", given("user", nullptr)},
          {"metadata", given("metadata", json::object())}};
}

}  // namespace

void responses(const Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const auto body = parse_body(exchange->request().body);
  const Fields f(body);
  const auto requested = f.text("model");
  for (const char* key : {"previous_response_id", "conversation"}) {
    if (f.has(key)) f.wrong(key, "none: nothing is stored, and input has the whole conversation");
  }
  if (f.boolean("background").value_or(false)) f.wrong("background", "false");
  f.object("metadata");
  ChatRequest chat{.messages = read_input(f),
                   .tools = read_tool_choice(f, read_flat_tools(f)),
                   .format = read_text_format(f),
                   .format_field = "text.format",
                   .variables = read_template_variables(f, api.defaults.chat_template_args)};
  if (chat.format && chat.tools.mode == ToolChoice::Mode::required) {
    f.wrong("text.format", "none, since tool_choice asks for calls");
  }
  if (const auto* object = f.object("reasoning")) {
    const auto effort = Fields(*object, f.path("reasoning")).text("effort");
    if (effort) chat.variables["reasoning_effort"] = *effort;
    if (effort == "none") chat.variables["enable_thinking"] = false;
  }
  const auto model = api.models.get(requested, f.text("adapters"));
  auto generation = read_generation(f, api.defaults, model->model().vocab_size());
  if (generation.n != 1) f.wrong("n", "1");
  const bool streams = generation.stream;
  auto writer = std::make_shared<ResponseWriter>(head(f, generation, requested.value_or(model->id)), exchange, streams);
  auto request = chat_answer(model, std::move(generation), std::move(chat));
  auto numbers = start_answer(api.engine, std::move(request), std::move(writer), exchange->request().id);
  cancel_when_gone(api, *exchange, std::move(numbers));
}

}  // namespace mlx_lm::serve
