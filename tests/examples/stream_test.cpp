// The example as its reader would run it, on the default model.
#include <gtest/gtest.h>

#include "mlx_lm/load/get_model_path.h"

#include "tests/cli/program.h"

namespace {

TEST(Stream, AnswersAQuestion) {
  const auto ended =
      Program(MLX_LM_EXAMPLES "stream").run({mlx_lm::default_model_path().string(), "What is the capital of France?"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.out, "The capital of France is Paris.\n");
  EXPECT_EQ(ended.err, "");
}

TEST(Stream, TellsHowToUseIt) {
  for (const Program::Arguments& arguments : {Program::Arguments{}, {"model"}, {"model", "prompt", "more"}}) {
    const auto ended = Program(MLX_LM_EXAMPLES "stream").run(arguments);
    EXPECT_EQ(ended.status, 2);
    EXPECT_NE(ended.err.find("MODEL PROMPT"), std::string::npos);
  }
}

TEST(Stream, FailsInOneLine) {
  const auto ended = Program(MLX_LM_EXAMPLES "stream").run({"./nothing", "hello"});
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(ended.err.find('\n'), ended.err.size() - 1);
}

}  // namespace
