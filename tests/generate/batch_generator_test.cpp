#include "mlx_lm/generate/batch_generator.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/generate_step.h"
#include "mlx_lm/ops/backend.h"

#include "tests/hub/byte_tokenizer.h"
#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

struct Text {
  std::vector<int> tokens;
  std::vector<mx::array> logprobs;
  std::optional<FinishReason> reason;
  cache::KVCaches caches;
};

class Batch : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    golden_ = std::make_unique<GoldenCase>(GetParam());
    model_ = golden_->make();
  }

  // n random prompts of 1 to `longest` tokens.
  std::vector<std::vector<int>> prompts(int n, int longest) {
    std::vector<std::vector<int>> prompts(n);
    for (auto& prompt : prompts) {
      prompt.resize(std::uniform_int_distribution<int>(1, longest)(random_));
      for (int& id : prompt) id = std::uniform_int_distribution<int>(0, model_->vocab_size() - 1)(random_);
    }
    return prompts;
  }

  Text alone(const std::vector<int>& prompt, StepOptions options, const std::set<int>& stop = {}) {
    Text text;
    for (auto& step : generate_step(prompt, *model_, std::move(options))) {
      text.tokens.push_back(step.token);
      text.logprobs.push_back(step.logprobs);
      if (stop.contains(step.token)) break;
    }
    return text;
  }

  static void collect(BatchGenerator& batch, std::map<int, Text>& texts) {
    for (auto& response : batch.next()) {
      auto& text = texts[response.uid];
      ASSERT_FALSE(text.reason) << "a token after the last";
      ASSERT_EQ(response.error, nullptr);
      text.tokens.push_back(response.token);
      text.logprobs.push_back(response.logprobs);
      text.reason = response.finish_reason;
      text.caches = std::move(response.caches);
    }
  }

  // Until there is no text left. The most tokens that each made in a step.
  static std::map<int, int> collect_all(BatchGenerator& batch, std::map<int, Text>& texts) {
    std::map<int, int> most;
    while (!batch.empty()) {
      std::map<int, size_t> before;
      for (const auto& [uid, text] : texts) before[uid] = text.tokens.size();
      collect(batch, texts);
      for (const auto& [uid, text] : texts) most[uid] = std::max(most[uid], int(text.tokens.size() - before[uid]));
    }
    return most;
  }

  std::unique_ptr<GoldenCase> golden_;
  std::unique_ptr<models::LanguageModel> model_;
  std::mt19937 random_{7};
};

TEST_P(Batch, each_text_is_what_it_is_alone) {
  for (const BatchOptions& options : {BatchOptions{},
                                      {.completion_batch_size = 3, .prefill_batch_size = 2},
                                      {.prefill_batch_size = 4, .prefill_step_size = 5},
                                      {.completion_batch_size = 1},
                                      {.max_kv_size = 9}}) {
    SCOPED_TRACE(testing::Message() << "batch " << options.completion_batch_size << ", prefill step "
                                    << options.prefill_step_size << ", kv size " << options.max_kv_size);
    BatchGenerator batch(*model_, options);
    const auto all = prompts(12, 24);
    std::map<int, int> prompt_of;
    std::map<int, Text> texts;
    const auto most = [](int i) { return 1 + i * 5 % 17; };
    for (int i = 0; i < 12; ++i) {
      prompt_of[batch.insert(all[i], {.max_tokens = most(i)})] = i;
      if (i % 3 == 2) collect(batch, texts);  // some come when others run already
    }
    while (!batch.empty()) collect(batch, texts);
    EXPECT_EQ(batch.size(), 0);
    ASSERT_EQ(texts.size(), all.size());
    for (auto& [uid, text] : texts) {
      const int i = prompt_of.at(uid);
      auto wanted = alone(
          all[i],
          {.max_tokens = most(i), .max_kv_size = options.max_kv_size, .prefill_step_size = options.prefill_step_size});
      EXPECT_EQ(text.tokens, wanted.tokens) << "prompt " << i;
      EXPECT_EQ(text.reason, FinishReason::length);
      for (size_t t = 0; t < text.tokens.size(); ++t) {
        ASSERT_EQ(text.logprobs[t].shape(), mx::Shape{model_->vocab_size()});
        EXPECT_EQ(mx::max(mx::abs(text.logprobs[t] - wanted.logprobs[t])).item<float>(), 0) << "token " << t;
      }
    }
  }
}

