#include "mlx_lm/generate/chat_session.h"

#include <algorithm>
#include <exception>
#include <tuple>
#include <utility>

#include "mlx_lm/load/json_file.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

void append(ChatTurn& turn, const std::vector<text::AnswerPart>& parts) {
  using Kind = text::AnswerPart::Kind;
  for (const auto& part : parts) {
    if (part.kind == Kind::tool_call) {
      turn.calls.push_back(part.call);
    } else {
      (part.kind == Kind::reasoning ? turn.reasoning : turn.answer) += part.text;
    }
  }
}

// Processors look at all tokens so far; a step knows only those that it was given.
std::vector<sample::LogitsProcessor> after(const std::vector<int>& prefix,
                                           std::vector<sample::LogitsProcessor> processors) {
  if (processors.empty() || prefix.empty()) return processors;
  const mx::array before(prefix.data(), {int(prefix.size())}, mx::int32);
  return {[before, processors = std::move(processors)](const mx::array& tokens, const mx::array& logits) {
    const auto all = mx::concatenate({before, tokens});
    auto changed = logits;
    for (const auto& processor : processors) changed = processor(all, changed);
    return changed;
  }};
}

}  // namespace

bool ChatTurn::operator==(const ChatTurn& other) const {
  const auto same_call = [](const text::ToolCall& a, const text::ToolCall& b) {
    return std::tie(a.id, a.name, a.arguments) == std::tie(b.id, b.name, b.arguments);
  };
  return std::tie(message, answer, reasoning) == std::tie(other.message, other.answer, other.reasoning) &&
         std::ranges::equal(calls, other.calls, same_call);
}

// One turn under way. However it ends, the conversation and the record of what the caches hold are in order afterwards.
class ChatSession::Answering {
 public:
  Answering(ChatSession& session, std::string message, std::optional<ChatTurn> old)
      : session_(session), old_(std::move(old)) {
    turn.message = std::move(message);
  }
  ~Answering() {
    if (computing) settle_caches();
    if (tokens > 0) {
      session_.turns_.push_back(std::move(turn));
    } else if (old_) {
      session_.turns_.push_back(std::move(*old_));
    }
  }

  ChatTurn turn;
  int tokens = 0;          // of the answer
  bool computing = false;  // the caches are in use

 private:
  void settle_caches() {
    auto& held = session_.held_;
    auto& caches = session_.caches_;
    const int in_caches = caches.empty() ? 0 : caches[0]->offset();
    const int surplus = in_caches - int(held.size());
    if (std::uncaught_exceptions() > exceptions_ || surplus > cache::trimmable(caches)) {
      session_.restart();
      return;
    }
    if (surplus > 0) cache::trim(caches, surplus);
    held.resize(std::min(held.size(), size_t(in_caches)));  // a prompt that was stopped is there in part
  }

  ChatSession& session_;
  std::optional<ChatTurn> old_;
  int exceptions_ = std::uncaught_exceptions();
};

ChatSession::ChatSession(const models::LanguageModel& model, const text::TokenizerWrapper& tokenizer, Options options)
    : model_(model),
      tokenizer_(tokenizer),
      system_(std::move(options.system)),
      context_size_(options.context_size),
      template_variables_(std::move(options.template_variables)),
      caches_(model.make_cache()) {
  if (!tokenizer.has_chat_template()) {
    fail<RequestError>("[chat] model: expected one with a chat template, found none; is it made for chats?");
  }
  if (context_size_ < 0) fail<RequestError>("[chat] context size: expected at least 0, found {}", context_size_);
}

Generator<ChatPiece> ChatSession::say(std::string message, StepOptions o) {
  return answer(std::move(message), std::nullopt, std::move(o));
}

Generator<ChatPiece> ChatSession::retry(StepOptions o) {
  if (turns_.empty()) fail<RequestError>("[chat] retry: expected an answer before, found none");
  auto old = std::move(turns_.back());
  turns_.pop_back();
  auto message = old.message;
  return answer(std::move(message), std::move(old), std::move(o));
}

