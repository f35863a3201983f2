// What generation can do, with the default model: drafts, batches and structure. By hand, all 200 schemas, with the
// speed beside free text:
//   MLX_LM_SCHEMAS=200 MLX_LM_DOCUMENTS=documents.jsonl test_real --gtest_filter=*fulfil*
//   tests/structured/validate.py tests/structured/schemas.jsonl documents.jsonl
#include <chrono>
#include <fstream>
#include <iostream>
#include <regex>

#include <gtest/gtest.h>

#include "mlx_lm/mlx_lm.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

class Generation : public testing::Test {
 protected:
  static void SetUpTestSuite() { loaded_ = std::make_unique<Loaded>(load(default_model_path().string())); }
  static void TearDownTestSuite() { loaded_.reset(); }

  static std::vector<int> encode(const std::string& prompt) {
    const auto& tokenizer = loaded_->tokenizer;
    return tokenizer.encode(tokenizer.apply_chat_template({{{"role", "user"}, {"content", prompt}}}, {}), false);
  }
  static std::vector<int> tokens(const std::vector<int>& prompt, StepOptions options, int* from_draft = nullptr) {
    std::vector<int> made;
    for (auto& step : generate_step(prompt, *loaded_->model, std::move(options))) {
      made.push_back(step.token);
      if (from_draft) *from_draft += step.from_draft;
      if (loaded_->tokenizer.eos_token_ids().contains(step.token)) break;
    }
    return made;
  }
  static Grammar grammar(const GrammarOptions& options) {
    const auto& ids = loaded_->tokenizer.eos_token_ids();
    static const GrammarTokens tokens(loaded_->tokenizer.tokenizer(), loaded_->model->vocab_size(),
                                      std::vector<int>(ids.begin(), ids.end()));
    return Grammar(tokens, options);
  }

  static inline std::unique_ptr<Loaded> loaded_;
};

const char* const kPrompts[] = {
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "List three uses of a paper clip.",
    "Explain photosynthesis to a child.",
    "Correct the spelling: I recieved teh leter yesterday and I beleive it is form my freind.",
    "Repeat this text: The quick brown fox jumps over the lazy dog while the cat sleeps on the mat near the fire.",
    "Write a Python function that adds two numbers.",
    "Say hello in five languages.",
    "What is 12 times 11?",
    "Summarize: Water boils at 100 degrees Celsius at sea level. At higher altitudes it boils at lower temperatures.",
    "Who wrote Hamlet?",
    "Name a colour.",
    "Continue: one, two, three, four,",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "Rewrite in capitals: good morning to everyone in the room.",
    "What does the word 'lucid' mean?",
    "Write two sentences about winter.",
    "Count from 1 to 20.",
    "Translate to Spanish: The house is red and the garden is green.",
};

TEST_F(Generation, drafts_leave_greedy_text_as_it_is) {
  int made = 0, guessed = 0;
  for (const char* text : kPrompts) {
    const auto prompt = encode(text);
    NgramDrafter lookup;
    int from_draft = 0;
    const auto plain = tokens(prompt, {.max_tokens = 48});
    EXPECT_EQ(tokens(prompt, {.max_tokens = 48, .drafter = &lookup}, &from_draft), plain) << text;
    made += int(plain.size()), guessed += from_draft;
  }
  std::cout << guessed << " of " << made << " tokens were guessed" << std::endl;
  EXPECT_GT(guessed, made / 20);
}

TEST_F(Generation, each_answer_of_a_batch_is_that_of_its_prompt_alone) {
  std::vector<BatchPrompt> prompts;
  std::vector<std::vector<int>> wanted;
  for (int i = 0; i < 32; ++i) {
    const auto prompt = encode(std::string(kPrompts[i % std::size(kPrompts)]) + std::string(i / 20, '!'));
    const int most = 8 + i % 5 * 8;
    wanted.push_back(tokens(prompt, {.max_tokens = most}));
    prompts.push_back({prompt, {.max_tokens = most}});
  }
  const auto result =
      batch_generate(*loaded_->model, loaded_->tokenizer, std::move(prompts), {.batch = {.completion_batch_size = 12}});
  for (int i = 0; i < 32; ++i) EXPECT_EQ(result.answers[i].tokens, wanted[i]) << i;
}