TEST_P(Batch, texts_end_at_their_stop_tokens) {
  BatchGenerator batch(*model_);
  const auto all = prompts(6, 10);
  std::map<int, Text> texts;
  std::vector<Text> wanted;
  for (int i = 0; i < 6; ++i) {
    const int stop = alone(all[i], {.max_tokens = 10}).tokens[3];
    wanted.push_back(alone(all[i], {.max_tokens = 40}, {stop}));
    EXPECT_EQ(batch.insert(all[i], {.max_tokens = 40, .stop_tokens = {stop}}), i);
  }
  while (!batch.empty()) collect(batch, texts);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(texts[i].tokens, wanted[i].tokens);
    EXPECT_EQ(texts[i].reason, FinishReason::stop);
  }
}

TEST_P(Batch, caches_come_out_and_go_in_again) {
  const auto prompt = prompts(1, 9)[0], more = prompts(1, 5)[0], other = prompts(1, 12)[0];
  for (bool by_length : {true, false}) {
    BatchGenerator batch(*model_);
    batch.insert(other, {.max_tokens = 30});
    const auto first = alone(prompt, {.max_tokens = 7});
    std::set<int> stop;
    if (!by_length) stop = {first.tokens[4]};
    const int uid = batch.insert(prompt, {.max_tokens = 7, .stop_tokens = stop, .return_cache = true});
    std::map<int, Text> texts;
    while (!texts[uid].reason) collect(batch, texts);
    ASSERT_FALSE(texts[uid].caches.empty());
    EXPECT_EQ(texts[uid].caches[0]->offset(), int(prompt.size() + texts[uid].tokens.size()));

    auto whole = prompt;
    whole.insert(whole.end(), texts[uid].tokens.begin(), texts[uid].tokens.end());
    whole.insert(whole.end(), more.begin(), more.end());
    const int again = batch.insert(more, {.max_tokens = 6, .prompt_cache = std::move(texts[uid].caches)});
    while (!batch.empty()) collect(batch, texts);
    EXPECT_EQ(texts[again].tokens, alone(whole, {.max_tokens = 6}).tokens);
  }
}

TEST_P(Batch, a_text_can_be_removed_at_any_time) {
  const auto all = prompts(5, 14);
  for (int when = 0; when < 8; ++when) {
    BatchGenerator batch(*model_, {.completion_batch_size = 4, .prefill_step_size = 6});
    for (const auto& prompt : all) batch.insert(prompt, {.max_tokens = 12});
    std::map<int, Text> texts;
    for (int i = 0; i < when; ++i) collect(batch, texts);
    const auto before = texts[1].tokens.size();
    batch.remove(1);
    batch.remove(4);
    EXPECT_TRUE(batch.remove(1).empty());
    EXPECT_EQ(batch.size(), 3);
    while (!batch.empty()) collect(batch, texts);
    EXPECT_EQ(texts[1].tokens.size(), before);
    for (int i : {0, 2, 3}) EXPECT_EQ(texts[i].tokens, alone(all[i], {.max_tokens = 12}).tokens) << i;
  }
}

TEST_P(Batch, tells_its_progress) {
  BatchGenerator batch(*model_, {.prefill_step_size = 8});
  batch.insert(std::vector<int>(14, 1), {.max_tokens = 2});
  batch.insert(std::vector<int>(6, 2), {.max_tokens = 2});
  std::vector<std::array<int, 3>> told;
  while (!batch.empty()) {
    batch.next();
    for (const auto& p : batch.progress()) told.push_back({p.uid, p.processed, p.total});
  }
  EXPECT_EQ(told, (std::vector<std::array<int, 3>>{{0, 8, 14}, {1, 5, 6}, {0, 13, 14}}));
  EXPECT_EQ(batch.stats().prompt_tokens, 20);
  EXPECT_EQ(batch.stats().generation_tokens, 4);
}

