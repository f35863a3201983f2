// mlx_lm generate on a tiny random model, whose tokens are bytes: the number of prompt tokens tells what was encoded.
#include <fstream>
#include <regex>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/load/tiny_model.h"

namespace {

using Arguments = Program::Arguments;
using nlohmann::json;

const std::string kFigures =
    R"(Prompt: \d+ tokens, \d+\.\d{3} tokens-per-sec
Generation: \d+ tokens, \d+\.\d{3} tokens-per-sec
Peak memory: \d+\.\d{3} GB
)";

class GenerateTest : public testing::Test {
 protected:
  GenerateTest() { TinyModel().write(folder_); }

  Arguments with_model(const Arguments& more) const {
    Arguments all = {"generate", "--model", folder_.path().string(), "-m", "8"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Ended run(const Arguments& more, const std::string& input = "") const {
    Program program;
    program.input = input;
    return program.run(with_model(more));
  }

  // The answer alone.
  std::string answer(Arguments more) const {
    more.insert(more.end(), {"--verbose", "False"});
    const auto ended = run(more);
    EXPECT_EQ(ended.status, 0) << ended.err;
    EXPECT_EQ(ended.err, "");
    EXPECT_TRUE(ended.out.ends_with('\n'));
    return ended.out;
  }
  static int figure(const Ended& ended, const std::string& name) {
    std::smatch found;
    if (!std::regex_search(ended.out, found, std::regex(name + R"(: (\d+) tokens)"))) return -1;
    return std::stoi(found[1]);
  }
  int prompt_tokens(const Arguments& more, const std::string& input = "") const {
    const auto ended = run(more, input);
    EXPECT_EQ(ended.status, 0) << ended.err;
    return figure(ended, "Prompt");
  }

  // Status 1, one line on standard error that begins with the program's name, nothing on standard output.
  std::string refused(const Arguments& more, const std::string& input = "") const {
    const auto ended = run(more, input);
    EXPECT_EQ(ended.status, 1);
    EXPECT_EQ(ended.out, "");
    EXPECT_TRUE(ended.err.starts_with("mlx_lm: [")) << ended.err;
    EXPECT_EQ(ended.err.find('\n'), ended.err.size() - 1) << ended.err;
    for (char c : ended.err.substr(0, ended.err.size() - 1)) EXPECT_FALSE(std::iscntrl(static_cast<unsigned char>(c)));
    return ended.err;
  }

  TempFolder folder_;
};

TEST_F(GenerateTest, WritesWhatMlxLmWrites) {
  const auto ended = run({"-p", "hello"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.err, "");
  const auto text = answer({"-p", "hello"});
  const std::string rule = "==========\n", start = rule + text + rule;
  ASSERT_TRUE(ended.out.starts_with(start)) << ended.out;
  EXPECT_TRUE(std::regex_match(ended.out.substr(start.size()), std::regex(kFigures))) << ended.out;
  EXPECT_EQ(figure(ended, "Generation"), 8);
  EXPECT_EQ(run({"-p", "hello", "--verbose", "True"}).out.substr(0, start.size()), start);
  for (const char* no : {"false", "F", "f", "FALSE"}) EXPECT_EQ(run({"-p", "hello", "--verbose", no}).out, text) << no;
  for (const char* yes : {"0", "no", ""}) EXPECT_TRUE(run({"-p", "hello", "--verbose", yes}).out.starts_with(start));
}

TEST_F(GenerateTest, TakesThreadsAndActivations) {
  const auto text = answer({});
  for (const char* number : {"1", "3", "256"}) EXPECT_EQ(answer({"--threads", number}), text) << number;
  for (const char* kind : {"int8", "int16", "float"}) EXPECT_EQ(answer({"--cpu-activations", kind}), text) << kind;
  for (const char* bad : {"0", "-1", "257"}) {
    EXPECT_NE(refused({"--threads", bad}).find("[cpu] threads: expected a whole number from 1 to 256"),
              std::string::npos);
  }
}

TEST_F(GenerateTest, TakesAnAdapter) {
  TinyModel tensors;
  tensors.tensors.clear();
  tensors.add_matrix("model.layers.1.mlp.down_proj.lora_a", 48, 4);
  tensors.add_matrix("model.layers.1.mlp.down_proj.lora_b", 4, 32);
  folder_.write("adapter/adapters.safetensors", tensors.safetensors());
  const auto with_scale = [&](float scale) {
    folder_.write("adapter/adapter_config.json",
                  json{{"num_layers", 1}, {"lora_parameters", {{"rank", 4}, {"scale", scale}}}}.dump());
    return answer({"--adapter-path", (folder_.path() / "adapter").string()});
  };
  EXPECT_EQ(with_scale(0), answer({}));
  EXPECT_NE(with_scale(100), answer({}));
  EXPECT_EQ(refused({"--adapter-path", "/no/such/folder"}),
            "mlx_lm: [adapters] /no/such/folder: expected a folder with adapter_config.json, found nothing\n");
}

TEST_F(GenerateTest, SaysSoWhenThereIsNoText) {
  Arguments all = {"--extra-eos-token"};
  for (int id = 0; id < 258; ++id) all.push_back(std::to_string(id));
  const auto ended = run(all);
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.out, "==========\n\n==========\nNo text generated for this prompt\n");
  all.insert(all.end(), {"--verbose", "F"});
  EXPECT_EQ(run(all).out, "\n");
}

TEST_F(GenerateTest, EncodesThePrompt) {
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template"}), 5);  // hello
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "--prompt", "abc"}), 3);
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "--prompt=abc"}), 3);
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "-p", R"(a\nb\tc\\n)"}),
            7);  // the last n's backslash is not alone
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "-p", "é🙂"}), 6);
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "-p", "<start>a<end>"}), 3);
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "-p", "--temp"}), 6);
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "-p", "a", "-p", "ab"}), 2);
  // Standard input as it is, with its line end.
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "-p", "-"}, "a\\nb\n"), 5);
  EXPECT_EQ(prompt_tokens({"--ignore-chat-template", "-p", "-"}, std::string("a\0b", 3)), 3);
}

