// The example as its reader would run it, on the default model.
#include <gtest/gtest.h>

#include "mlx_lm/load/get_model_path.h"

#include "tests/cli/program.h"

namespace {

TEST(Chat, RemembersWhatWasSaid) {
  Program program(MLX_LM_EXAMPLES "chat");
  program.input = "What is the capital of France?\nAnd what did I ask you about just now? Name the country.\n";
  const auto ended = program.run({mlx_lm::default_model_path().string()});
  EXPECT_EQ(ended.status, 0);
  EXPECT_TRUE(ended.out.starts_with("The capital of France is Paris.\n")) << ended.out;
  EXPECT_NE(ended.out.find("France", 32), std::string::npos) << ended.out;
  EXPECT_EQ(ended.err, "");
}

TEST(Chat, TellsHowToUseIt) {
  const auto ended = Program(MLX_LM_EXAMPLES "chat").run({});
  EXPECT_EQ(ended.status, 2);
  EXPECT_NE(ended.err.find("MODEL"), std::string::npos);
}

}  // namespace
