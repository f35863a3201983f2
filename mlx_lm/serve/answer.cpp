#include "mlx_lm/serve/answer.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "mlx_lm/sample/constraint.h"

namespace mlx_lm::serve {
namespace {

using text::AnswerParser;
using text::AnswerPart;

// What the choices share.
struct Shared {
  AnswerRequest request;
  std::shared_ptr<AnswerWriter> writer;
  std::string id;
  std::vector<Choice> choices;
  Usage usage;
  int left;
  bool failed = false;
};

std::string call_id() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("call_{:016x}", random());
}

class ChoiceSink final : public TextSink {
 public:
  ChoiceSink(std::shared_ptr<Shared> shared, int index)
      : shared_(std::move(shared)),
        index_(index),
        tokenizer_(shared_->request.model->tokenizer()),
        detokenizer_(tokenizer_.detokenizer()),
        parser_(tokenizer_, shared_->request.reads_tools ? nlohmann::json(shared_->request.tools) : nlohmann::json(),
                shared_->request.generation.stop,
                shared_->request.reads_reasoning && tokenizer_.ends_in_thinking(shared_->request.prompt)) {}

  void started(int cached_tokens) override {
    shared_->usage.cached_tokens = std::max(shared_->usage.cached_tokens, cached_tokens);
    if (index_ == 0 && !shared_->failed) shared_->writer->begin(shared_->usage);
  }

  void progress(int processed, int total) override {
    if (index_ == 0 && !shared_->failed) shared_->writer->progress(processed, total);
  }

  bool token(int token, const mx::array& logprobs) override {
    shared_->usage.completion_tokens += 1;
    if (shared_->failed) return false;
    const bool is_end = tokenizer_.eos_token_ids().contains(token);
    if (const auto wanted = shared_->request.generation.logprobs; wanted && !is_end) score(token, logprobs, *wanted);
    if (is_end) return true;
    detokenizer_->add_token(token);
    add(detokenizer_->last_segment());
    shared_->usage.reasoning_tokens += reasons_;
    return !stopped_;
  }

  void finished(FinishReason reason) override {
    if (shared_->failed) return leave();
    if (!stopped_) {
      detokenizer_->finalize();
      add(detokenizer_->last_segment());
    }
    read(parser_.finish(AnswerParser::Ending::complete));
    auto& choice = this->choice();
    choice.finish_reason = reason == FinishReason::length && !stopped_ ? "length"
                           : !choice.calls.empty()                     ? "tool_calls"
                                                                       : "stop";
    shared_->writer->end(index_, choice);
    leave();
  }

  void failed(std::exception_ptr error) override {
    if (!std::exchange(shared_->failed, true)) shared_->writer->failed(to_api_error(error));
    leave();
  }

 private:
  Choice& choice() { return shared_->choices[index_]; }

  void leave() {
    if (--shared_->left == 0 && !shared_->failed) shared_->writer->done(shared_->choices, shared_->usage);
  }

  ApiError to_api_error(const std::exception_ptr& error) const {
    try {
      std::rethrow_exception(error);
    } catch (const ApiError& e) {
      return e;
    } catch (const RequestError& e) {
      return ApiError(400, e.what());
    } catch (const std::exception& e) {
      return ApiError(500, fmt::format("the model failed on request {}: {}", shared_->id, e.what()));
    }
  }

  void score(int token, const mx::array& logprobs, int wanted) {
    auto values = mx::contiguous(mx::astype(logprobs, mx::float32));
    values.eval();
    const float* p = values.data<float>();
    const int size = int(values.size());
    ScoredToken scored{to_scored(token, p), {}};
    if (wanted > 0) {
      std::vector<int> order(size);
      std::iota(order.begin(), order.end(), 0);
      const auto likelier = [&](int a, int b) { return p[a] != p[b] ? p[a] > p[b] : a < b; };
      std::partial_sort(order.begin(), order.begin() + wanted, order.end(), likelier);
      for (int i = 0; i < wanted; ++i) scored.top.push_back(to_scored(order[i], p));
    }
    fresh_.push_back(std::move(scored));
  }

  TokenLogprob to_scored(int token, const float* logprobs) const {
    const int ids[] = {token};
    // JSON has no infinity.
    return {token, tokenizer_.decode(ids), std::max(double(logprobs[token]), -9999.0)};
  }