// A schema for each text, at temperature 1: what has ended is JSON, and nearly all has.
TEST_F(Generation, answers_fulfil_their_schemas) {
  const char* count = std::getenv("MLX_LM_SCHEMAS");
  const char* documents = std::getenv("MLX_LM_DOCUMENTS");
  const int schemas = count ? std::atoi(count) : 10;
  std::ifstream file(MLX_LM_TEST_DATA "/structured/schemas.jsonl");
  std::ofstream out;
  if (documents) out.open(documents);
  std::string schema;
  int ended = 0, made = 0, known = 0;
  double seconds = 0;
  for (int i = 0; i < schemas; ++i) {
    ASSERT_TRUE(std::getline(file, schema));
    sample::Constraint constraint(grammar({.json_schema = schema}).matcher());
    StepOptions options{.max_tokens = 400, .sampler = sample::make_sampler({.temp = 1, .seed = uint64_t(i)})};
    options.constraint = &constraint;
    const auto prompt = encode("Make up an example of a JSON document for this schema: " + schema);
    std::string text;
    auto start = std::chrono::steady_clock::now();
    for (auto& r : stream_generate(*loaded_->model, loaded_->tokenizer, prompt, std::move(options))) {
      if (r.generation_tokens == 1) start = std::chrono::steady_clock::now();  // the prompt's time is not its own
      text += r.text;
      if (!r.finish_reason) known += r.from_draft, made += 1;
    }
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!constraint.accepts()) continue;
    ended += 1;
    // Numbers are as long as the model likes; the parser here cannot hold all of them.
    EXPECT_TRUE(json::accept(std::regex_replace(text, std::regex("[0-9]{100,}"), "1"))) << schema << "\n" << text;
    if (out.is_open()) out << json{{"schema", i}, {"text", text}}.dump() << "\n";
  }
  EXPECT_EQ(ended, schemas) << "400 tokens are enough for each";
  std::cout << ended << " of " << schemas << " texts ended; " << made / seconds << " tokens per second, " << known
            << " of " << made << " known before they were computed" << std::endl;
}

TEST_F(Generation, constrained_text_is_led_to_its_end) {
  for (int most : {15, 20, 40}) {  // 14 are the fewest
    sample::Constraint constraint(
        grammar({.json_schema = R"({"type":"object","properties":{"story":{"type":"string"},"n":{"type":"integer"}},
                                   "required":["story","n"],"additionalProperties":false})"})
            .matcher());
    StepOptions options{.max_tokens = most, .sampler = sample::make_sampler({.temp = 1, .seed = 3})};
    options.constraint = &constraint;
    const auto text =
        generate(*loaded_->model, loaded_->tokenizer, encode("Tell me a long story."), std::move(options));
    EXPECT_TRUE(json::accept(text)) << text;
  }
}

// With drafts besides, and in a batch.
TEST_F(Generation, structure_goes_with_drafts_and_batches) {
  const auto list = grammar({.regex = R"((\d+, ){9}\d+)"});
  const auto prompt = encode("Count from 1 to 10: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10. Again!");
  const auto run = [&](Drafter* drafter) {
    sample::Constraint constraint(list.matcher());
    return tokens(prompt, {.max_tokens = 60, .drafter = drafter, .constraint = &constraint});
  };
  const auto plain = run(nullptr);
  NgramDrafter lookup;
  EXPECT_EQ(run(&lookup), plain);
  std::vector<BatchPrompt> prompts;
  for (int i = 0; i < 3; ++i) {
    prompts.push_back({prompt, {.max_tokens = 60}});
    if (i != 1) prompts.back().options.constraint = std::make_shared<sample::Constraint>(list.matcher());
  }
  const auto result = batch_generate(*loaded_->model, loaded_->tokenizer, std::move(prompts));
  EXPECT_EQ(result.answers[0].text, loaded_->tokenizer.decode(plain, true));
  EXPECT_EQ(result.answers[0].finish_reason, FinishReason::stop);
  EXPECT_EQ(result.answers[2].text, result.answers[0].text);
  EXPECT_EQ(result.answers[1].tokens, tokens(prompt, {.max_tokens = 60}));
}

}  // namespace
}  // namespace mlx_lm