TEST_F(GenerateTest, AppliesTheChatTemplate) {
  const int user = 1 + 5 + 2 + 1, assistant = 1 + 10;  // "<start>user:hi\n", "<start>assistant:"
  EXPECT_EQ(prompt_tokens({"-p", "hi"}), user + assistant);
  EXPECT_EQ(prompt_tokens({"-p", "hi", "--system-prompt", "be"}), 1 + 7 + 2 + 1 + user + assistant);
  EXPECT_EQ(prompt_tokens({"-p", "hi", "--system-prompt", ""}), 1 + 7 + 1 + user + assistant);
  EXPECT_EQ(prompt_tokens({"-p", "hi", "--prefill-response", "Well"}), user + assistant + 4);
  EXPECT_EQ(prompt_tokens({"-p", "hi", "--chat-template-config", R"({"mood": "glad"})"}), user + 4 + assistant);
  EXPECT_EQ(prompt_tokens({"-p", "hi", "--chat-template-config", "{}"}), user + assistant);
  // All of that is nothing without a template.
  EXPECT_EQ(prompt_tokens({"-p", "hi", "--system-prompt", "be", "--prefill-response", "x", "--ignore-chat-template"}),
            2);
}

TEST_F(GenerateTest, EndsWhereItIsTold) {
  for (int n : {1, 2, 30}) {
    EXPECT_EQ(figure(run({"-m", std::to_string(n)}), "Generation"), n);
    EXPECT_EQ(figure(run({"--max-tokens", std::to_string(n)}), "Generation"), n);
  }
  EXPECT_TRUE(answer({"-m", "30"}).starts_with(answer({}).substr(0, 4)));
  EXPECT_EQ(run({"--extra-eos-token", "<start>", "<end>", "99999999", "-7"}).status, 0);
}

TEST_F(GenerateTest, Samples) {
  const Arguments drawn = {"--temp", "1", "--seed", "7", "-m", "30"};
  const auto greedy = answer({"-m", "30"}), text = answer(drawn);
  EXPECT_EQ(answer(drawn), text);
  EXPECT_NE(text, greedy);
  EXPECT_NE(answer({"--temp", "1", "--seed", "8", "-m", "30"}), text);
  EXPECT_EQ(answer({"--temp", "0", "--seed", "8", "-m", "30"}), greedy);
  for (const Arguments& sure : {Arguments{"--top-k", "1"}, {"--top-p", "0.000001"}, {"--min-p", "1"}}) {
    Arguments all = {"--temp", "1", "-m", "30"};
    all.insert(all.end(), sure.begin(), sure.end());
    EXPECT_EQ(answer(all), greedy) << sure[0];
  }
  EXPECT_NE(answer({"--temp", "1", "--seed", "7", "-m", "30", "--min-p", "1", "--min-tokens-to-keep", "200"}), greedy);
  answer(
      {"--temp", "1", "--xtc-probability", "1", "--xtc-threshold", "0", "--extra-eos-token", "99999999", "-99999999"});
}

