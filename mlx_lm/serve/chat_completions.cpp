// /v1/chat/completions.
#include <ctime>
#include <utility>

#include "mlx_lm/serve/chat_prompt.h"
#include "mlx_lm/serve/openai.h"
#include "mlx_lm/serve/tool_choice.h"

namespace mlx_lm::serve {
namespace {

using json = Json;

json to_json(const TokenLogprob& token) {
  auto bytes = json::array();
  for (unsigned char c : token.token) bytes.push_back(int(c));
  return {{"token", token.token}, {"logprob", token.logprob}, {"bytes", std::move(bytes)}, {"id", token.id}};
}

json to_json(const std::vector<ScoredToken>& tokens) {
  auto content = json::array();
  for (const auto& token : tokens) {
    auto entry = to_json(token.chosen);
    entry["top_logprobs"] = json::array();
    for (const auto& top : token.top) entry["top_logprobs"].push_back(to_json(top));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

// What is the same in every chunk, or in the whole answer.
struct Head {
  std::string id = random_id("chatcmpl-"), model;
  std::time_t created = std::time(nullptr);
  bool logprobs = false, include_usage = false;

  json body(const char* object) const {
    return {{"id", id}, {"object", object}, {"created", created}, {"model", model}, {"choices", json::array()}};
  }
};

class WholeChat final : public AnswerWriter {
 public:
  WholeChat(Head head, std::shared_ptr<HttpExchange> exchange)
      : head_(std::move(head)), exchange_(std::move(exchange)) {}

  void done(const std::vector<Choice>& choices, const Usage& usage) override {
    auto body = head_.body("chat.completion");
    for (const auto& choice : choices) {
      json message = {{"role", "assistant"}, {"content", choice.text}};
      if (choice.text.empty() && !choice.calls.empty()) message["content"] = nullptr;
      if (!choice.reasoning.empty()) message["reasoning"] = message["reasoning_content"] = choice.reasoning;
      for (const auto& call : choice.calls) {
        message["tool_calls"].push_back({{"id", call.id},
                                         {"type", "function"},
                                         {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      }
      body["choices"].push_back({{"index", body["choices"].size()},
                                 {"message", std::move(message)},
                                 {"logprobs", head_.logprobs ? to_json(choice.logprobs) : json()},
                                 {"finish_reason", choice.finish_reason}});
    }
    body["usage"] = serve::to_json(usage);
    exchange_->send({.body = dump(body)});
  }
  void failed(const ApiError& error) override { send_error(*exchange_, error); }

 private:
  Head head_;
  std::shared_ptr<HttpExchange> exchange_;
};

class ChatStream final : public AnswerWriter {
 public:
  ChatStream(Head head, std::shared_ptr<HttpExchange> exchange, int n)
      : head_(std::move(head)), stream_(std::move(exchange)), has_role_(size_t(n)) {}

  void progress(int processed, int total) override { stream_.progress(processed, total); }

  void piece(int choice, const AnswerPiece& piece, const std::vector<ScoredToken>& logprobs) override {
    using Kind = AnswerPiece::Kind;
    json delta = json::object();
    switch (piece.kind) {
      case Kind::text:
        delta["content"] = piece.text;
        break;
      case Kind::reasoning:
        delta["reasoning"] = delta["reasoning_content"] = piece.text;
        break;
      case Kind::call:
        delta["tool_calls"] = {{{"index", piece.call},
                                {"id", piece.id},
                                {"type", "function"},
                                {"function", {{"name", piece.text}, {"arguments", ""}}}}};
        break;
      case Kind::arguments:
        delta["tool_calls"] = {{{"index", piece.call}, {"function", {{"arguments", piece.text}}}}};
        break;
    }
    send(choice, std::move(delta), nullptr, logprobs);
  }
  void end(int choice, const Choice& result) override { send(choice, json::object(), result.finish_reason, {}); }
  void done(const std::vector<Choice>&, const Usage& usage) override {
    if (head_.include_usage) {
      auto chunk = head_.body("chat.completion.chunk");
      chunk["usage"] = serve::to_json(usage);
      stream_.send(chunk);
    }
    stream_.finish();
  }
  void failed(const ApiError& error) override { stream_.fail(error); }

 private:
  void send(int choice, json delta, json finish_reason, const std::vector<ScoredToken>& logprobs) {
    if (!has_role_[choice]) {
      has_role_[choice] = true;
      write(choice, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    }
    write(choice, std::move(delta), std::move(finish_reason),
          head_.logprobs && !logprobs.empty() ? to_json(logprobs) : json());
  }
  void write(int choice, json delta, json finish_reason, json logprobs) {
    auto chunk = head_.body("chat.completion.chunk");
    chunk["choices"].push_back({{"index", choice},
                                {"delta", std::move(delta)},
                                {"logprobs", std::move(logprobs)},
                                {"finish_reason", std::move(finish_reason)}});
    if (head_.include_usage) chunk["usage"] = nullptr;
    stream_.send(chunk);
  }

  Head head_;
  EventStream stream_;
  std::vector<bool> has_role_;
};

// The system message with more text, or one of its own.
void add_to_system(json& messages, const std::string& text) {
  if (messages[0]["role"] == "system") {
    auto& content = messages[0]["content"].get_ref<std::string&>();
    content += (content.empty() ? "" : "\n\n") + text;
  } else {
    messages.insert(messages.begin(), json::object({{"role", "system"}, {"content", text}}));
  }
}

}  // namespace

void chat_completions(const Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const auto body = parse_body(exchange->request().body);
  const Fields f(body);
  const auto requested = f.text("model");
  // What needs no model is checked before one is loaded.
  auto messages = read_messages(f.need("messages", "a list of messages"), "messages");
  const auto tools = read_tools(f);
  const auto choice = read_tool_choice(f, tools);
  const auto format = read_response_format(f);
  auto variables = read_template_variables(f, api.defaults.chat_template_args);

  AnswerRequest request;
  request.model = api.models.get(requested, f.text("adapters"));
  const auto& model = *request.model;
  request.generation = read_generation(f, api.defaults, model.model().vocab_size());
  auto& g = request.generation;
  const auto top = f.integer("top_logprobs", -1, GenerationRequest::kMaxLogprobs);
  if (f.boolean("logprobs").value_or(false)) g.logprobs = std::max(0, int(top.value_or(0)));

  using Mode = ToolChoice::Mode;
  if (format && choice.mode == Mode::required) f.wrong("response_format", "none, since tool_choice asks for calls");
  const bool native = model.tokenizer().has_tool_calling();
  ChatPrompt prompt{.tools = choice.mode == Mode::none ? json() : choice.tools};
  if (choice.mode != Mode::none) {
    // Calls in the model's own format where it has one, and need not be made sure of; else in ours.
    request.reads_tools = native && choice.mode == Mode::automatic;
    request.reads_call_list = !request.reads_tools && !format;
    request.tools = choice.tools;
    if (request.reads_call_list) {
      request.grammar = make_grammar(model, call_grammar(choice), "tools");
      add_to_system(messages, call_instructions(choice));
      if (!native) prompt.tools = nullptr;
    }
  }
  if (format) request.grammar = make_grammar(model, *format, "response_format");
  if (request.grammar) {  // the answer begins at once
    request.reads_reasoning = false;
    if (!variables.contains("enable_thinking")) variables["enable_thinking"] = false;
  }
  prompt.messages = std::move(messages);
  prompt.variables = std::move(variables);
  prompt.continues_last = f.boolean("continue_final_message").value_or(false);
  request.prompt = encode_chat(prompt, model);
  if (!model.cuttable) request.parts = {shared_tokens(prompt, request.prompt, model)};

  Head head{
      .model = requested.value_or(model.id), .logprobs = g.logprobs.has_value(), .include_usage = g.include_usage};
  std::shared_ptr<AnswerWriter> writer;
  if (g.stream) {
    writer = std::make_shared<ChatStream>(std::move(head), exchange, g.n);
  } else {
    writer = std::make_shared<WholeChat>(std::move(head), exchange);
  }
  auto numbers = start_answer(api.engine, std::move(request), std::move(writer), exchange->request().id);
  cancel_when_gone(api, *exchange, std::move(numbers));
}

}  // namespace mlx_lm::serve
