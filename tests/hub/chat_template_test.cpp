#include "mlx_lm/hub/chat_template.h"

#include <chrono>
#include <ctime>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// What Jinja2 makes of them: dump_chat_templates.py.
const ordered_json& golden() {
  static const ordered_json data =
      ordered_json::parse(std::ifstream(std::string(MLX_LM_TEST_DATA) + "/hub/chat_templates.json"));
  return data;
}

std::string today(std::string text) {
  char date[40];
  const auto now = std::time(nullptr);
  std::strftime(date, sizeof date, "%d %b %Y", std::localtime(&now));
  for (size_t at; (at = text.find("26 Jul 2024")) != text.npos;) text.replace(at, 11, date);
  return text;
}

void expect_same(const std::string& source, const ordered_json& context, const ordered_json& expected,
                 const std::string& what) {
  try {
    const auto text = ChatTemplate(source, "T").render_json(context.dump());
    if (expected.contains("error")) {
      ADD_FAILURE() << what << "\nexpected an error, found: " << text;
    } else {
      EXPECT_EQ(text, today(expected["text"])) << what;
    }
  } catch (const Error& error) {
    const std::string text = error.what();
    if (expected.contains("text")) {
      ADD_FAILURE() << what << "\n" << text;
    } else if (const std::string raised = expected["error"]; !raised.empty()) {
      EXPECT_EQ(text, "[chat template] T: raised by the template: " + raised) << what;
    }
    EXPECT_EQ(text.find('\n'), text.npos);
  }
}

TEST(ChatTemplate, FeaturesAsJinja2) {
  for (const auto& item : golden()["short"]) expect_same(item["source"], golden()["base"], item, item["source"]);
}

TEST(ChatTemplate, FamiliesAsJinja2) {
  for (const auto& item : golden()["cases"]) {
    const std::string family = item["family"], conversation = item["conversation"];
    expect_same(golden()["families"][family], golden()["conversations"][conversation], item,
                family + ", " + conversation);
  }
}

TEST(ChatTemplate, ContextsThatAreOdd) {
  const ChatTemplate t("{{ x }}{{ y }}", "T");
  EXPECT_EQ(t.render({{"x", "a\xff"}}), "a\xef\xbf\xbd");  // what is not UTF-8 is replaced
  EXPECT_EQ(t.render({{"x", std::string("a\0b", 3)}}), std::string("a\0b", 3));
  EXPECT_EQ(t.render_json(R"({"y": 2, "x": 1, "x": 3})"), "32");
  for (std::string context : std::vector<std::string>{"", "{", "nothing", "{\"x\": 1} 2", "{\"x\": \"\xff\"}",
                                                      std::string(1'000'000, '['), "{\"x\": 1e999}"}) {
    try {
      t.render_json(context);
      ADD_FAILURE() << context.substr(0, 100);
    } catch (const RequestError& error) {
      EXPECT_EQ(std::string(error.what()).find("[chat template] messages: "), 0u) << error.what();
    }
  }
  EXPECT_EQ(t.render_json("[]"), "");
}

