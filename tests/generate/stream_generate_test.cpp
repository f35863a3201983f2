#include "mlx_lm/generate/stream_generate.h"

#include <regex>
#include <sstream>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/models/golden_case.h"
#include "tests/text/tiny_tokenizer.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

// A sampler that gives these tokens, one a step, and then the last one for ever.
sample::Sampler script(std::vector<int> tokens) {
  return [tokens = std::move(tokens), at = size_t(0)](const mx::array&) mutable {
    const int token = tokens[std::min(at++, tokens.size() - 1)];
    return mx::array({uint32_t(token)}, {1});
  };
}

class StreamGenerate : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    golden_ = new GoldenCase("llama_basic");
    model_ = golden_->make().release();
  }
  static void TearDownTestSuite() {
    delete model_;
    delete golden_;
  }

  // Tokens 2 to 95 are the letters from space to }; <s> is 0 and </s> 1.
  static text::TokenizerWrapper tokenizer(const json& config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}}) {
    return text::TokenizerWrapper({.tokenizer = letters_tokenizer(), .config = config, .where = "tiny"});
  }
  static std::vector<int> ids(const std::string& letters) {
    std::vector<int> out;
    for (char c : letters) out.push_back(c - ' ' + 2);
    return out;
  }
  static sample::Sampler says(const std::string& letters, bool end = true) {
    auto tokens = ids(letters);
    if (end) tokens.push_back(1);
    return script(std::move(tokens));
  }
  static std::vector<GenerationResponse> all(Prompt prompt, StepOptions options) {
    std::vector<GenerationResponse> out;
    const auto t = tokenizer();
    for (auto& response : stream_generate(*model_, t, std::move(prompt), std::move(options))) out.push_back(response);
    return out;
  }
  static std::string text_of(const std::vector<GenerationResponse>& responses) {
    std::string text;
    for (const auto& r : responses) text += r.text;
    return text;
  }

  static inline GoldenCase* golden_;
  static inline models::LanguageModel* model_;
};

TEST_F(StreamGenerate, ends_at_an_end_token_that_is_no_part_of_the_text) {
  const auto responses = all("Hi", {.sampler = says("Hello you")});
  EXPECT_EQ(text_of(responses), "Hello you");
  ASSERT_EQ(responses.size(), 10u);
  for (size_t i = 0; i + 1 < responses.size(); ++i) {
    EXPECT_EQ(responses[i].finish_reason, std::nullopt);
    EXPECT_EQ(responses[i].generation_tokens, int(i) + 1);
  }
  EXPECT_EQ(responses.back().finish_reason, FinishReason::stop);
  EXPECT_EQ(responses.back().token, 1);
  EXPECT_EQ(responses.back().generation_tokens, 10) << "the end token counts";
}

TEST_F(StreamGenerate, ends_at_max_tokens) {
  const auto responses = all("Hi", {.max_tokens = 5, .sampler = says("Hello you")});
  EXPECT_EQ(text_of(responses), "Hello");
  ASSERT_EQ(responses.size(), 5u) << "the last token's text comes with the last response";
  EXPECT_EQ(responses.back().text, "o");
  EXPECT_EQ(responses.back().finish_reason, FinishReason::length);
  EXPECT_EQ(all("Hi", {.max_tokens = 1, .sampler = says("Hello")}).size(), 1u);
  EXPECT_EQ(all("Hi", {.max_tokens = 6, .sampler = says("Hello")}).back().finish_reason, FinishReason::stop)
      << "an end token as the last one allowed";
}

TEST_F(StreamGenerate, ends_when_told) {
  std::stop_source stop;
  const auto t = tokenizer();
  std::vector<GenerationResponse> responses;
  for (auto& r : stream_generate(*model_, t, "Hi",
                                 {.max_tokens = -1, .sampler = says("abcdef", false), .stop = stop.get_token()})) {
    responses.push_back(r);
    if (responses.size() == 3) stop.request_stop();
  }
  EXPECT_EQ(text_of(responses), "abc");
  EXPECT_EQ(responses.back().finish_reason, FinishReason::cancelled);
  const auto none = all("Hi", {.stop = stop.get_token()});
  ASSERT_EQ(none.size(), 1u);
  EXPECT_EQ(none[0].finish_reason, FinishReason::cancelled);
  EXPECT_EQ(none[0].generation_tokens, 0);
}

TEST_F(StreamGenerate, holds_text_back_until_it_is_readable) {
  // A lone space waits for the next letter, and comes out at the end in any case.
  const auto responses = all("Hi", {.sampler = says("a b ")});
  ASSERT_EQ(responses.size(), 5u);
  EXPECT_EQ(responses[0].text, "a");
  EXPECT_EQ(responses[1].text, "");
  EXPECT_EQ(responses[2].text, " b");
  EXPECT_EQ(responses[3].text, "");
  EXPECT_EQ(responses[4].text, " ");
  const auto cut = all("Hi", {.max_tokens = 2, .sampler = says("a b")});
  EXPECT_EQ(text_of(cut), "a ");
}

