// Conversations with a tiny random llama whose tokens are bytes. What each turn computes is seen in prompt_tokens, and
// that it is right by comparing with a session that never had caches.
#include "mlx_lm/generate/chat_session.h"

#include <gtest/gtest.h>

#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/load/load.h"

#include "tests/generate/thinking_model.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

constexpr int kAssistant = 1 + 10;  // "<start>assistant:"
// "<start>user:...\n<start>assistant:"
int prompt_of(const std::string& message) { return 1 + 5 + int(message.size()) + 1 + kAssistant; }

struct Answer {
  std::string text, reasoning;
  int computed = 0, tokens = 0;
  std::optional<FinishReason> reason;
};

class ChatSessionTest : public testing::Test {
 protected:
  ChatSessionTest() {
    TinyModel model;
    model.config["max_position_embeddings"] = 4096;
    model.write(folder_);
    loaded_.emplace(load(folder_.path().string()));
  }

  ChatSession session(int context = 0, std::optional<std::string> system = std::nullopt) const {
    return ChatSession(*loaded_->model, loaded_->tokenizer, {std::move(system), context});
  }
  static Answer collect(Generator<ChatPiece> pieces, int stop_after = -1, std::stop_source* stop = nullptr) {
    using Kind = text::AnswerPart::Kind;
    Answer answer;
    for (auto& piece : pieces) {
      for (const auto& part : piece.parts) {
        (part.kind == Kind::reasoning ? answer.reasoning : answer.text) += part.text;
      }
      answer.computed = piece.response.prompt_tokens;
      answer.tokens = piece.response.generation_tokens;
      answer.reason = piece.response.finish_reason;
      if (answer.tokens == stop_after && stop) stop->request_stop();
      if (answer.tokens == stop_after && !stop) break;
    }
    return answer;
  }
  static Answer say(ChatSession& s, const std::string& message, int max_tokens = 12) {
    return collect(s.say(message, {.max_tokens = max_tokens}));
  }
  // The answer of a model that reads the whole conversation at once.
  Answer fresh(const ChatSession& s, const std::string& message, int max_tokens = 12) const {
    auto other = session(s.context_size(), s.system());
    other.set_turns(s.turns());
    auto answer = say(other, message, max_tokens);
    EXPECT_EQ(other.reused_tokens(), 0);
    return answer;
  }
  // The next turn is right and computes so many tokens.
  void expect_turn(ChatSession& s, const std::string& message, int computed) const {
    const auto whole = fresh(s, message);
    const auto answer = say(s, message);
    EXPECT_EQ(answer.text, whole.text) << message;
    EXPECT_EQ(answer.computed, computed) << message;
    EXPECT_EQ(answer.computed + s.reused_tokens(), whole.computed) << message;
  }

  TempFolder folder_;
  std::optional<Loaded> loaded_;
};

TEST_F(ChatSessionTest, computes_each_turn_once) {
  auto s = session();
  expect_turn(s, "hello", prompt_of("hello"));
  EXPECT_EQ(s.held_tokens(), prompt_of("hello") + 12);
  // The answer ended at max_tokens, so the template's line end after it is new too.
  expect_turn(s, "and then?", 1 + prompt_of("and then?"));
  expect_turn(s, "é🙂", 1 + prompt_of("é🙂"));
  ASSERT_EQ(s.turns().size(), 3u);
  EXPECT_EQ(s.turns()[1].message, "and then?");
  EXPECT_EQ(s.turns()[1].answer.size(), 12u);
}

TEST_F(ChatSessionTest, sends_the_system_message_once) {
  auto s = session(0, "be");
  const int system = 1 + 7 + 2 + 1;
  expect_turn(s, "a", system + prompt_of("a"));
  expect_turn(s, "b", 1 + prompt_of("b"));
  // Another one changes the prompt from "be" on.
  s.set_system("bo");
  const int all = say(s, "c").computed + s.reused_tokens();
  EXPECT_EQ(s.reused_tokens(), 1 + 7 + 1);
  EXPECT_GT(all, 2 * prompt_of("a"));
  s.set_system(std::nullopt);
  expect_turn(s, "d", fresh(s, "d").computed - 1);  // all but <start>
}