// A prompt that comes later is not held up by a long one, nor are the texts that run, nor the long one by short ones.
TEST_P(Batch, prompts_take_turns) {
  BatchGenerator batch(*model_, {.prefill_step_size = 8});
  const int running = batch.insert({1, 2, 3}, {.max_tokens = 60});
  std::map<int, Text> texts;
  collect(batch, texts);
  const int large = batch.insert(std::vector<int>(65, 1), {.max_tokens = 2});
  collect(batch, texts);
  std::vector<int> small;
  std::vector<int> served;
  for (int i = 0; i < 12; ++i) {
    small.push_back(batch.insert(std::vector<int>(6, 2), {.max_tokens = 1}));
    const auto before = texts[running].tokens.size();
    collect(batch, texts);
    EXPECT_EQ(texts[running].tokens.size(), before + 1) << "the text that runs has its token in each step";
    for (const auto& p : batch.progress()) served.push_back(p.uid);
  }
  EXPECT_EQ((std::vector<int>(served.begin(), served.begin() + 4)),
            (std::vector<int>{large, small[0], large, small[1]}));
  while (!batch.empty()) collect(batch, texts);
  EXPECT_EQ(texts[large].tokens, alone(std::vector<int>(65, 1), {.max_tokens = 2, .prefill_step_size = 8}).tokens);
  for (int uid : small) EXPECT_EQ(texts[uid].tokens.size(), 1u);
}

TEST_P(Batch, what_one_text_throws_ends_that_text_alone) {
  struct Failure : std::exception {};
  const auto all = prompts(3, 12);
  for (int when = 0; when < 5; ++when) {
    for (int part = 0; part < 3; ++part) {
      SCOPED_TRACE(testing::Message() << "part " << part << " at its call " << when);
      BatchGenerator batch(*model_, {.prefill_step_size = 6});
      const auto bomb = [when, calls = std::make_shared<int>(0)] {
        if ((*calls)++ == when) throw Failure();
      };
      SequenceOptions options{.max_tokens = 9};
      if (part == 0) {
        options.sampler = [bomb](const mx::array& logits) {
          bomb();
          return mx::argmax(logits, -1);
        };
      } else if (part == 1) {
        options.logits_processors = {[bomb](const mx::array&, const mx::array& logits) {
          bomb();
          return logits;
        }};
      } else {
        options.snapshots = {1, 2, 3, 4, 5};
        options.on_snapshot = [bomb](int, const cache::KVCaches&) { bomb(); };
      }
      const std::vector<int> prompt{5, 6, 7, 8, 9};
      for (const auto& other : all) batch.insert(other, {.max_tokens = 9});
      const int uid = batch.insert(prompt, std::move(options));
      std::map<int, Text> texts;
      int failures = 0;
      while (!batch.empty()) {
        for (auto& response : batch.next()) {
          auto& text = texts[response.uid];
          ASSERT_FALSE(text.reason);
          text.reason = response.finish_reason;
          if (response.error) {
            EXPECT_EQ(response.token, -1);
            EXPECT_EQ(response.finish_reason, FinishReason::failed);
            EXPECT_THROW(std::rethrow_exception(response.error), Failure);
            failures += 1;
            continue;
          }
          text.tokens.push_back(response.token);
          text.logprobs.push_back(response.logprobs);
        }
      }
      EXPECT_EQ(failures, 1);
      EXPECT_EQ(texts[uid].reason, FinishReason::failed);
      // What was made before it is handed out.
      auto wanted = alone(prompt, {.max_tokens = 9}).tokens;
      wanted.resize(part == 2 ? 0 : when);
      EXPECT_EQ(texts[uid].tokens, wanted);
      for (int i = 0; i < 3; ++i) {
        const auto own = alone(all[i], {.max_tokens = 9, .prefill_step_size = 6});
        EXPECT_EQ(texts[i].tokens, own.tokens);
        EXPECT_EQ(texts[i].reason, FinishReason::length);
        for (size_t t = 0; t < own.tokens.size(); ++t) {
          EXPECT_TRUE(mx::array_equal(texts[i].logprobs[t], own.logprobs[t]).item<bool>());
        }
      }
      EXPECT_EQ(batch.cache_nbytes(), 0u);
    }
  }
}

