// How the program ends when it is interrupted or nobody takes what it writes.
#include <sys/stat.h>

#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/load/tiny_model.h"

namespace {

class InterruptTest : public testing::Test {
 protected:
  InterruptTest() {
    TinyModel model;
    // No end token, so that without a limit it never ends.
    model.config.erase("eos_token_id");
    model.tokenizer_config.erase("eos_token");
    model.write(folder_);
  }
  Program::Arguments endless(const Program::Arguments& more = {}) const {
    Program::Arguments all = {"generate", "--model", folder_.path().string(), "-m", "-1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Standard output that cannot be written: one line, status 1, and no waiting for an end that never comes.
  static void expect_unwritten(const Ended& ended) {
    EXPECT_EQ(ended.status, 1);
    EXPECT_EQ(ended.err, "mlx_lm: [generate] the answer could not be written to standard output\n");
  }

  TempFolder folder_;
};

TEST_F(InterruptTest, KeepsWhatWasGenerated) {
  Program program;
  program.start(endless());
  ASSERT_TRUE(program.has_written(30));
  program.signal(SIGINT);
  const auto ended = program.wait();
  EXPECT_EQ(ended.status, 130);
  EXPECT_EQ(ended.err, "");
  EXPECT_TRUE(ended.out.starts_with("==========\n"));
  for (const char* line : {"\n==========\nPrompt: ", "\nGeneration: ", "\nPeak memory: "}) {
    EXPECT_NE(ended.out.find(line), std::string::npos) << line;
  }
  EXPECT_TRUE(ended.out.ends_with(" GB\n"));
}

TEST_F(InterruptTest, WritesTheAnswerWithoutFiguresToo) {
  Program program;
  program.start(endless({"--verbose", "False"}));
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  program.signal(SIGINT);
  const auto ended = program.wait();
  EXPECT_EQ(ended.status, 130);
  EXPECT_TRUE(ended.out.empty() || ended.out.ends_with('\n'));
  EXPECT_EQ(ended.err, "");
}

TEST_F(InterruptTest, EndsAtOnceWhileThePromptIsRead) {
  const auto pipe = folder_.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int writer = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);  // a standard input that never ends
  ASSERT_GE(writer, 0);
  Program program;
  program.input_file = pipe;
  program.start(endless({"-p", "-"}));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  program.signal(SIGINT);
  EXPECT_EQ(program.wait().status, 128 + SIGINT);
  ::close(writer);
}

TEST_F(InterruptTest, StopsWhenTheDiskIsFull) {
  Program program;
  program.output = "/dev/full";
  expect_unwritten(program.run(endless()));
  expect_unwritten(program.run(endless({"-m", "4", "--verbose", "False"})));
}

TEST_F(InterruptTest, StopsWhenStandardOutputIsClosed) {
  Program program;
  program.closed = {1};
  expect_unwritten(program.run(endless()));
  program.closed = {0, 1};
  expect_unwritten(program.run(endless()));
  program.closed = {0, 1, 2};
  EXPECT_EQ(program.run(endless()).status, 1);
  program.closed = {0, 2};
  EXPECT_EQ(program.run(endless({"-m", "4"})).status, 0);
}

TEST_F(InterruptTest, StopsWhenThePipeBreaks) {
  auto broken = [] {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    ::close(ends[0]);
    return ends[1];
  };
  Program program;
  program.output_descriptor = broken();
  EXPECT_EQ(program.run(endless()).status, 128 + SIGPIPE);
  // As under a parent that ignores the signal.
  const auto old = ::signal(SIGPIPE, SIG_IGN);
  program.output_descriptor = broken();
  expect_unwritten(program.run(endless()));
  ::signal(SIGPIPE, old);
}

}  // namespace