  void add(const std::string& text) {
    read(parser_.add(text));
    const auto& stops = shared_->request.generation.stop;
    if (stops.empty()) return;
    raw_ += text;
    if (!parser_.stopped()) return;
    stopped_ = true;
    // The one that was complete first.
    size_t first = std::string::npos;
    for (const auto& word : stops) {
      const auto at = raw_.find(word);
      if (at == std::string::npos || at + word.size() >= first) continue;
      first = at + word.size();
      choice().stop_word = word;
    }
  }

  void read(const std::vector<AnswerPart>& parts) {
    for (const auto& part : parts) {
      reasons_ = part.kind == AnswerPart::Kind::reasoning;
      switch (part.kind) {
        case AnswerPart::Kind::reasoning:
          choice().reasoning += part.text;
          tell({AnswerPiece::Kind::reasoning, part.text});
          break;
        case AnswerPart::Kind::tool_call:
          call(part.call);
          break;
        default:
          text(part.text);
      }
    }
  }

  void text(const std::string& text) {
    if (!shared_->request.reads_call_list) {
      choice().text += text;
      return tell({AnswerPiece::Kind::text, text});
    }
    for (auto& piece : calls_.add(text)) {
      switch (piece.kind) {
        case CallReader::Piece::Kind::text:
          choice().text += piece.text;
          tell({AnswerPiece::Kind::text, piece.text});
          break;
        case CallReader::Piece::Kind::call:
          begin_call(call_id(), piece.text);
          break;
        case CallReader::Piece::Kind::arguments:
          arguments(piece.text);
          break;
      }
    }
  }

  void call(const text::ToolCall& call) {
    begin_call(call.id.empty() ? call_id() : call.id, call.name);
    arguments(call.arguments);
  }
  void begin_call(std::string id, std::string name) {
    auto& calls = choice().calls;
    calls.push_back({id, name, ""});
    tell({AnswerPiece::Kind::call, std::move(name), std::move(id), int(calls.size()) - 1});
  }
  void arguments(const std::string& text) {
    auto& calls = choice().calls;
    calls.back().arguments += text;
    tell({AnswerPiece::Kind::arguments, text, "", int(calls.size()) - 1});
  }

  void tell(const AnswerPiece& piece) {
    if (piece.kind == AnswerPiece::Kind::text) {
      auto& all = choice().logprobs;
      all.insert(all.end(), fresh_.begin(), fresh_.end());
      shared_->writer->piece(index_, piece, std::exchange(fresh_, {}));
    } else {
      if (piece.kind == AnswerPiece::Kind::reasoning) fresh_.clear();
      shared_->writer->piece(index_, piece, {});
    }
  }

  std::shared_ptr<Shared> shared_;
  int index_;
  const text::TokenizerWrapper& tokenizer_;
  std::unique_ptr<text::Detokenizer> detokenizer_;
  AnswerParser parser_;
  CallReader calls_;
  std::vector<ScoredToken> fresh_;  // of tokens whose text did not come yet
  std::string raw_;                 // the whole text, if there are stop words
  bool stopped_ = false, reasons_ = false;
};

}  // namespace

std::vector<int> start_answer(Engine& engine, AnswerRequest request, std::shared_ptr<AnswerWriter> writer,
                              const std::string& id) {
  const int n = request.generation.n;
  auto shared = std::make_shared<Shared>();
  shared->writer = std::move(writer);
  shared->id = id;
  shared->choices.resize(size_t(n));
  shared->usage.prompt_tokens = int(request.prompt.size());
  shared->left = n;
  shared->request = std::move(request);
  const auto& r = shared->request;
  const auto prompt = std::make_shared<const std::vector<int>>(r.prompt);
  std::vector<TextJob> jobs;
  for (int i = 0; i < n; ++i) {
    auto options = sequence_options(r.generation, *r.model, i);
    if (r.grammar) options.constraint = std::make_shared<sample::Constraint>(r.grammar->matcher());
    jobs.push_back({r.model, prompt, std::move(options), std::make_shared<ChoiceSink>(shared, i), r.parts});
  }
  return engine.submit(std::move(jobs));
}

}  // namespace mlx_lm::serve