// While it is there, each step begins when the one before is done.
TEST_P(Batch, a_constraint_of_another_vocabulary_ends_its_text_alone) {
  const GrammarTokens tokens(tokenizer_of(byte_level_json({{"n", "a"}})), 999, std::vector<int>{258});
  BatchGenerator batch(*model_);
  const auto all = prompts(2, 9);
  for (const auto& prompt : all) batch.insert(prompt, {.max_tokens = 6});
  std::map<int, Text> texts;
  collect(batch, texts);
  collect(batch, texts);
  SequenceOptions options{.max_tokens = 6};
  options.constraint = std::make_shared<sample::Constraint>(Grammar(tokens, {.regex = "[a-c]+"}).matcher());
  const int uid = batch.insert({1, 2, 3}, std::move(options));
  while (!batch.empty()) {
    for (auto& response : batch.next()) {
      EXPECT_EQ(response.uid == uid, response.error != nullptr);
      if (response.error) {
        EXPECT_THROW(std::rethrow_exception(response.error), RequestError);
        EXPECT_EQ(response.finish_reason, FinishReason::failed);
        texts[uid].reason = response.finish_reason;
        continue;
      }
      texts[response.uid].tokens.push_back(response.token);
    }
  }
  EXPECT_TRUE(texts[uid].reason);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(texts[i].tokens, alone(all[i], {.max_tokens = 6}).tokens);
}

// Knows the text that comes, but for each fifth token.
class KnownDrafter final : public Drafter {
 public:
  KnownDrafter(size_t prompt, std::vector<int> text) : prompt_(prompt), text_(std::move(text)) {}
  std::vector<int> draft(std::span<const int> text, int n) override {
    std::vector<int> drafts;
    for (size_t at = text.size() - prompt_; at < text_.size() && int(drafts.size()) < n; ++at) {
      drafts.push_back(at % 5 == 4 ? (text_[at] + 1) % 20 : text_[at]);
    }
    return drafts;
  }
  double cost() const override { return 0; }

 private:
  size_t prompt_;
  std::vector<int> text_;
};

TEST_P(Batch, drafts_change_nothing_but_the_number_of_steps) {
  const auto all = prompts(5, 14);
  const auto sampler = [](int i) {
    return i == 3 ? sample::make_sampler({.temp = 0.9f, .seed = 11}) : sample::Sampler{};
  };
  BatchGenerator batch(*model_);
  std::vector<Text> wanted;
  for (int i = 0; i < 5; ++i) {
    wanted.push_back(alone(all[i], {.max_tokens = 20, .sampler = sampler(i)}));
    SequenceOptions options{.max_tokens = 20, .sampler = sampler(i)};
    if (i % 2 == 1) options.drafter = std::make_shared<KnownDrafter>(all[i].size(), wanted[i].tokens);
    ASSERT_EQ(batch.insert(all[i], std::move(options)), i);
    if (i == 2) batch.next();
  }
  // One of them goes while a step with several of its tokens is under way.
  for (int step = 0; step < 4; ++step) batch.next();
  batch.remove(1);
  std::map<int, Text> texts;
  const auto most = collect_all(batch, texts);
  for (int i : {0, 2, 3, 4}) {
    const auto& tail = texts[i].tokens;
    ASSERT_LE(tail.size(), 20u);
    EXPECT_EQ(tail, std::vector<int>(wanted[i].tokens.end() - long(tail.size()), wanted[i].tokens.end())) << i;
    EXPECT_EQ(texts[i].reason, FinishReason::length);
  }
  EXPECT_EQ(most.at(0), 1);
  EXPECT_GT(most.at(3), 1);
}

TEST_P(Batch, constrained_texts_end_within_their_tokens) {
  const int size = model_->vocab_size();
  ASSERT_LT(size, 258);  // the bytes that the grammar's texts are made of are tokens
  const GrammarTokens tokens(tokenizer_of(byte_level_json({{"n", "a"}})), size, std::vector<int>{size - 1});
  BatchGenerator batch(*model_);
  const auto all = prompts(4, 9);
  std::vector<Grammar> grammars;
  for (int i = 0; i < 4; ++i) {
    SequenceOptions options{.max_tokens = 24, .return_cache = true};
    if (i < 3) {
      grammars.emplace_back(tokens, GrammarOptions{.regex = "\\(\\(\\(\\([A-F]+\\)\\)\\)"});
      options.constraint = std::make_shared<sample::Constraint>(grammars.back().matcher());
    }
    batch.insert(all[i], std::move(options));
  }
  std::map<int, Text> texts;
  const auto most = collect_all(batch, texts);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(texts[i].reason, FinishReason::stop);
    EXPECT_GT(most.at(i), 1);  // what the grammar forces comes together
    auto matcher = grammars[i].matcher();
    for (int token : texts[i].tokens) EXPECT_TRUE(matcher.commit(token));
    EXPECT_TRUE(matcher.accepts() || matcher.stopped());
    // The caches hold all but the last tokens.
    ASSERT_FALSE(texts[i].caches.empty());
    EXPECT_EQ(texts[i].caches[0]->offset(), int(all[i].size() + texts[i].tokens.size()) - 1);
  }
  EXPECT_EQ(texts[3].tokens, alone(all[3], {.max_tokens = 24}).tokens);
}