TEST_F(GenerateTest, PenalizesAndBiases) {
  const auto greedy = answer({"-m", "30"});
  EXPECT_EQ(answer({"-m", "30", "--logit-bias", R"({"65": 1000})"}), std::string(30, 'A') + "\n");
  EXPECT_EQ(answer({"-m", "30", "--logit-bias", "{}"}), greedy);
  // A greedy text that never has the same byte twice, and one that goes on as before.
  auto distinct =
      answer({"-m", "30", "--presence-penalty", "1e6", "--presence-context-size", "0", "--ignore-chat-template"});
  EXPECT_NE(distinct, greedy);
  EXPECT_EQ(answer({"-m", "30", "--repetition-penalty", "1"}), greedy);
  for (const char* name : {"--repetition-penalty", "--presence-penalty", "--frequency-penalty"}) {
    EXPECT_EQ(answer({"-m", "30", name, "0"}), greedy) << name;
    EXPECT_NE(answer({"-m", "30", name, "1000"}), greedy) << name;
  }
}

TEST_F(GenerateTest, RefusesSamplingFlags) {
  for (const Arguments& bad : {Arguments{"--repetition-penalty", "-1"},
                               {"--repetition-penalty", "nan"},
                               {"--presence-penalty", "inf"},
                               {"--frequency-penalty", "nan"},
                               {"--repetition-context-size", "-1"},
                               {"--presence-context-size", "-2"},
                               {"--frequency-context-size", "-3"},
                               {"--logit-bias", "[1]"},
                               {"--logit-bias", "{"},
                               {"--logit-bias", "{\"a\": 1}"},
                               {"--logit-bias", "{\"1x\": 1}"},
                               {"--logit-bias", "{\"\": 1}"},
                               {"--logit-bias", "{\"-1\": 1}"},
                               {"--logit-bias", "{\"99999999999\": 1}"},
                               {"--logit-bias", "{\"1\": \"2\"}"},
                               {"--logit-bias", "{\"1\": null}"},
                               {"--logit-bias", "{\"1\": 1e39}"},
                               {"--logit-bias", "{\"100000\": 1}"}}) {
    const auto error = refused(bad);
    EXPECT_NE(error.find(bad[0].substr(2)), error.npos) << bad[1] << ": " << error;
  }
  for (const char* seed : {"-1", "-0", "x", "", "1.5", "18446744073709551616"}) {
    const auto ended = run({"--seed", seed});
    EXPECT_EQ(ended.status, 2) << seed;
    EXPECT_NE(ended.err.find("--seed"), std::string::npos) << ended.err;
  }
  EXPECT_EQ(run({"--seed", "18446744073709551615"}).status, 0);
}

TEST_F(GenerateTest, BoundsTheCacheAndTheStep) {
  const std::string prompt(300, 'x');
  const auto greedy = answer({"-p", prompt});
  for (const char* size : {"1", "7", "299", "2147483647"}) {
    EXPECT_EQ(answer({"-p", prompt, "--prefill-step-size", size}), greedy) << size;
  }
  EXPECT_EQ(answer({"-p", prompt, "--max-kv-size", "2147483647"}), greedy);
  for (const char* size : {"5", "6", "64"}) answer({"-p", prompt, "--max-kv-size", size, "-m", "100"});
}

