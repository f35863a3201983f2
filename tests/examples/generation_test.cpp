// The examples of batches, structure and drafts as their readers would run them, on the default model.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/load/get_model_path.h"

#include "tests/cli/program.h"

namespace {

Ended run(const std::string& example, Program::Arguments arguments) {
  arguments.insert(arguments.begin(), mlx_lm::default_model_path().string());
  auto ended = Program(MLX_LM_EXAMPLES + example).run(arguments);
  EXPECT_EQ(ended.err, "");
  EXPECT_EQ(ended.status, 0);
  return ended;
}

TEST(BatchExample, AnswersAllPrompts) {
  const auto out = run("batch", {"What is the capital of France?", "What is 2 + 2?"}).out;
  EXPECT_TRUE(out.starts_with("What is the capital of France?\n  The capital of France is Paris.\nWhat is 2 + 2?\n  "))
      << out;
}

TEST(StructureExample, FulfilsTheSchema) {
  const auto schema = R"({"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
                          "additionalProperties": false})";
  const auto answer = nlohmann::json::parse(run("structure", {schema, "What is the capital of France?"}).out);
  EXPECT_EQ(answer, (nlohmann::json{{"city", "Paris"}}));
}

TEST(SpeculationExample, GuessesWhatIsRepeated) {
  const auto text = run("speculation", {"Repeat: one two three four five six seven eight nine ten."}).out;
  EXPECT_NE(text.find("two three four"), std::string::npos) << text;
  EXPECT_NE(text.find(" tokens were guessed\n"), std::string::npos) << text;
}

TEST(Examples, TellHowToUseThem) {
  for (const std::string example : {"batch", "structure", "speculation"}) {
    const auto ended = Program(MLX_LM_EXAMPLES + example).run({});
    EXPECT_EQ(ended.status, 2);
    EXPECT_NE(ended.err.find("MODEL"), std::string::npos);
  }
}

}  // namespace