TEST_F(StreamGenerate, counts_and_measures) {
  const auto responses = all("Hi", {.max_tokens = 3, .sampler = says("abc")});
  for (const auto& r : responses) {
    EXPECT_EQ(r.prompt_tokens, 3) << "<s>, H, i";
    EXPECT_GT(r.prompt_tps, 0);
    EXPECT_GT(r.generation_tps, 0);
    EXPECT_GT(r.peak_memory, 0.001);
    EXPECT_EQ(r.logprobs.shape(), mx::Shape{96});
  }
  EXPECT_EQ(responses[1].token, ids("b")[0]);
}

TEST_F(StreamGenerate, puts_the_first_token_before_a_text_once) {
  EXPECT_EQ(all("Hi", {.max_tokens = 1})[0].prompt_tokens, 3);
  EXPECT_EQ(all("<s>Hi", {.max_tokens = 1})[0].prompt_tokens, 3) << "a template wrote it already";
  EXPECT_EQ(all(ids("Hi"), {.max_tokens = 1})[0].prompt_tokens, 2) << "ids are taken as they are";
  const auto same = [&](Prompt a, Prompt b) {
    return text_of(all(std::move(a), {.max_tokens = 8})) == text_of(all(std::move(b), {.max_tokens = 8}));
  };
  EXPECT_TRUE(same("Hi", "<s>Hi"));
  auto with = ids("Hi");
  with.insert(with.begin(), 0);
  EXPECT_TRUE(same("Hi", with));
}

TEST_F(StreamGenerate, writes_the_models_tokens) {
  const auto greedy = golden_->expected["exact"]["greedy"].get<std::vector<int>>();
  const auto responses = all(golden_->expected["prompt"].get<std::vector<int>>(), {.max_tokens = 8});
  for (size_t i = 0; i < responses.size(); ++i) EXPECT_EQ(responses[i].token, greedy[i]);
}

TEST_F(StreamGenerate, refuses_what_makes_no_sense) {
  EXPECT_THROW(all("Hi", {.max_tokens = 0}), RequestError);
  EXPECT_THROW(all("Hi", {.max_tokens = -2}), RequestError);
  EXPECT_THROW(all("\xFF", {}), RequestError);
  EXPECT_THROW(all(std::vector<int>{}, {}), RequestError);
  // MLX and the kernels would read past the end of the table.
  for (int id : {96, 1 << 30, -1}) EXPECT_THROW(all(std::vector<int>{5, id}, {}), RequestError) << id;
  EXPECT_NO_THROW(all(std::vector<int>{95, 0}, {.max_tokens = 1}));
}

TEST_F(StreamGenerate, ends_at_any_of_the_end_tokens) {
  auto t = tokenizer();
  t.add_eos_token("e");
  std::string text;
  std::optional<FinishReason> reason;
  for (auto& r : stream_generate(*model_, t, "Hi", {.sampler = says("Hello")})) {
    text += r.text;
    reason = r.finish_reason;
  }
  EXPECT_EQ(text, "H");
  EXPECT_EQ(reason, FinishReason::stop);
}

TEST_F(StreamGenerate, leaves_the_end_token_in_the_cache) {
  auto caches = model_->make_cache();
  all("Hi", {.sampler = says("ab"), .prompt_cache = &caches});
  EXPECT_EQ(caches[0]->offset(), 3 + 3) << "<s> H i, a b </s>";
}

TEST_F(StreamGenerate, generate_gives_the_whole_text) {
  const auto t = tokenizer();
  EXPECT_EQ(generate(*model_, t, "Hi", {.sampler = says("Hello you")}), "Hello you");
  EXPECT_EQ(generate(*model_, t, "Hi", {.sampler = says("")}), "");
}

TEST_F(StreamGenerate, generate_writes_as_mlx_lm_does) {
  const auto t = tokenizer();
  std::ostringstream out;
  generate(*model_, t, "Hi", {.sampler = says("Hello")}, &out);
  const std::regex wanted(
      "==========\nHello\n==========\n"
      "Prompt: 3 tokens, [0-9]+\\.[0-9]{3} tokens-per-sec\n"
      "Generation: 6 tokens, [0-9]+\\.[0-9]{3} tokens-per-sec\n"
      "Peak memory: [0-9]+\\.[0-9]{3} GB\n");
  EXPECT_TRUE(std::regex_match(out.str(), wanted)) << out.str();
  std::ostringstream nothing;
  generate(*model_, t, "Hi", {.sampler = says("")}, &nothing);
  EXPECT_EQ(nothing.str(), "==========\n\n==========\nNo text generated for this prompt\n");
}

}  // namespace
}  // namespace mlx_lm