TEST_F(GenerateTest, RefusesOptionsOutOfRange) {
  for (const auto& [flag, value] : std::vector<std::pair<std::string, std::string>>{{"temp", "-1"},
                                                                                    {"temp", "nan"},
                                                                                    {"temp", "inf"},
                                                                                    {"top-p", "1.5"},
                                                                                    {"top-p", "-0.1"},
                                                                                    {"min-p", "2"},
                                                                                    {"top-k", "-1"},
                                                                                    {"min-tokens-to-keep", "0"},
                                                                                    {"xtc-probability", "2"},
                                                                                    {"xtc-threshold", "0.6"},
                                                                                    {"max-tokens", "0"},
                                                                                    {"max-tokens", "-2"},
                                                                                    {"max-kv-size", "-1"},
                                                                                    {"max-kv-size", "4"},
                                                                                    {"prefill-step-size", "0"},
                                                                                    {"prefill-step-size", "-1"}}) {
    const auto error = refused({"--" + flag, value});
    const bool named = error.find(flag) != error.npos || error.find("max_kv_size") != error.npos;
    EXPECT_TRUE(named) << flag << ": " << error;
  }
  EXPECT_NE(refused({"--extra-eos-token", "<nothing>"}).find("<nothing>"), std::string::npos);
  EXPECT_NE(refused({"--extra-eos-token", ""}).find("''"), std::string::npos);
  for (const char* config : {"[1]", "{", "1", "null", "{'a': 1}", "\xff", "{\"a\": \"\xff\"}"}) {
    refused({"--chat-template-config", config});
  }
  const std::string deep = "{\"a\":" + std::string(60000, '[') + std::string(60000, ']') + "}";
  EXPECT_NE(refused({"--chat-template-config", deep}).find("nested"), std::string::npos);
}

TEST_F(GenerateTest, RefusesPromptsThatAreNoText) {
  refused({"-p", ""});
  refused({"-p", "-"});  // from an empty standard input
  for (const Arguments& more : {Arguments{}, {"--ignore-chat-template"}}) {
    for (const char* bytes : {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"}) {
      Arguments all = {"-p", bytes};
      all.insert(all.end(), more.begin(), more.end());
      EXPECT_NE(refused(all).find("UTF-8"), std::string::npos);
      all[1] = "-";
      EXPECT_NE(refused(all, bytes).find("UTF-8"), std::string::npos);
    }
  }
  refused({"--system-prompt", "\xff"});
  refused({"--prefill-response", "\xff"});
}

TEST_F(GenerateTest, RefusesModelsInOneLine) {
  auto refused_model = [&](const std::string& model) { return refused({"--model", model}); };
  EXPECT_NE(refused_model("./nothing").find("./nothing"), std::string::npos);
  refused_model("/dev/null");
  refused_model("organization/name");  // nothing is downloaded here
  refused_model("a\nb\x1b[31m");
  TempFolder empty;
  refused_model(empty.path().string());
  TinyModel model;
  model.config["model_type"] = "a\nb\x1b[31m";
  model.write(folder_, "other");
  refused_model((folder_.path() / "other").string());
  model = TinyModel();
  model.tensors.erase("model.norm.weight");
  model.write(folder_, "lacking");
  EXPECT_NE(refused_model((folder_.path() / "lacking").string()).find("model.norm.weight"), std::string::npos);
}

TEST_F(GenerateTest, RefusesWhatTheTemplateRefuses) {
  auto refused_by = [&](const char* text) {
    TinyModel model;
    model.tokenizer_config["chat_template"] = text;
    model.write(folder_);
    return refused({});
  };
  EXPECT_NE(refused_by("{{ raise_exception('only\nmodels') }}").find("only models"), std::string::npos);
  refused_by("{% if %}");
  refused_by("{{ messages.nothing.at_all }}");
  refused_by("{% for i in range(1000000000) %}x{% endfor %}");
  // A template that writes nothing leaves no token to start from.
  EXPECT_NE(refused_by("{% if false %}{% endif %}").find("prompt"), std::string::npos);
  refused_by("{# changes the last message #}{{ 1 / 0 }}");
}

TEST_F(GenerateTest, RefusesTokensThatTheModelLacks) {
  TinyModel model;
  model.config["vocab_size"] = 200;
  auto& embedding = model.tensors["model.embed_tokens.weight"];
  embedding = {"F32", {200, 32}, embedding.data.substr(0, 200 * 32 * 4)};
  model.write(folder_);
  EXPECT_NE(refused({}).find("200"), std::string::npos);  // <start> is 256
  EXPECT_EQ(run({"--ignore-chat-template"}).status, 0);
}

TEST_F(GenerateTest, answers_a_file_of_prompts) {
  const auto file = folder_.path() / "prompts.txt";
  std::ofstream(file) << "one\n\n{\"prompt\": \"two\\nlines\"}\r\n{\"messages\": [{\"role\": \"user\", \"content\": "
                         "\"three\"}]}\nfour\\nlines\n";
  const auto ended = run({"--prompts", file.string(), "--batch-size", "2"});
  // Guessed tokens change nothing.
  EXPECT_EQ(run({"--prompts", file.string(), "--batch-size", "2", "--prompt-lookup"}).out, ended.out);
  EXPECT_EQ(ended.status, 0) << ended.err;
  std::istringstream lines(ended.out);
  std::string line;
  std::vector<nlohmann::json> answers;
  while (std::getline(lines, line)) answers.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(answers.size(), 4u);
  const char* const prompts[] = {"one", "two\nlines", "three", "four\nlines"};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(answers[i]["index"], i);
    EXPECT_EQ(answers[i]["text"].get<std::string>() + "\n", answer({"--prompt", prompts[i]}));
    EXPECT_EQ(answers[i]["prompt_tokens"], prompt_tokens({"--prompt", prompts[i]}));
  }
  EXPECT_TRUE(std::regex_search(ended.err, std::regex(kFigures))) << ended.err;
}

