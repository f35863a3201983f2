// The example programs do what their first lines say.
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "mlx_lm/load/get_model_path.h"

namespace mlx_lm {
namespace {

struct Result {
  int status;
  std::string output;  // standard output and standard error
};

Result run(const std::string& arguments) {
  const auto program =
      std::filesystem::path(MLX_LM_PROGRAM).parent_path().parent_path() / "examples" / "example_stream";
  FILE* pipe = ::popen(("'" + program.string() + "' " + arguments + " 2>&1").c_str(), "r");
  if (!pipe) return {-1, "popen"};
  Result result{0, ""};
  char part[256];
  while (const size_t n = std::fread(part, 1, sizeof part, pipe)) result.output.append(part, n);
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

TEST(ExampleStream, streams_an_answer) {
  const auto result = run("'" + default_model_path().string() + "' 'What is the capital of France?'");
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.output.find("Paris"), std::string::npos) << result.output;
}

TEST(ExampleStream, says_what_is_wrong) {
  EXPECT_EQ(run("").status, 2);
  const auto result = run("./no/such/model hello");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(
      result.output,
      "[load] ./no/such/model: expected a model folder, a .gguf file or a Hugging Face repository, found nothing\n");
}

}  // namespace
}  // namespace mlx_lm
