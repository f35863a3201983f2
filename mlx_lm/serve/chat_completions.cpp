// /v1/chat/completions.
#include <ctime>
#include <utility>

#include "mlx_lm/serve/chat_answer.h"
#include "mlx_lm/serve/chat_prompt.h"
#include "mlx_lm/serve/openai.h"

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

}  // namespace

void chat_completions(const Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const auto body = parse_body(exchange->request().body);
  const Fields f(body);
  const auto requested = f.text("model");
  // What needs no model is checked before one is loaded.
  auto messages = read_messages(f.need("messages", "a list of messages"), "messages");
  const auto tools = read_tool_choice(f, read_tools(f));
  const auto format = read_response_format(f);
  auto variables = read_template_variables(f, api.defaults.chat_template_args);

  const auto model = api.models.get(requested, f.text("adapters"));
  auto g = read_generation(f, api.defaults, model->model().vocab_size());
  const auto top = f.integer("top_logprobs", -1, GenerationRequest::kMaxLogprobs);
  if (f.boolean("logprobs").value_or(false)) g.logprobs = std::max(0, int(top.value_or(0)));
  if (format && tools.mode == ToolChoice::Mode::required) {
    f.wrong("response_format", "none, since tool_choice asks for calls");
  }
  auto request = chat_answer(model, g,
                             {.messages = std::move(messages),
                              .tools = tools,
                              .format = format,
                              .variables = std::move(variables),
                              .continues_last = f.boolean("continue_final_message").value_or(false)});

  Head head{
      .model = requested.value_or(model->id), .logprobs = g.logprobs.has_value(), .include_usage = g.include_usage};
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