TEST_F(ChatSessionTest, takes_turns_back) {
  auto s = session();
  say(s, "one");
  const auto second = say(s, "two");
  EXPECT_TRUE(s.undo());
  ASSERT_EQ(s.turns().size(), 1u);
  // Up to "\n<start>user:t" everything is there.
  expect_turn(s, "three", 4 + 1 + kAssistant);
  EXPECT_TRUE(s.undo());
  EXPECT_EQ(say(s, "two").text, second.text);
  EXPECT_TRUE(s.undo());
  EXPECT_TRUE(s.undo());
  EXPECT_FALSE(s.undo());
  EXPECT_TRUE(s.turns().empty());
}

TEST_F(ChatSessionTest, answers_anew) {
  auto s = session();
  EXPECT_THROW(collect(s.retry({})), RequestError);
  say(s, "one");
  const auto second = say(s, "two", 12);
  const auto again = collect(s.retry({.max_tokens = 20}));
  EXPECT_EQ(again.text.substr(0, 12), second.text);
  EXPECT_EQ(again.tokens, 20);
  EXPECT_EQ(again.computed, 1) << "the prompt was there; its last token gives the answer's first";
  ASSERT_EQ(s.turns().size(), 2u);
  EXPECT_EQ(s.turns()[1].answer, again.text);
  expect_turn(s, "three", 1 + prompt_of("three"));
}

TEST_F(ChatSessionTest, keeps_the_old_answer_when_there_is_no_new_one) {
  auto s = session();
  say(s, "one");
  const auto turns = s.turns();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(collect(s.retry({.stop = stop.get_token()})).reason, FinishReason::cancelled);
  EXPECT_EQ(s.turns(), turns);
  EXPECT_THROW(collect(s.retry({.max_tokens = 0})), RequestError);
  EXPECT_EQ(s.turns(), turns);
  EXPECT_EQ(collect(s.say("two", {.stop = stop.get_token()})).tokens, 0);
  EXPECT_EQ(s.turns(), turns) << "nor a message without an answer";
  say(s, "two");
  EXPECT_EQ(s.turns().size(), 2u);
}

TEST_F(ChatSessionTest, starts_anew) {
  auto s = session(0, "be");
  const auto first = say(s, "one");
  say(s, "two");
  s.reset();
  EXPECT_TRUE(s.turns().empty());
  EXPECT_EQ(s.held_tokens(), 0);
  EXPECT_EQ(s.system(), "be");
  const auto again = say(s, "one");
  EXPECT_EQ(again.text, first.text);
  EXPECT_EQ(again.computed, first.computed);
}

TEST_F(ChatSessionTest, goes_on_after_a_stop) {
  for (const bool leave : {false, true}) {
    auto s = session();
    say(s, "one");
    std::stop_source stop;
    const auto stopped =
        collect(s.say("two", {.max_tokens = -1, .stop = stop.get_token()}), 5, leave ? nullptr : &stop);
    EXPECT_EQ(stopped.tokens, 5);
    ASSERT_EQ(s.turns().size(), 2u);
    EXPECT_EQ(s.turns()[1].answer, stopped.text);
    expect_turn(s, "three", 1 + prompt_of("three"));
  }
}

TEST_F(ChatSessionTest, keeps_what_was_computed_of_a_stopped_prompt) {
  auto s = session();
  const std::string message(100, 'x');
  std::stop_source stop;
  StepOptions o{.prefill_step_size = 20, .stop = stop.get_token()};
  o.prompt_progress_callback = [&](int processed, int) {
    if (processed == 40) stop.request_stop();
  };
  EXPECT_EQ(collect(s.say(message, o)).tokens, 0);
  EXPECT_EQ(s.held_tokens(), 40);
  EXPECT_TRUE(s.turns().empty());
  expect_turn(s, message, prompt_of(message) - 40);
}

TEST_F(ChatSessionTest, recovers_from_errors) {
  auto s = session();
  say(s, "one");
  EXPECT_THROW(say(s, "\xff"), RequestError);
  EXPECT_EQ(s.turns().size(), 1u);
  StepOptions bad;
  bad.sampler = [n = 0](const mx::array& logits) mutable -> mx::array {
    if (++n == 4) throw std::runtime_error("sampler");
    return mx::argmax(logits, -1);
  };
  EXPECT_THROW(collect(s.say("two", bad)), std::runtime_error);
  EXPECT_EQ(s.held_tokens(), 0) << "nobody knows what they hold";
  const auto turns = s.turns().size();
  const auto whole = fresh(s, "three");
  EXPECT_EQ(say(s, "three").text, whole.text);
  EXPECT_EQ(s.turns().size(), turns + 1);
}

