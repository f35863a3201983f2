// /v1/completions.
#include <ctime>
#include <utility>

#include "mlx_lm/serve/openai.h"

namespace mlx_lm::serve {
namespace {

using json = Json;

struct Head {
  std::string id = random_id("cmpl-"), model;
  std::time_t created = std::time(nullptr);
  bool logprobs = false, include_usage = false;

  json body() const {
    return {
        {"id", id}, {"object", "text_completion"}, {"created", created}, {"model", model}, {"choices", json::array()}};
  }
};

// OpenAI's older form: lists that run side by side.
json to_json(const std::vector<ScoredToken>& tokens) {
  json lists = {{"tokens", json::array()}, {"token_logprobs", json::array()}, {"top_logprobs", json::array()}};
  for (const auto& token : tokens) {
    lists["tokens"].push_back(token.chosen.token);
    lists["token_logprobs"].push_back(token.chosen.logprob);
    json top = json::object();
    for (const auto& other : token.top) top[other.token] = other.logprob;
    lists["top_logprobs"].push_back(std::move(top));
  }
  return lists;
}

class WholeText final : public AnswerWriter {
 public:
  WholeText(Head head, std::shared_ptr<HttpExchange> exchange, std::string echo)
      : head_(std::move(head)), exchange_(std::move(exchange)), echo_(std::move(echo)) {}

  void done(const std::vector<Choice>& choices, const Usage& usage) override {
    auto body = head_.body();
    for (const auto& choice : choices) {
      body["choices"].push_back({{"index", body["choices"].size()},
                                 {"text", echo_ + choice.text},
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
  std::string echo_;
};

class TextEvents final : public AnswerWriter {
 public:
  TextEvents(Head head, std::shared_ptr<HttpExchange> exchange, std::string echo, int n)
      : head_(std::move(head)), stream_(std::move(exchange)), echo_(size_t(n), echo) {}

  void progress(int processed, int total) override { stream_.progress(processed, total); }
  void piece(int choice, const AnswerPiece& piece, const std::vector<ScoredToken>& logprobs) override {
    send(choice, piece.text, nullptr, head_.logprobs && !logprobs.empty() ? to_json(logprobs) : json());
  }
  void end(int choice, const Choice& result) override { send(choice, "", result.finish_reason, nullptr); }
  void done(const std::vector<Choice>&, const Usage& usage) override {
    if (head_.include_usage) {
      auto chunk = head_.body();
      chunk["usage"] = serve::to_json(usage);
      stream_.send(chunk);
    }
    stream_.finish();
  }
  void failed(const ApiError& error) override { stream_.fail(error); }

 private:
  void send(int choice, const std::string& text, json finish_reason, json logprobs) {
    auto chunk = head_.body();
    chunk["choices"].push_back({{"index", choice},
                                {"text", std::exchange(echo_[choice], "") + text},
                                {"logprobs", std::move(logprobs)},
                                {"finish_reason", std::move(finish_reason)}});
    if (head_.include_usage) chunk["usage"] = nullptr;
    stream_.send(chunk);
  }

  Head head_;
  EventStream stream_;
  std::vector<std::string> echo_;  // of each choice, until its first piece
};

}  // namespace

void completions(const Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const auto body = parse_body(exchange->request().body);
  const Fields f(body);
  const auto requested = f.text("model");
  const auto text = f.need_text("prompt");
  const auto format = read_response_format(f);
  AnswerRequest request{.reads_reasoning = false};
  request.model = api.models.get(requested, f.text("adapters"));
  const auto& model = *request.model;
  request.generation = read_generation(f, api.defaults, model.model().vocab_size());
  auto& g = request.generation;
  // A number here; mlx-lm has true and top_logprobs.
  if (const auto* logprobs = f.find("logprobs"); logprobs && logprobs->is_boolean()) {
    const auto top = f.integer("top_logprobs", -1, GenerationRequest::kMaxLogprobs);
    if (logprobs->get<bool>()) g.logprobs = std::max(0, int(top.value_or(0)));
  } else if (const auto top = f.integer("logprobs", 0, GenerationRequest::kMaxLogprobs)) {
    g.logprobs = int(*top);
  }
  if (format) request.grammar = make_grammar(model, *format, "response_format");
  request.prompt = model.tokenizer().encode(text);

  const auto echo = f.boolean("echo").value_or(false) ? text : "";
  Head head{
      .model = requested.value_or(model.id), .logprobs = g.logprobs.has_value(), .include_usage = g.include_usage};
  std::shared_ptr<AnswerWriter> writer;
  if (g.stream) {
    writer = std::make_shared<TextEvents>(std::move(head), exchange, echo, g.n);
  } else {
    writer = std::make_shared<WholeText>(std::move(head), exchange, echo);
  }
  auto numbers = start_answer(api.engine, std::move(request), std::move(writer), exchange->request().id);
  cancel_when_gone(api, *exchange, std::move(numbers));
}

}  // namespace mlx_lm::serve