Generator<ChatPiece> ChatSession::answer(std::string message, std::optional<ChatTurn> old, StepOptions o) {
  Answering answering(*this, message, std::move(old));
  const auto prompt = encode(message);
  if (!fits(prompt.size(), o.max_tokens)) fail_full(prompt.size());
  if (context_size_ > 0) {
    const int left = context_size_ - int(prompt.size());
    o.max_tokens = o.max_tokens == -1 ? left : std::min(o.max_tokens, left);
  }
  answering.computing = true;
  reuse(prompt);
  o.prompt_cache = &caches_;
  o.logits_processors = after(held_, std::move(o.logits_processors));
  std::vector<int> rest(prompt.begin() + reused_, prompt.end());
  held_ = prompt;

  text::AnswerParser parser(tokenizer_, nullptr, {}, tokenizer_.ends_in_thinking(prompt));
  for (auto& response : stream_generate(model_, tokenizer_, std::move(rest), std::move(o))) {
    if (response.generation_tokens > answering.tokens) {
      answering.tokens = response.generation_tokens;
      held_.push_back(response.token);
    }
    ChatPiece piece{parser.add(response.text), response};
    if (response.finish_reason) {
      auto more = parser.finish(text::AnswerParser::Ending::complete);
      piece.parts.insert(piece.parts.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    }
    append(answering.turn, piece.parts);
    co_yield piece;
  }
}

bool ChatSession::undo() {
  if (turns_.empty()) return false;
  turns_.pop_back();
  return true;
}

void ChatSession::reset() {
  turns_.clear();
  restart();
}

int ChatSession::make_room(const std::string& message, int max_tokens) {
  const auto enough = [&](size_t dropped) { return fits(encode(message, dropped).size(), max_tokens); };
  if (enough(0)) return 0;
  if (!enough(turns_.size())) fail_full(encode(message, turns_.size()).size());
  size_t too_few = 0, plenty = turns_.size();
  while (plenty - too_few > 1) {
    const size_t middle = (too_few + plenty) / 2;
    (enough(middle) ? plenty : too_few) = middle;
  }
  turns_.erase(turns_.begin(), turns_.begin() + std::ptrdiff_t(plenty));
  return int(plenty);
}

int ChatSession::room(int max_tokens) const {
  const int most = std::max(1, context_size_ / 8);
  return max_tokens < 0 ? most : std::clamp(max_tokens, 1, most);
}

std::vector<int> ChatSession::encode(const std::string& message, size_t first) const {
  auto messages = json::array();
  if (system_) messages.push_back({{"role", "system"}, {"content", *system_}});
  const std::vector<ChatTurn> kept(turns_.begin() + std::ptrdiff_t(first), turns_.end());
  for (auto& each : to_messages(kept)) messages.push_back(std::move(each));
  messages.push_back({{"role", "user"}, {"content", message}});
  const auto prompt = tokenizer_.apply_chat_template(messages, {.extra = template_variables_});
  return tokenizer_.encode(prompt, /* add_special_tokens */ false);
}

bool ChatSession::fits(size_t prompt_tokens, int max_tokens) const {
  return context_size_ == 0 || prompt_tokens + size_t(room(max_tokens)) <= size_t(context_size_);
}

void ChatSession::fail_full(size_t prompt_tokens) const {
  fail<ContextFull>("[chat] context: expected a conversation of fewer than {} tokens, found {} before the answer",
                    context_size_, prompt_tokens);
}

void ChatSession::reuse(const std::vector<int>& prompt) {
  const auto [here, there] = std::mismatch(held_.begin(), held_.end(), prompt.begin(), prompt.end());
  // The last token is computed in any case: the answer's first comes of it.
  reused_ = int(std::min<std::ptrdiff_t>(here - held_.begin(), std::ptrdiff_t(prompt.size()) - 1));
  const int surplus = int(held_.size()) - reused_;
  if (surplus > cache::trimmable(caches_)) {
    restart();
    return;
  }
  cache::trim(caches_, surplus);
  held_.resize(size_t(reused_));
}

void ChatSession::restart() {
  caches_ = model_.make_cache();
  held_.clear();
  reused_ = 0;
}

int context_size(const ConfigReader& config) {
  const ConfigReader& c =
      config.has("text_config") && !config.has("max_position_embeddings") ? config.sub("text_config") : config;
  int size = c.get_size_or("max_position_embeddings", 0, 0);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!c.has(key)) continue;
    const auto rope = c.sub(key);
    const auto type = rope.get<std::string>(rope.has("rope_type") ? "rope_type" : "type", "");
    if (type != "yarn" || !rope.has("original_max_position_embeddings")) continue;
    const double stretched = double(rope.get<float>("original_max_position_embeddings")) * rope.get<float>("factor", 1);
    if (stretched > size) size = int(std::min<double>(stretched, ConfigReader::kMaxSize));
  }
  return size;
}

json to_messages(const std::vector<ChatTurn>& turns) {
  auto messages = json::array();
  for (const auto& turn : turns) {
    messages.push_back({{"role", "user"}, {"content", turn.message}});
    json answer = {{"role", "assistant"}, {"content", turn.answer}};
    if (!turn.reasoning.empty()) answer["reasoning_content"] = turn.reasoning;
    for (const auto& call : turn.calls) {
      // Templates write them by tojson, or walk through them: an object, not its text.
      answer["tool_calls"].push_back(
          {{"type", "function"},
           {"function", {{"name", call.name}, {"arguments", parse_json(call.arguments, "arguments")}}}});
    }
    messages.push_back(std::move(answer));
  }
  return messages;
}

}  // namespace mlx_lm