TEST(ChatTemplate, SourcesThatDoNotParse) {
  for (std::string source :
       std::vector<std::string>{"{{", "{% if %}", "{% for x in y %}", "{% endif %}", "{{ 1 + }}", "{% no_such_tag %}",
                                "{% import 'x' as x %}", "{% extends 'x' %}", "\xff", std::string(300 << 10, ' '),
                                "{{ " + std::string(100'000, '(') + "1", "{{ " + std::string(100'000, '['),
                                "{{ " + std::string(100'000, '-') + "1 }}"}) {
    try {
      ChatTemplate(source, "T");
      ADD_FAILURE() << source.substr(0, 100);
    } catch (const ConfigError& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.find("[chat template] T: "), 0u) << text;
      EXPECT_EQ(text.find('\n'), text.npos);
      EXPECT_LT(text.size(), 600u);
    }
  }
}

// Whatever a template asks for, the answer is an error, soon.
TEST(ChatTemplate, HostileTemplates) {
  const std::string nest = "{% set n = namespace(x='a', y=[1], z=[1]) %}{% for i in range(9999) %}";
  for (std::string source : std::vector<std::string>{
           "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
           "{% for a in range(99999) %}{% for b in range(99999) %}some text to write{% endfor %}{% endfor %}",
           "{{ range(99999999999) | list }}",
           "{{ range(99999999999) | join }}",
           "{{ range(99999999999) | tojson }}",
           "{{ 'a' * 99999999999 }}",
           "{{ [1] * 99999999999 }}",
           "{{ ('a' * 9999999) * 9999999 }}",
           "{{ '{:999999999999}'.format(1) }}",
           "{{ '{:99999}'.format(1) }}",
           "{{ '{:{}}'.format(1, 999999999) }}",
           "{{ '%999999999d' | format(1) }}",
           "{{ 'a' | indent(99999999999, true) }}",
           "{{ 'a' | center(99999999999) }}",
           "{{ strftime_now('%99999999d') }}",
           "{{ strftime_now('%c' * 100000) }}",
           "{{ 2 ** 99999999 ** 99999999 }}",
           "{{ ('a' * 99999).replace('a', 'a' * 99999) }}",
           "{{ ('a' * 99999).split('a') | join('a' * 99999) }}",
           "{{ 'x' | replace('', 'x' * 9999999999) }}",
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
           "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
           "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
           nest + "{% set n.x = n.x ~ n.x %}{% endfor %}",
           nest + "{% set n.x = n.x + n.x %}{% endfor %}",
           nest + "{% set n.x = n.x | replace('a', 'aa') %}{% endfor %}",
           nest + "{% set n.y = n.y + n.y %}{% endfor %}",
           nest + "{% set n.y = [n.y] %}{% endfor %}{{ n.y | tojson }}",
           nest + "{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.y }}",
           nest + "{% set n.y = {'a': n.y, 'b': n.y} %}{% endfor %}{{ n.y ~ '' }}",
           nest + "{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.y | tojson }}",
           nest + "{% set n.y = [n.y, n.y] %}{% set n.z = [n.z, n.z] %}{% endfor %}{{ n.y == n.z }}",
       }) {
    const auto start = std::chrono::steady_clock::now();
    try {
      ChatTemplate(source, "T").render({{"messages", json::array()}});
      ADD_FAILURE() << "expected an error, found none: " << source;
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.find("[chat template] T: "), 0u) << text;
      EXPECT_EQ(text.find('\n'), text.npos);
      EXPECT_LT(text.size(), 600u);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4)) << source;
  }
}

// What nests as deeply as the bounds allow does not overflow the stack: an error or an answer, no crash.
TEST(ChatTemplate, DeepTemplates) {
  const auto repeat = [](const std::string& part, int times) {
    std::string text;
    for (int i = 0; i < times; i++) text += part;
    return text;
  };
  for (int times : {100, 1400, 60'000}) {
    for (std::string part : std::vector<std::string>{"not ", "-", "1~", "1+", "1 if 1 else ", "[", "(", "x[", "x(",
                                                     "{1:", "1 or ", "1 and ", "x.y or "}) {
      try {
        ChatTemplate("{{ " + repeat(part, times) + "1 }}", "T").render(json::object());
      } catch (const Error&) {
      }
    }
    for (std::string part :
         std::vector<std::string>{"{% if 1 %}", "{% for x in [1] %}", "{% with %}", "{% macro m() %}", "{% set x %}",
                                  "{% filter upper %}", "{{ x|e }}", "{#", "{{{{"}) {
      try {
        ChatTemplate(repeat(part, times / 4), "T").render(json::object());
      } catch (const Error&) {
      }
    }
  }
  for (std::string step :
       std::vector<std::string>{"[n.y]", "{'a': n.y}", "(n.y,)", "n.y | batch(1)", "n.y | map('upper')"}) {
    const std::string source =
        "{% set n = namespace(y=[1]) %}{% for i in range(99999) %}{% set n.y = " + step + " %}{% endfor %}";
    for (std::string use :
         std::vector<std::string>{"", "{{ n.y }}", "{{ n.y == [n.y] }}", "{{ n.y | list }}", "{{ [n.y] | sort }}"}) {
      try {
        ChatTemplate(source + use, "T").render(json::object());
      } catch (const Error&) {
      }
    }
  }
}

TEST(ChatTemplate, LongConversations) {
  ordered_json messages = ordered_json::array();
  for (int i = 0; i < 2000; i++) {
    messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", std::string(1000, 'x')}});
  }
  const ChatTemplate t(golden()["families"]["chatml"].get<std::string>(), "T");
  const auto start = std::chrono::steady_clock::now();
  const ordered_json context = {{"messages", messages}, {"tools", nullptr}, {"add_generation_prompt", true}};
  EXPECT_GT(t.render_json(context.dump()).size(), 2'000'000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
}

TEST(ChatTemplate, CopiesAndThreads) {
  const ChatTemplate t("{% for m in messages %}{{ m }}{% endfor %}", "T");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([t, i] {
      for (int n = 0; n < 50; n++) EXPECT_EQ(t.render({{"messages", {i, n}}}), std::to_string(i) + std::to_string(n));
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace mlx_lm