TEST_F(ChatSessionTest, takes_a_conversation_over) {
  auto s = session();
  say(s, "one");
  s.set_turns({{.message = "one", .answer = "Hello"}, {.message = "two", .answer = "you"}});
  const auto whole = fresh(s, "three");
  const auto answer = say(s, "three");
  EXPECT_EQ(answer.text, whole.text);
  EXPECT_GE(s.reused_tokens(), prompt_of("one")) << "the first message was there";
  EXPECT_EQ(to_messages(s.turns())[2], json({{"role", "user"}, {"content", "two"}}));
}

TEST_F(ChatSessionTest, says_when_the_context_is_full) {
  const int context = 170;  // room: 21
  auto s = session(context);
  const std::string message(30, 'x');
  EXPECT_EQ(say(s, message, 64).tokens, 64);  // 48 + 64
  EXPECT_THROW(say(s, message, 64), ContextFull);
  EXPECT_EQ(s.turns().size(), 1u);
  EXPECT_EQ(s.held_tokens(), 112) << "and the caches are as they were";
  EXPECT_EQ(say(s, message, 1).tokens, 1) << "if that is all that is wanted, it fits";
}

TEST_F(ChatSessionTest, ends_an_answer_with_the_context) {
  auto s = session(100);
  const auto answer = say(s, "hi", -1);
  EXPECT_EQ(answer.reason, FinishReason::length);
  EXPECT_EQ(answer.tokens, 100 - prompt_of("hi"));
  EXPECT_TRUE(s.is_full());
  EXPECT_THROW(say(s, "more"), ContextFull);
  EXPECT_TRUE(s.undo());
  say(s, "hi", 4);
  EXPECT_FALSE(s.is_full());
}

TEST_F(ChatSessionTest, drops_the_oldest_turns) {
  auto s = session(200, "be");
  for (const char* message : {"one", "two", "three", "four"}) say(s, message, 10);
  const auto turns = s.turns();
  EXPECT_EQ(s.make_room("x", 12), 0);
  const std::string message(60, 'x');
  EXPECT_THROW(say(s, message), ContextFull);
  const int dropped = s.make_room(message, 12);
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, 4);
  EXPECT_EQ(s.turns(), std::vector<ChatTurn>(turns.begin() + dropped, turns.end()));
  const auto whole = fresh(s, message);
  EXPECT_EQ(say(s, message).text, whole.text);
  // One fewer would have been too few.
  auto other = session(200, "be");
  other.set_turns({turns.begin() + dropped - 1, turns.end()});
  EXPECT_THROW(say(other, message), ContextFull);
  // What fits into no context drops nothing.
  const auto before = s.turns();
  EXPECT_THROW(s.make_room(std::string(300, 'x'), 12), ContextFull);
  EXPECT_EQ(s.turns(), before);
}

TEST_F(ChatSessionTest, penalties_see_the_whole_conversation) {
  auto s = session();
  const auto options = [] {
    StepOptions o{.max_tokens = 12};
    o.logits_processors = sample::make_logits_processors(
        {.repetition_penalty = 1.7f, .repetition_context_size = 0, .frequency_penalty = 0.3f});
    return o;
  };
  collect(s.say("hello", options()));
  auto other = session();
  other.set_turns(s.turns());
  const auto whole = collect(other.say("hello", options()));
  EXPECT_EQ(collect(s.say("hello", options())).text, whole.text);
  EXPECT_GT(s.reused_tokens(), 0);
  EXPECT_NE(fresh(s, "hello").text, collect(s.say("hello", options())).text);
}

// A model whose layers forget: what they cannot trim they compute again.
class Forgetful : public models::LanguageModel {
 public:
  explicit Forgetful(const models::LanguageModel& model) : LanguageModel(model), model_(model) {}
  mx::array operator()(const mx::array& tokens, cache::KVCaches& caches) const override {
    return model_(tokens, caches);
  }
  int num_layers() const override { return model_.num_layers(); }
  int vocab_size() const override { return model_.vocab_size(); }
  cache::KVCaches make_cache(int = 0) const override { return model_.make_cache(24); }

