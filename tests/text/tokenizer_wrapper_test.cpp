#include "mlx_lm/text/tokenizer_wrapper.h"

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "tests/text/tiny_tokenizer.h"

namespace mlx_lm::text {
namespace {

using nlohmann::json;

const std::string kTemplate =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

TokenizerWrapper wrapper(json config, std::string chat_template = "", std::set<int> eos = {}) {
  return TokenizerWrapper({.tokenizer = letters_tokenizer(),
                           .config = std::move(config),
                           .chat_template = std::move(chat_template),
                           .eos_token_ids = std::move(eos),
                           .where = "folder"});
}

template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing thrown";
}

const json kHello = {{{"role", "user"}, {"content", "Hi"}}};

TEST(TokenizerWrapper, encodes_with_and_without_special_tokens) {
  const auto t = wrapper(json::object());
  EXPECT_EQ(t.encode("a b"), (std::vector<int>{0, 67, 2, 68}));
  EXPECT_EQ(t.encode("a b", /* add_special_tokens */ false), (std::vector<int>{67, 2, 68}));
  EXPECT_EQ(t.encode("<s>a", false), (std::vector<int>{0, 67})) << "a special token that the text itself holds";
  EXPECT_EQ(t.decode(std::vector<int>{0, 67, 2, 68}), "<s>a b");
  EXPECT_EQ(t.decode(std::vector<int>{0, 67, 2, 68}, /* skip_special_tokens */ true), "a b");
  EXPECT_EQ(message_of<RequestError>([&] { t.encode("ab\xFF"); }),
            "[tokenizer] prompt: expected UTF-8, found an invalid byte at 2");
}

TEST(TokenizerWrapper, reads_special_tokens_as_text_or_as_object) {
  const auto t = wrapper({{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}, {"lstrip", false}}}});
  EXPECT_EQ(t.bos_token(), "<s>");
  EXPECT_EQ(t.eos_token(), "</s>");
  EXPECT_EQ(t.eos_token_ids(), (std::set<int>{1}));
  const auto none = wrapper({{"bos_token", nullptr}, {"eos_token", 5}});
  EXPECT_EQ(none.bos_token(), std::nullopt);
  EXPECT_EQ(none.eos_token(), std::nullopt);
  EXPECT_TRUE(none.eos_token_ids().empty());
}

TEST(TokenizerWrapper, joins_the_end_tokens_of_model_tokenizer_and_caller) {
  auto t = wrapper({{"eos_token", "</s>"}}, "", {90, 91});
  EXPECT_EQ(t.eos_token_ids(), (std::set<int>{1, 90, 91}));
  t.add_eos_token("a");
  t.add_eos_token("42");
  EXPECT_EQ(t.eos_token_ids(), (std::set<int>{1, 42, 67, 90, 91}));
  EXPECT_EQ(message_of<RequestError>([&] { t.add_eos_token("nope"); }),
            "[tokenizer] folder: expected a token of this tokenizer or a number, found 'nope'");
  EXPECT_THROW(t.add_eos_token("12x"), RequestError);
  EXPECT_THROW(t.add_eos_token("99999999999"), RequestError);
  EXPECT_THROW(t.add_eos_token(""), RequestError);
  EXPECT_TRUE(wrapper({{"eos_token", "</unknown>"}}).eos_token_ids().empty());
}

TEST(TokenizerWrapper, chooses_the_chat_template) {
  EXPECT_FALSE(wrapper(json::object()).has_chat_template());
  EXPECT_FALSE(wrapper({{"chat_template", nullptr}}).has_chat_template());
  const auto text = [](const TokenizerWrapper& t) { return t.apply_chat_template(kHello, {}); };
  EXPECT_EQ(text(wrapper({{"chat_template", "config"}})), "config");
  EXPECT_EQ(text(wrapper({{"chat_template", "config"}}, "file")), "file") << "chat_template.jinja comes first";
  const json list = {{{"name", "tool_use"}, {"template", "tools"}}, {{"name", "default"}, {"template", "plain"}}};
  EXPECT_EQ(text(wrapper({{"chat_template", list}})), "plain");
}

TEST(TokenizerWrapper, refuses_configurations_that_make_no_sense) {
  EXPECT_THROW(wrapper(json::array()), ConfigError);
  EXPECT_THROW(wrapper("text"), ConfigError);
  EXPECT_THROW(wrapper({{"chat_template", 5}}), ConfigError);
  EXPECT_THROW(wrapper({{"chat_template", json::array()}}), ConfigError);
  EXPECT_THROW(wrapper({{"chat_template", {1, "two", json::object()}}}), ConfigError);
  EXPECT_THROW(wrapper({{"chat_template", {{{"name", "default"}, {"template", 5}}}}}), ConfigError);
  EXPECT_EQ(message_of<ConfigError>([] {
              wrapper({{"chat_template", {{{"name", 7}}}}});
            }),
            "[tokenizer] folder: chat_template: expected a text or a list with one named default, found neither");
}