TEST_P(Batch, snapshots_are_taken_where_they_were_asked_for) {
  const auto others = prompts(3, 20);
  const std::vector<int> prompt{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};
  const std::vector<int> asked{2, 7, 8, 14, 15};
  BatchGenerator batch(*model_, {.prefill_step_size = 5});
  for (const auto& other : others) batch.insert(other, {.max_tokens = 8});
  std::map<int, cache::KVCaches> taken;
  SequenceOptions options{.max_tokens = 8, .snapshots = asked};
  options.on_snapshot = [&](int tokens, const cache::KVCaches& caches) {
    for (const auto& cache : caches) EXPECT_EQ(cache->offset(), tokens);
    EXPECT_TRUE(taken.emplace(tokens, cache::copy(caches)).second);
  };
  const int uid = batch.insert(prompt, std::move(options));
  std::map<int, Text> texts;
  while (!batch.empty()) collect(batch, texts);
  ASSERT_EQ(taken.size(), asked.size());
  const auto wanted = alone(prompt, {.max_tokens = 8});
  EXPECT_EQ(texts[uid].tokens, wanted.tokens);
  for (int i = 0; i < 3; ++i) {
    const auto own = alone(others[i], {.max_tokens = 8, .prefill_step_size = 5});
    for (size_t t = 0; t < own.tokens.size(); ++t) {
      EXPECT_TRUE(mx::array_equal(texts[i].logprobs[t], own.logprobs[t]).item<bool>());
    }
  }
  // Each goes on to the same answer; the last holds the whole prompt, so its first token comes by itself.
  for (auto& [tokens, caches] : taken) {
    auto rest = std::vector<int>(prompt.begin() + tokens, prompt.end());
    auto answer = wanted.tokens;
    if (rest.empty()) rest = {answer[0]}, answer.erase(answer.begin());
    std::vector<int> made;
    for (auto& step : generate_step(rest, *model_, {.max_tokens = int(answer.size()), .prompt_cache = &caches})) {
      made.push_back(step.token);
    }
    EXPECT_EQ(made, answer) << tokens;
  }
}

TEST_P(Batch, a_removed_text_frees_its_memory) {
  for (int steps : {0, 1, 2, 5}) {
    BatchGenerator batch(*model_);
    const int other = batch.insert({1, 2, 3}, {.max_tokens = 40});
    std::map<int, Text> texts;
    for (int i = 0; i < 3; ++i) collect(batch, texts);
    auto owned = std::make_shared<int>(0);
    const auto sampler = [owned](const mx::array& logits) { return mx::argmax(logits, -1); };
    const int uid = batch.insert(std::vector<int>(600, 4), {.max_tokens = 500, .sampler = sampler});
    const auto without = batch.cache_nbytes();
    for (int i = 0; i < steps; ++i) collect(batch, texts);
    texts.clear();
    const auto before = mx::get_active_memory(), held = batch.cache_nbytes();
    batch.remove(uid);
    EXPECT_EQ(owned.use_count(), 2) << "its sampler";  // this test's, and that of the lambda above
    EXPECT_EQ(batch.cache_nbytes(), without);
    EXPECT_LE(mx::get_active_memory() + (held - without), before);
    batch.remove(other);
    EXPECT_EQ(batch.cache_nbytes(), 0u);
  }
}