TEST_F(GenerateTest, names_the_line_of_a_bad_prompt) {
  const auto file = (folder_.path() / "prompts.txt").string();
  const auto refusal = [&](const std::string& content) {
    std::ofstream(file) << content;
    return refused({"--prompts", file});
  };
  const auto line = [](const std::string& text) { return "mlx_lm: [generate] " + text + "\n"; };
  EXPECT_EQ(refusal("a\n{\"text\": 1}\n"), line(file + ":2: expected one of `prompt` and `messages`"));
  EXPECT_EQ(refusal("{\"prompt\": 7}"), line(file + ":1: expected `prompt` to be a text"));
  EXPECT_EQ(refusal("{\"messages\": []}"), line(file + ":1: expected `messages` to be a list of messages"));
  EXPECT_EQ(refusal("{\"messages\": [{\"role\": \"user\"}]}"),
            line(file + ":1: expected messages to be objects with the texts `role` and `content`"));
  EXPECT_EQ(refusal("\n\n"), line("prompts: expected a prompt in each line, found none in " + file));
  EXPECT_NE(refusal("a\n{\"prompt\":").find(file + ":2"), std::string::npos);
  EXPECT_EQ(refused({"--prompts", file + ".none"}),
            line("prompts: expected a file that can be read, found " + file + ".none"));
}

TEST_F(GenerateTest, drafts_change_nothing) {
  const auto plain = answer({"--prompt", "abcabcabc", "-m", "40"});
  EXPECT_EQ(answer({"--prompt", "abcabcabc", "-m", "40", "--prompt-lookup"}), plain);
  EXPECT_EQ(answer({"--prompt", "abcabcabc", "-m", "40", "--draft-model", folder_.path().string()}), plain);
  EXPECT_EQ(refused({"--num-draft-tokens", "0"}),
            "mlx_lm: [generate] num-draft-tokens: expected at least 1, found 0\n");
}

TEST_F(GenerateTest, answers_have_the_shape_that_is_wanted) {
  EXPECT_EQ(answer({"--choice", "maybe"}), "maybe\n");
  const auto one = answer({"--choice", "yes", "--choice", "no", "--temp", "1", "--seed", "1"});
  EXPECT_TRUE(one == "yes\n" || one == "no\n") << one;
  EXPECT_TRUE(std::regex_match(answer({"--regex", "[a-c]{3}-[0-9]", "-m", "20"}), std::regex("[a-c]{3}-[0-9]\n")));
  const auto schema = folder_.path() / "schema.json";
  std::ofstream(schema) << R"({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
                               "additionalProperties": false})";
  const auto object = nlohmann::json::parse(answer({"--json-schema", "@" + schema.string(), "-m", "40"}));
  EXPECT_TRUE(object.at("a").is_boolean());
  EXPECT_EQ(answer({"--grammar", "start: \"x\" \"y\"", "-m", "9"}), "xy\n");
  EXPECT_NE(refused({"--json-schema", "{\"type\": \"nothing\"}"}).find("schema"), std::string::npos);
  EXPECT_EQ(refused({"--regex", "@/no/such/file"}),
            "mlx_lm: [generate] regex: expected a file that can be read, found /no/such/file\n");
  refused({"--regex", "a", "--choice", "b"});
  refused({"--regex", "("});
}

}  // namespace