TEST(TokenizerWrapper, gives_the_template_its_variables) {
  const json config = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}, {"pad_token", "<pad>"}};
  const auto t = wrapper(config, kTemplate);
  EXPECT_EQ(t.apply_chat_template(kHello, {}), "<s>[user]Hi</s>\n[assistant]");
  EXPECT_EQ(t.apply_chat_template(kHello, {.add_generation_prompt = false}), "<s>[user]Hi</s>\n");
  const auto names =
      wrapper(config, "{{ eos_token }} {{ pad_token }} {{ tools }} {{ more }} {{ unk_token is defined }}");
  EXPECT_EQ(names.apply_chat_template(kHello, {.tools = {1, 2}, .extra = {{"more", "x"}}}),
            "</s> <pad> [1, 2] x False");
  const auto own = wrapper(config, "{{ add_generation_prompt }}");
  EXPECT_EQ(own.apply_chat_template(kHello, {.extra = {{"add_generation_prompt", "mine"}}}), "mine");
}

TEST(TokenizerWrapper, refuses_what_a_template_cannot_take) {
  EXPECT_EQ(message_of<RequestError>([] { wrapper(json::object()).apply_chat_template(kHello, {}); }),
            "[tokenizer] folder: expected a chat template, found none");
  const auto t = wrapper(json::object(), kTemplate);
  EXPECT_THROW(t.apply_chat_template(json::array(), {}), RequestError);
  EXPECT_THROW(t.apply_chat_template("Hi", {}), RequestError);
  EXPECT_THROW(wrapper(json::object(), "{% if %}").apply_chat_template(kHello, {}), ConfigError);
  EXPECT_NE(message_of<RequestError>([] {
              wrapper(json::object(), "{{ raise_exception('only users') }}").apply_chat_template(kHello, {});
            }).find("only users"),
            std::string::npos);
}

class ContinueFinalMessage : public testing::Test {
 protected:
  std::string continued(const json& content, const std::string& chat_template = kTemplate) {
    const json messages = {{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", content}}};
    return wrapper({{"bos_token", "<s>"}}, chat_template)
        .apply_chat_template(messages, {.add_generation_prompt = false, .continue_final_message = true});
  }
};

TEST_F(ContinueFinalMessage, leaves_the_last_message_open) {
  EXPECT_EQ(continued("The answer"), "<s>[user]Hi</s>\n[assistant]The answer");
  EXPECT_EQ(continued("The answer: "), "<s>[user]Hi</s>\n[assistant]The answer: ");
  EXPECT_EQ(continued(""), "<s>[user]Hi</s>\n[assistant]");
}

// The text may stand in the end marker as well.
TEST_F(ContinueFinalMessage, is_not_misled_by_what_follows_the_message) {
  EXPECT_EQ(continued("s"), "<s>[user]Hi</s>\n[assistant]s");
  EXPECT_EQ(continued("</s>"), "<s>[user]Hi</s>\n[assistant]</s>");
}

TEST_F(ContinueFinalMessage, follows_a_template_that_trims) {
  const std::string trims = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}";
  EXPECT_EQ(continued("The answer: \n", trims), "[user]Hi</s>[assistant]The answer:");
  EXPECT_EQ(continued("  x", trims), "[user]Hi</s>[assistant]x");
}

TEST_F(ContinueFinalMessage, continues_the_last_text_of_a_list) {
  const std::string blocks =
      "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
      "{% for b in m.content %}{{ b.text }}{% endfor %}{% endif %}</s>{% endfor %}";
  const json content = {{{"type", "text"}, {"text", "one "}}, {{"type", "text"}, {"text", "two"}}, {{"type", "image"}}};
  EXPECT_EQ(continued(content, blocks), "[user]Hi</s>[assistant]one two");
}

TEST_F(ContinueFinalMessage, refuses_what_cannot_be_continued) {
  EXPECT_THROW(continued("x", "{{ messages[0].content }}"), RequestError);
  EXPECT_THROW(continued(nullptr), RequestError);
  EXPECT_THROW(continued(json::array()), RequestError);
  EXPECT_THROW(continued({{{"text", 5}}}), RequestError);
  const auto t = wrapper(json::object(), kTemplate);
  EXPECT_THROW(t.apply_chat_template({"text"}, {.add_generation_prompt = false, .continue_final_message = true}),
               RequestError);
  EXPECT_THROW(t.apply_chat_template(kHello, {.continue_final_message = true}), RequestError);
}

}  // namespace
}  // namespace mlx_lm::text
