#include "mlx_lm/cli/chat_file.h"

#include <sys/stat.h>

#include <fstream>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/input_history.h"

#include "tests/load/temp_folder.h"

namespace mlx_lm::cli {
namespace {

namespace fs = std::filesystem;

class ChatFile : public testing::Test {
 protected:
  std::string path(const char* name) const { return (folder_.path() / name).string(); }
  std::string error_of(const std::string& text) const {
    const auto file = folder_.write("bad.json", text).string();
    try {
      load_chat(file);
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("bad.json"), what.npos) << what;
      EXPECT_LT(what.size(), 400u);
      return what;
    }
    return "no error";
  }
  static SavedChat chat() {
    return {.model = "m",
            .system = "be",
            .turns = {{.message = "a\n\"é\"", .answer = "b", .reasoning = "hm"},
                      {.message = "c", .answer = "", .calls = {{.name = "f", .arguments = R"({"x":[1,2]})"}}}},
            .settings = {{"temp", 0.7}}};
  }
  static mode_t mode(const fs::path& file) {
    struct stat status {};
    EXPECT_EQ(::stat(file.c_str(), &status), 0);
    return status.st_mode & 0777;
  }

  TempFolder folder_;
};

TEST_F(ChatFile, comes_back_as_it_was) {
  save_chat(path("chat.json"), chat());
  const auto back = load_chat(path("chat.json"));
  EXPECT_EQ(back.model, "m");
  EXPECT_EQ(back.system, "be");
  EXPECT_EQ(back.turns, chat().turns);
  EXPECT_EQ(back.settings, chat().settings);
  EXPECT_EQ(mode(path("chat.json")), 0600u);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1) << "no other name is left";
  save_chat(path("chat.json"), {});
  EXPECT_TRUE(load_chat(path("chat.json")).turns.empty());
  EXPECT_EQ(load_chat(path("chat.json")).system, std::nullopt);
}

TEST_F(ChatFile, follows_links) {
  save_chat(path("chat.json"), chat());
  fs::create_symlink("chat.json", path("link"));
  save_chat(path("link"), {.model = "other"});
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(load_chat(path("chat.json")).model, "other");
}

TEST_F(ChatFile, replaces_no_other_file) {
  folder_.write("notes.txt", "mine");
  EXPECT_THROW(save_chat(path("notes.txt"), chat()), Error);
  std::string text;
  std::getline(std::ifstream(path("notes.txt")), text);
  EXPECT_EQ(text, "mine");
  EXPECT_THROW(save_chat(path("none/chat.json"), chat()), Error);
  EXPECT_THROW(save_chat(folder_.path().string(), chat()), Error);
}

TEST_F(ChatFile, refuses_broken_files) {
  EXPECT_THROW(load_chat(path("none")), Error);
  EXPECT_THROW(load_chat(folder_.path().string()), Error);
  EXPECT_THROW(load_chat("/dev/zero"), Error);
  const auto with = [&](const std::string& rest) { return error_of("{\"mlx_lm_chat\": 1, " + rest + "}"); };
  for (const auto& [text, part] : std::vector<std::pair<std::string, std::string>>{
           {error_of(""), "JSON"},
           {error_of("{"), "JSON"},
           {error_of("[]"), "expected a saved chat"},
           {error_of("{}"), "expected a saved chat"},
           {error_of(R"({"mlx_lm_chat": 2})"), "version 1"},
           {error_of(std::string(100'000, '[')), "nested"},
           {error_of("{\"mlx_lm_chat\": 1, \"messages\": [], \"system\": \"\xff\"}"), "JSON"},
           {with(R"("x": 1)"), "messages: expected a list"},
           {with(R"("messages": {})"), "messages: expected a list"},
           {with(R"("messages": [1])"), "messages[0]: expected an object, found 1"},
           {with(R"("messages": [{}])"), "messages[0].role: expected user"},
           {with(R"("messages": [{"role": "assistant", "content": "a"}])"), "expected user, found \"assistant\""},
           {with(R"("messages": [{"role": "user", "content": "a"}])"), "an answer"},
           {with(R"("messages": [{"role": "user", "content": ["a"]}])"), "messages[0].content: expected a text"},
           {with(R"("messages": [], "system": 1)"), "system: expected a text, found 1"},
           {with(R"("messages": [], "settings": [])"), "settings: expected an object"},
           {with(R"("messages": [{"role": "user"}, {"role": "assistant", "tool_calls": [1]}])"), "tool_calls"}}) {
    EXPECT_NE(text.find(part), text.npos) << text << " | " << part;
  }
}

TEST_F(ChatFile, takes_a_system_message_among_the_others) {
  folder_.write("chat.json", R"({"mlx_lm_chat": 1, "messages": [{"role": "system", "content": "be"},
      {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})");
  const auto chat = load_chat(path("chat.json"));
  EXPECT_EQ(chat.system, "be");
  EXPECT_EQ(chat.turns, (std::vector<ChatTurn>{{.message = "a", .answer = "b"}}));
}

TEST_F(ChatFile, history_is_private_and_lasts) {
  const auto file = folder_.path() / "state" / "mlx-lm.cpp" / "chat_history";
  {
    InputHistory history(file);
    for (const char* text : {"one", "two\nlines", "two\nlines", "é\x1b"}) history.add(text);
  }
  EXPECT_EQ(mode(file), 0600u);
  EXPECT_EQ(mode(file.parent_path()), 0700u);
  // Another session beside this one loses nothing.
  InputHistory a(file), b(file);
  a.add("a");
  b.add("b");
  const InputHistory history(file);
  EXPECT_EQ(history.entries(), (std::vector<std::string>{"one", "two\nlines", "é\x1b", "a", "b"}));
}

TEST_F(ChatFile, history_is_bounded) {
  const auto file = folder_.path() / "history";
  {
    std::ofstream out(file);
    out << "no json\n{\n5\n";
    for (int i = 0; i < 5000; ++i) out << '"' << i << "\"\n";
  }
  const InputHistory history(file);
  ASSERT_EQ(history.entries().size(), InputHistory::kMaxEntries);
  EXPECT_EQ(history.entries().back(), "4999");
  EXPECT_LT(fs::file_size(file), 8000u) << "shortened";
  {
    std::ofstream out(file);
    for (int i = 0; i < 10; ++i) out << '"' << std::string(1 << 20, char('a' + i)) << "\"\n";
  }
  EXPECT_EQ(InputHistory(file).entries().size(), 3u) << "of the last 4 MiB";
  EXPECT_LT(fs::file_size(file), InputHistory::kMaxBytes);
}

TEST_F(ChatFile, history_that_cannot_be_kept_is_no_error) {
  for (const auto& file : {fs::path(), fs::path("/proc/none/history"), folder_.path()}) {
    InputHistory history(file);
    history.add("one");
    EXPECT_EQ(history.entries().size(), 1u);
  }
}

}  // namespace
}  // namespace mlx_lm::cli
