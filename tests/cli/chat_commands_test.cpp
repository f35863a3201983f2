#include "mlx_lm/cli/chat_commands.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/chat_settings.h"

namespace mlx_lm::cli {
namespace {

using Kind = ChatCommand::Kind;
using nlohmann::json;

template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const RequestError& error) {
    return error.what();
  }
  return "no error";
}

TEST(ChatCommands, knows_commands_from_messages) {
  EXPECT_EQ(parse_command("q")->kind, Kind::quit);
  EXPECT_EQ(parse_command(" r ")->kind, Kind::reset);
  EXPECT_EQ(parse_command("h")->kind, Kind::help);
  EXPECT_EQ(parse_command("/quit")->kind, Kind::quit);
  EXPECT_EQ(parse_command("  /undo  ")->kind, Kind::undo);
  const auto system = parse_command("/system  be kind\nand brief ");
  EXPECT_EQ(system->kind, Kind::system);
  EXPECT_EQ(system->argument, "be kind\nand brief");
  EXPECT_EQ(parse_command("/save a b.json")->argument, "a b.json");
  for (const char* message : {"Q", "quit", "q r", "hello", "a /undo", "/etc/passwd is what?", "//undo", "", " "}) {
    EXPECT_FALSE(parse_command(message)) << message;
  }
  EXPECT_EQ(to_message("//undo"), "/undo");
  EXPECT_EQ(to_message("/etc/x"), "/etc/x");
}

TEST(ChatCommands, refuses_others) {
  EXPECT_NE(error_of([] { parse_command("/retyr"); }).find("found /retyr; did you mean /retry?"), std::string::npos);
  EXPECT_NE(error_of([] { parse_command("/"); }).find("did you mean"), std::string::npos);
  EXPECT_EQ(error_of([] { parse_command("/save"); }), "[chat] /save: expected FILE, found nothing");
  EXPECT_EQ(error_of([] { parse_command("/undo 2"); }), "[chat] /undo: expected nothing after it, found '2'");
  EXPECT_LT(error_of([] { parse_command("/" + std::string(1'000'000, 'x')); }).size(), 400u);
}

TEST(ChatCommands, completes) {
  EXPECT_EQ(complete_command("/re"), (std::vector<std::string>{"/reset", "/retry"}));
  EXPECT_EQ(complete_command("/sy"), std::vector<std::string>{"/system "});
  EXPECT_EQ(complete_command("/set te"), std::vector<std::string>{"/set temp "});
  EXPECT_TRUE(complete_command("he").empty());
  EXPECT_TRUE(complete_command("").empty());
}

TEST(ChatSettings, sets_and_shows) {
  ChatSettings s;
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"temp", "0.7"},
                                                                                    {"top-p", "0.9"},
                                                                                    {"top-k", "40"},
                                                                                    {"min-p", "0.05"},
                                                                                    {"seed", "7"},
                                                                                    {"max-tokens", "-1"},
                                                                                    {"xtc-threshold", "0.2"},
                                                                                    {"seed", "none"},
                                                                                    {"repetition-penalty", "1.1"},
                                                                                    {"presence-penalty", "-1"},
                                                                                    {"frequency-context-size", "0"}}) {
    s.set(name, value);
    EXPECT_EQ(s.get(name), value);
  }
  EXPECT_EQ(s.sampler.temp, 0.7f);
  EXPECT_EQ(s.sampler.seed, std::nullopt);
  EXPECT_EQ(s.penalties.presence_penalty, -1.f);
}

TEST(ChatSettings, refuses_and_changes_nothing) {
  ChatSettings s;
  const auto before = s.to_json();
  EXPECT_NE(error_of([&] { s.set("tmep", "1"); }).find("found tmep; did you mean temp?"), std::string::npos);
  EXPECT_NE(error_of([&] { s.get("top_p"); }).find("did you mean top-p?"), std::string::npos);
  EXPECT_EQ(error_of([&] { s.set("temp", "hot"); }), "[chat] temp: expected a number, found 'hot'");
  EXPECT_EQ(error_of([&] { s.set("top-k", "1.5"); }), "[chat] top-k: expected a whole number, found '1.5'");
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"temp", "nan"},
                                                                                    {"temp", "-1"},
                                                                                    {"temp", ""},
                                                                                    {"temp", "1 2"},
                                                                                    {"max-tokens", "0"},
                                                                                    {"max-tokens", "-2"},
                                                                                    {"max-tokens", "9e9"},
                                                                                    {"seed", "-1"},
                                                                                    {"top-k", "-1"},
                                                                                    {"min-p", "2"},
                                                                                    {"seed", "99999999999999999999"}}) {
    EXPECT_NE(error_of([&] { s.set(name, value); }), "no error") << name << " " << value;
  }
  EXPECT_EQ(s.to_json(), before);
}

TEST(ChatSettings, goes_through_json) {
  ChatSettings s;
  s.set("temp", "0.7");
  s.set("seed", "18446744073709551615");
  const auto values = s.to_json();
  EXPECT_EQ(values["temp"].dump(), "0.7");
  ChatSettings other;
  other.set_all(json::parse(values.dump()));
  EXPECT_EQ(other.to_json(), values);
  other.set_all(json{{"top-k", 3}});
  EXPECT_EQ(other.get("temp"), "0.7");
  const auto before = other.to_json();
  for (const auto& bad : {json{{"temp", "0.7"}}, json{{"temp", 1}, {"tmep", 2}}, json{{"top-k", 1.5}},
                          json{{"temp", nullptr}}, json{{"max-tokens", 0}}}) {
    EXPECT_THROW(other.set_all(bad), RequestError) << bad;
    EXPECT_EQ(other.to_json(), before);
  }
}

}  // namespace
}  // namespace mlx_lm::cli
