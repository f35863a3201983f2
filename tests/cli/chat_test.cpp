// mlx_lm chat on a tiny random model: through pipes, and at a pseudo-terminal.
#include <fstream>
#include <regex>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "tests/cli/terminal.h"
#include "tests/generate/thinking_model.h"

namespace {

using Arguments = Program::Arguments;
using nlohmann::json;

class ChatTest : public testing::Test {
 protected:
  ChatTest() {
    TinyModel model;
    model.config["max_position_embeddings"] = 1'000'000;
    // No end token: answers have the length that is asked for, or no end.
    model.config.erase("eos_token_id");
    model.tokenizer_config.erase("eos_token");
    model.write(folder_, "model");
  }

  Arguments with_model(const Arguments& more) const {
    Arguments all = {"chat", "--model", (folder_.path() / "model").string()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string file(const char* name) const { return (folder_.path() / name).string(); }
  json read(const char* name) const { return json::parse(std::ifstream(file(name))); }

  Ended pipe(const std::string& input, const Arguments& more = {"-m", "8"}) const {
    Program program;
    program.input = input;
    return program.run(with_model(more));
  }
  // What the model answers, by the file that it is saved to.
  std::vector<std::string> answers(const std::string& input, const Arguments& more = {"-m", "8"}) const {
    std::filesystem::remove(file("answers.json"));
    const auto ended = pipe(input + "/save " + file("answers.json") + "\n", more);
    EXPECT_EQ(ended.status, 0) << ended.err;
    std::vector<std::string> out;
    const auto saved = read("answers.json");
    for (const auto& message : saved["messages"]) {
      if (message["role"] == "assistant") out.push_back(message["content"]);
    }
    return out;
  }
  // Status 1 and one line on standard error.
  std::string refused(const std::string& input, const Arguments& more = {"-m", "8"}) const {
    const auto ended = pipe(input, more);
    EXPECT_EQ(ended.status, 1) << input;
    EXPECT_TRUE(ended.err.starts_with("mlx_lm: [")) << ended.err;
    EXPECT_EQ(ended.err.find('\n'), ended.err.size() - 1) << ended.err;
    return ended.err;
  }

  Terminal at_terminal(const Arguments& more = {"-m", "8"}) const {
    return Terminal(MLX_LM_PROGRAM, with_model(more),
                    {"TERM=xterm-256color", "HF_HUB_OFFLINE=1", "XDG_STATE_HOME=" + file("state"), "LC_ALL=C.UTF-8",
                     "HOME=" + folder_.path().string()});
  }

  TempFolder folder_;
};

TEST_F(ChatTest, AnswersALineAMessage) {
  const auto ended = pipe("hello\n\n  \nmore\r\nlast");
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.err, "");
  EXPECT_EQ(ended.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(ended.out.find("tok/s"), std::string::npos);
  const auto said = answers("hello\nmore\nlast\n");
  ASSERT_EQ(said.size(), 3u);
  for (const auto& answer : said) EXPECT_EQ(answer.size(), 8u);
  EXPECT_EQ(pipe("").out, "");
  EXPECT_EQ(pipe("").status, 0);
}

TEST_F(ChatTest, TakesBackAndAnswersAnew) {
  const auto one = answers("a\n"), two = answers("a\nb\n");
  EXPECT_EQ(answers("a\nb\n/undo\n"), one);
  EXPECT_EQ(answers("a\nb\n/undo\nb\n"), two);
  EXPECT_EQ(answers("x\nr\na\nb\n"), two);
  EXPECT_EQ(answers("x\n/reset\na\nb\n"), two);
  EXPECT_EQ(answers("a\nb\n/retry\n"), two);
  EXPECT_EQ(answers("a\n/set max-tokens 3\n/retry\n")[0], one[0].substr(0, 3));
  EXPECT_EQ(answers("//a\n", {"-m", "8"}).size(), 1u) << "a message that begins with a slash";
  const auto drawn = answers("/set temp 1\na\n");
  EXPECT_NE(drawn, one);
  EXPECT_EQ(answers("/set temp 1\na\n"), drawn) << "the seed is 0 if nobody says another";
  EXPECT_EQ(answers("a\n", {"-m", "8", "--temp", "1"}), drawn);
  EXPECT_NE(answers("/set temp 1\na\n/retry\n"), drawn) << "the random numbers go on";
  EXPECT_NE(answers("/set temp 1\n/set seed 5\na\n"), drawn);
}

TEST_F(ChatTest, KeepsTheSystemMessage) {
  const auto with = answers("a\nb\n", {"-m", "8", "--system-prompt", "be"});
  EXPECT_NE(with, answers("a\nb\n"));
  EXPECT_EQ(answers("/system be\na\nb\n"), with);
  EXPECT_EQ(answers("x\n/reset\na\nb\n", {"-m", "8", "--system-prompt", "be"}), with);
  EXPECT_EQ(answers("/system off\na\nb\n", {"-m", "8", "--system-prompt", "be"}), answers("a\nb\n"));
}

TEST_F(ChatTest, EndsAtQuit) {
  for (const char* quit : {"q", "/quit", " q "}) {
    const auto ended = pipe(std::string(quit) + "\nhello\n");
    EXPECT_EQ(ended.status, 0);
    EXPECT_EQ(ended.out, "");
  }
}

TEST_F(ChatTest, SavesAndLoads) {
  const auto three = answers("a\nb\nc\n");
  EXPECT_EQ(pipe("/system be\n/set temp 0.5\na\nb\n/save " + file("chat.json") + "\n").status, 0);
  const auto saved = read("chat.json");
  EXPECT_EQ(saved["system"], "be");
  EXPECT_EQ(saved["settings"]["temp"], 0.5);
  EXPECT_EQ(saved["messages"].size(), 4u);
  EXPECT_EQ(answers("/load " + file("chat.json") + "\n/system off\n/set temp 0\n/undo\n/undo\na\nb\nc\n"), three);
  EXPECT_EQ(answers("/load " + file("chat.json") + "\n").size(), 2u);
}

TEST_F(ChatTest, FailsInOneLine) {
  folder_.write("bad.json", "{\x1b[31m\n");
  EXPECT_NE(refused("/load " + file("bad.json") + "\nhello\n").find("bad.json"), std::string::npos);
  refused("/load " + file("none.json") + "\n");
  refused("/save /none/chat.json\n");
  EXPECT_NE(refused("/sett temp 1\n").find("did you mean /set?"), std::string::npos);
  EXPECT_NE(refused("/set tmep 1\n").find("did you mean temp?"), std::string::npos);
  refused("/set temp hot\n");
  refused("/retry\n");
  refused("\xff\n");
  refused("hello\n", {"-m", "0"});
  refused("hello\n", {"--max-kv-size", "-1"});
  refused("hello\n", {"--chat-template-config", "[]"});
  EXPECT_NE(refused(std::string(2000, 'x') + "\n", {"--max-kv-size", "1000"}).find("[chat] context: "),
            std::string::npos);
  EXPECT_EQ(pipe("", {"--temp", "hot"}).status, 2);
}

TEST_F(ChatTest, GoesOnWithoutTheOldestTurns) {
  const auto ended = pipe("aaaaaaaaaa\nbbbbbbbbbb\ncccccccccc\ndddddddddd\n", {"-m", "8", "--max-kv-size", "128"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_NE(ended.err.find("mlx_lm: the context is full: going on without the oldest "), std::string::npos);
}

// Hot enough, the model writes every byte there is.
TEST_F(ChatTest, LetsNoControlCharacterThrough) {
  const std::string input = "/set temp 4\na\n/save " + file("chat.json") + "\n";
  const auto ended = pipe(input, {"-m", "600"});
  const auto saved = read("chat.json");
  const std::string answer = saved.at("messages").at(1).at("content");
  ASSERT_NE(answer.find('\x1b'), answer.npos);
  ASSERT_NE(answer.find('\x07'), answer.npos);
  EXPECT_NE(ended.out.find("␛"), std::string::npos);
  for (char c : ended.out)
    EXPECT_FALSE(std::iscntrl(static_cast<unsigned char>(c)) && c != '\n' && c != '\t') << int(c);

  auto t = at_terminal({"-m", "600", "--temp", "4"});
  ASSERT_TRUE(t.shows("› "));
  t.type("a\r");
  ASSERT_TRUE(t.shows("600 tokens"));
  ASSERT_TRUE(t.shows("› "));
  t.type("\x04");
  EXPECT_EQ(t.wait(), 0);
  auto shown = std::regex_replace(t.shown(), std::regex("\x1b\\[[0-9;?]*[mhlKJ]"), "");
  shown = shown.substr(0, shown.rfind("600 tokens"));
  EXPECT_NE(shown.find("␛"), shown.npos);
  EXPECT_EQ(shown.find_first_of("\x1b\x07\b\x0e\x0f"), shown.npos);
}

TEST_F(ChatTest, TellsReasoningFromAnswers) {
  auto model = thinking_model("<think>");
  model.config.erase("eos_token_id");
  model.tokenizer_config.erase("eos_token");
  model.write(folder_, "model");
  const auto ended = pipe("hello\n/save " + file("chat.json") + "\n");
  EXPECT_EQ(ended.out, "\n") << "no answer yet";
  EXPECT_EQ(ended.err, "mlx_lm: the answer ended in the middle of its reasoning\n");
  const auto saved = read("chat.json");
  const std::string reasoning = saved.at("messages").at(1).at("reasoning_content");
  EXPECT_EQ(reasoning.size(), 8u);
  auto t = at_terminal();
  ASSERT_TRUE(t.shows("› "));
  t.type("hello\r");
  ASSERT_TRUE(t.shows("\x1b[?2004l\x1b[0;2m")) << "dim from its first letter: " << t.shown();
  ASSERT_TRUE(t.shows("8 tokens"));
}

TEST_F(ChatTest, StopsAtCtrlC) {
  Program program;
  program.input = "hello\nmore\n";
  program.environment = {"MLX_LM_THREADS=1"};
  program.start(with_model({"-m", "-1"}));
  ASSERT_TRUE(program.has_written(30));
  program.signal(SIGINT);
  const auto ended = program.wait();
  EXPECT_EQ(ended.status, 130);
  EXPECT_TRUE(ended.out.ends_with('\n'));
}

TEST_F(ChatTest, StopsWhenNobodyReads) {
  Program program;
  program.input = "hello\n";
  program.output = "/dev/full";
  const auto ended = program.run(with_model({"-m", "-1"}));
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(ended.err, "mlx_lm: [chat] the answer could not be written to standard output\n");
}

TEST_F(ChatTest, TalksAtATerminal) {
  auto t = at_terminal();
  ASSERT_TRUE(t.shows("mlx_lm.chat  ")) << t.shown();
  ASSERT_TRUE(t.shows("max tokens 8 · context 1000000 tokens"));
  ASSERT_TRUE(t.shows("› "));
  t.type("hello\r");
  ASSERT_TRUE(t.shows("8 tokens · ")) << t.shown();
  ASSERT_TRUE(t.shows(" tok/s · prompt "));
  ASSERT_TRUE(t.shows(" GB · cut at max-tokens")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("/stats\r");
  ASSERT_TRUE(t.shows("1 turn, 31 tokens in the context of 1000000 (0 %)")) << t.shown();
  ASSERT_TRUE(t.shows("last prompt: 23 tokens computed, 0 there already"));
  t.type("q\r");
  ASSERT_TRUE(t.shows("bye"));
  EXPECT_EQ(t.wait(), 0);
}

TEST_F(ChatTest, CtrlCStopsTheAnswerAndNotTheProgram) {
  auto t = at_terminal({"-m", "-1"});
  ASSERT_TRUE(t.shows("› "));
  t.type("hello\r");
  ASSERT_TRUE(t.shows("hello\r\n") && t.shows_more(100));
  t.type("\x03");
  ASSERT_TRUE(t.shows(" · stopped")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  // It goes on as if nothing had happened.
  t.type("/set max-tokens 4\r");
  ASSERT_TRUE(t.shows("max-tokens 4") && t.shows("max-tokens 4"));  // typed, and answered
  ASSERT_TRUE(t.shows("› "));
  t.type("more\r");
  ASSERT_TRUE(t.shows("4 tokens · "));
  ASSERT_TRUE(t.shows("› "));
  // At the prompt it drops the line, then says how to end, then ends.
  t.type("/nothing");
  ASSERT_TRUE(t.shows("/nothing"));
  t.type("\x03");
  ASSERT_TRUE(t.shows("› ")) << t.shown();
  t.type("\x03");
  ASSERT_TRUE(t.shows("Ctrl-C again, or Ctrl-D, ends the chat")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("\x03");
  ASSERT_TRUE(t.shows("bye"));
  EXPECT_EQ(t.wait(), 0);
}

TEST_F(ChatTest, ASecondCtrlCAfterAnAnswerEnds) {
  auto t = at_terminal({"-m", "-1"});
  ASSERT_TRUE(t.shows("› "));
  t.type("hello\r");
  ASSERT_TRUE(t.shows("hello\r\n") && t.shows_more(100));
  t.type("\x03");
  ASSERT_TRUE(t.shows(" · stopped"));
  ASSERT_TRUE(t.shows("› "));
  t.type("\x03");
  ASSERT_TRUE(t.shows("bye"));
  EXPECT_EQ(t.wait(), 0);
}

TEST_F(ChatTest, EndsAtCtrlD) {
  auto t = at_terminal();
  ASSERT_TRUE(t.shows("› "));
  t.type("\x04");
  ASSERT_TRUE(t.shows("bye"));
  EXPECT_EQ(t.wait(), 0);
}

TEST_F(ChatTest, ReadsSeveralLines) {
  auto t = at_terminal();
  ASSERT_TRUE(t.shows("› "));
  t.type("one\\\r");
  ASSERT_TRUE(t.shows("… ")) << t.shown();
  t.type("two\r");
  ASSERT_TRUE(t.shows("8 tokens")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("\"\"\"three\r");
  ASSERT_TRUE(t.shows("… "));
  t.type("\r");
  ASSERT_TRUE(t.shows("… "));
  t.type("four\"\"\"\r");
  ASSERT_TRUE(t.shows("8 tokens"));
  ASSERT_TRUE(t.shows("› "));
  t.type("\x1b[200~five\rsix\x1b[31m\n\x1b[201~");
  t.type("seven\r");
  ASSERT_TRUE(t.shows("8 tokens")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("eight\x1b\rnine\r");
  ASSERT_TRUE(t.shows("8 tokens")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("é漢🙂\r");
  ASSERT_TRUE(t.shows("8 tokens"));
  ASSERT_TRUE(t.shows("› "));
  t.type("/sa\t" + file("chat.json") + "\r");
  ASSERT_TRUE(t.shows("5 turns saved")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("\x04");
  EXPECT_EQ(t.wait(), 0);
  std::vector<std::string> messages;
  const auto saved = read("chat.json");
  for (const auto& message : saved["messages"]) {
    if (message["role"] == "user") messages.push_back(message["content"]);
  }
  EXPECT_EQ(messages, (std::vector<std::string>{"one\ntwo", "three\n\nfour", "five\nsix[31m\nseven", "eight\nnine",
                                                "é漢🙂"}));
}

TEST_F(ChatTest, RemembersWhatWasTyped) {
  {
    auto t = at_terminal();
    ASSERT_TRUE(t.shows("› "));
    t.type("/set top-k 5\r");
    ASSERT_TRUE(t.shows("top-k 5") && t.shows("top-k 5"));  // typed, and answered
    t.type("q\r");
    EXPECT_EQ(t.wait(), 0);
  }
  auto t = at_terminal();
  ASSERT_TRUE(t.shows("› "));
  t.type("\x1b[A\x1b[A\r");  // up: q, then the setting
  ASSERT_TRUE(t.shows("/set top-k 5") && t.shows("top-k 5")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("\x04");
  EXPECT_EQ(t.wait(), 0);
  const auto status = std::filesystem::status(file("state/mlx-lm.cpp/chat_history")).permissions();
  EXPECT_EQ(status, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(ChatTest, AsksWhenTheContextIsFull) {
  auto t = at_terminal({"-m", "8", "--max-kv-size", "105"});
  for (const char* message : {"aaaaaaaaaa", "bbbbbbbbbb"}) {
    ASSERT_TRUE(t.shows("› "));
    t.type(std::string(message) + "\r");
    ASSERT_TRUE(t.shows("8 tokens · ")) << t.shown();
  }
  ASSERT_TRUE(t.shows("› "));
  t.type("cccccccccc\r");
  ASSERT_TRUE(t.shows("[chat] context: ")) << t.shown();
  ASSERT_TRUE(t.shows("/drop goes on without the oldest turns, /undo takes the last one back, /reset starts anew"));
  t.type("/drop\r");
  ASSERT_TRUE(t.shows("without the oldest 1 turn:")) << t.shown();
  ASSERT_TRUE(t.shows("8 tokens · "));
  t.type("/stats\r");
  ASSERT_TRUE(t.shows("2 turns"));
  ASSERT_TRUE(t.shows("› "));
  t.type("\x04");
  EXPECT_EQ(t.wait(), 0);
}

TEST_F(ChatTest, AnErrorIsALineAndTheChatGoesOn) {
  folder_.write("bad.json", "{\x1b[31m\n");
  auto t = at_terminal();
  ASSERT_TRUE(t.shows("› "));
  t.type("/load ~/bad.json\r");
  ASSERT_TRUE(t.shows("[config] ")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("/tmep\r");
  ASSERT_TRUE(t.shows("found /tmep; did you mean /")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("/help\r");
  ASSERT_TRUE(t.shows("/retry")) << t.shown();
  ASSERT_TRUE(t.shows("› "));
  t.type("\x04");
  EXPECT_EQ(t.wait(), 0);
  EXPECT_EQ(t.shown().find("\x1b[31m"), std::string::npos);
}

}  // namespace