// A penalty looks back on what came before the prompt.
TEST_P(Batch, cached_tokens_count_for_processors) {
  const std::vector<int> prompt{3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
  const auto processors = [] { return sample::make_logits_processors({.repetition_penalty = 3.f}); };
  BatchGenerator batch(*model_);
  cache::KVCaches half;
  SequenceOptions options{.max_tokens = 12, .logits_processors = processors(), .snapshots = {7}};
  options.on_snapshot = [&](int, const cache::KVCaches& caches) { half = cache::copy(caches); };
  const int whole = batch.insert(prompt, std::move(options));
  std::map<int, Text> texts;
  while (!batch.empty()) collect(batch, texts);
  const int rest = batch.insert({6, 5, 3}, {.max_tokens = 12,
                                            .logits_processors = processors(),
                                            .prompt_cache = std::move(half),
                                            .cached_tokens = {prompt.begin(), prompt.begin() + 7}});
  while (!batch.empty()) collect(batch, texts);
  EXPECT_EQ(texts[rest].tokens, texts[whole].tokens);
}

TEST_P(Batch, refuses_what_makes_no_sense) {
  BatchGenerator batch(*model_);
  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const RequestError& error) {
      return error.what();
    }
    return "nothing";
  };
  const auto size = std::to_string(model_->vocab_size());
  EXPECT_EQ(message([&] { batch.insert({}); }), "[generate] prompt: expected at least one token, found none");
  EXPECT_EQ(message([&] {
              batch.insert({1, -1});
            }),
            "[generate] prompt: expected tokens below the model's " + size + ", found -1");
  EXPECT_EQ(message([&] { batch.insert({model_->vocab_size()}); }),
            "[generate] prompt: expected tokens below the model's " + size + ", found " + size);
  EXPECT_EQ(message([&] { batch.insert({1}, {.max_tokens = 0}); }),
            "[generate] max-tokens: expected 1 or more, or -1 for no limit, found 0");
  const auto nothing = [](int, const cache::KVCaches&) {};
  for (const std::vector<int>& wrong : {std::vector<int>{0}, {3}, {1, 1}, {2, 1}}) {
    EXPECT_EQ(message([&] {
                batch.insert({1, 2}, {.snapshots = wrong, .on_snapshot = nothing});
              }),
              fmt::format("[generate] snapshots: expected ascending numbers of 1 to 2 tokens and an on_snapshot, "
                          "found {}",
                          wrong.back()));
  }
  EXPECT_EQ(message([&] {
              batch.insert({1, 2}, {.snapshots = {1}});
            }),
            "[generate] snapshots: expected ascending numbers of 1 to 2 tokens and an on_snapshot, found no "
            "on_snapshot");
  cache::KVCaches none(1);
  EXPECT_EQ(message([&] { batch.insert({1}, {.prompt_cache = std::move(none)}); }),
            fmt::format("[generate] prompt_cache: expected {} layers, found 1", model_->num_layers()));
  EXPECT_EQ(message([&] { BatchGenerator(*model_, {.completion_batch_size = 0}); }),
            "[generate] completion-batch-size: expected at least 1, found 0");
  EXPECT_TRUE(batch.empty());
  EXPECT_TRUE(batch.next().empty());
}

INSTANTIATE_TEST_SUITE_P(Models, Batch, testing::Values("llama_basic", "llama_sliding", "llama_q4", "qwen3_tied"));

// By MLX's own operations the same holds within rounding, so the likeliest tokens are the same.
TEST(BatchOnMlx, each_text_is_what_it_is_alone) {
  ops::set_backend(ops::Backend::mlx);
  GoldenCase golden("llama_sliding");
  const auto model = golden.make();
  BatchGenerator batch(*model);
  const std::vector<std::vector<int>> prompts{{1, 2, 3, 4, 5, 6, 7, 8, 9}, {20}, {7, 7, 30, 31}};
  std::map<int, std::vector<int>> texts;
  for (const auto& prompt : prompts) batch.insert(prompt, {.max_tokens = 9});
  while (!batch.empty()) {
    for (const auto& response : batch.next()) texts[response.uid].push_back(response.token);
  }
  for (int i = 0; i < 3; ++i) {
    std::vector<int> wanted;
    for (auto& step : generate_step(prompts[i], *model, {.max_tokens = 9})) wanted.push_back(step.token);
    EXPECT_EQ(texts[i], wanted);
  }
  ops::set_backend(ops::Backend::kernels);
}

}  // namespace
}  // namespace mlx_lm