 private:
  const models::LanguageModel& model_;
};

TEST_F(ChatSessionTest, starts_again_where_caches_cannot_be_trimmed) {
  const Forgetful model(*loaded_->model);
  ChatSession s(model, loaded_->tokenizer, {});
  say(s, "hello");
  // Going on needs no trimming.
  const auto second = say(s, "more");
  EXPECT_EQ(second.computed, 1 + prompt_of("more"));
  s.undo();
  const auto again = say(s, "else");
  EXPECT_EQ(s.reused_tokens(), 0);
  ChatSession other(model, loaded_->tokenizer, {});
  other.set_turns({s.turns()[0]});
  EXPECT_EQ(say(other, "else").text, again.text);
}

TEST_F(ChatSessionTest, needs_a_chat_template) {
  TinyModel model;
  model.tokenizer_config.erase("chat_template");
  model.write(folder_, "plain");
  auto plain = load((folder_.path() / "plain").string());
  EXPECT_THROW(ChatSession(*plain.model, plain.tokenizer, {}), RequestError);
  EXPECT_THROW(ChatSession(*loaded_->model, loaded_->tokenizer, {.context_size = -1}), RequestError);
}

TEST_F(ChatSessionTest, refuses_what_the_template_refuses) {
  TinyModel model;
  model.tokenizer_config["chat_template"] =
      "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages | length }}";
  model.write(folder_, "strict");
  auto strict = load((folder_.path() / "strict").string());
  ChatSession s(*strict.model, strict.tokenizer, {.system = "be"});
  EXPECT_THROW(say(s, "hi"), RequestError);
  EXPECT_TRUE(s.turns().empty());
  s.set_system(std::nullopt);
  EXPECT_EQ(say(s, "hi", 2).tokens, 2);
}

// Reasoning is told from the answer, and left to the template.
TEST_F(ChatSessionTest, keeps_reasoning_apart) {
  thinking_model().write(folder_, "thinker");
  auto thinker = load((folder_.path() / "thinker").string());
  ChatSession s(*thinker.model, thinker.tokenizer, {});
  StepOptions o{.max_tokens = 8};
  o.sampler = [n = size_t(0)](const mx::array&) mutable {
    const std::vector<uint32_t> tokens = {1, 'h', 'm', 2, 'y', 'e', 's', TinyModel::kEnd};
    return mx::array({tokens[std::min(n++, tokens.size() - 1)]}, {1});
  };
  const auto answer = collect(s.say("hi", o));
  EXPECT_EQ(answer.reasoning, "hm");
  EXPECT_EQ(answer.text, "yes");
  ASSERT_EQ(s.turns().size(), 1u);
  EXPECT_EQ(s.turns()[0].reasoning, "hm");
  EXPECT_EQ(s.turns()[0].answer, "yes");
  EXPECT_EQ(to_messages(s.turns())[1]["reasoning_content"], "hm");
  say(s, "more", 2);
  EXPECT_EQ(s.reused_tokens(), prompt_of("hi")) << "the template leaves the reasoning out";
}

TEST(ContextSize, is_what_the_model_was_made_for) {
  const auto size = [](const char* text) { return context_size(ConfigReader(json::parse(text), "config.json")); };
  EXPECT_EQ(size("{}"), 0);
  EXPECT_EQ(size(R"({"max_position_embeddings": 2048})"), 2048);
  EXPECT_EQ(size(R"({"text_config": {"max_position_embeddings": 512}})"), 512);
  EXPECT_EQ(size(R"({"max_position_embeddings": 32768, "rope_scaling":
      {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})"),
            131072);
  EXPECT_EQ(size(R"({"max_position_embeddings": 131072, "rope_scaling":
      {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}})"),
            131072);
  EXPECT_EQ(size(R"({"max_position_embeddings": 8192, "rope_scaling": null})"), 8192);
  EXPECT_THROW(size(R"({"max_position_embeddings": "many"})"), ConfigError);
}

}  // namespace
}  // namespace mlx_lm
