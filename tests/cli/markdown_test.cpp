#include "mlx_lm/cli/markdown.h"

#include <gtest/gtest.h>

#include "mlx_lm/cli/markdown_inline.h"
#include "mlx_lm/text/utf8.h"

namespace mlx_lm::cli {
namespace {

std::string render(std::string_view text, int width = 40, size_t cut = std::string_view::npos) {
  std::string out;
  Markdown markdown([&](std::string_view bytes) { out += bytes; }, width);
  while (!text.empty()) {
    markdown.add(text.substr(0, cut));
    text.remove_prefix(std::min(cut, text.size()));
  }
  markdown.finish();
  return out;
}

// Styles by letters: bold b, dim d, italic i, underline u, strike s, code c.
std::string show(std::string_view rendered) {
  std::string out;
  while (!rendered.empty()) {
    if (!rendered.starts_with("\x1b[0")) {
      out += rendered[0];
      rendered.remove_prefix(1);
      continue;
    }
    const auto code = rendered.substr(3, rendered.find('m') - 3);
    rendered.remove_prefix(3 + code.size() + 1);
    out += '<';
    for (const auto& [number, letter] : {std::pair(";1", 'b'), {";2", 'd'}, {";36", 'c'}, {";4", 'u'}, {";9", 's'}}) {
      if (code.find(number) != code.npos) out += letter;
    }
    if (code.find(";3") != code.npos && code.find(";36") == code.npos) out += 'i';
    out += '>';
  }
  return out;
}
std::string seen(std::string_view text, int width = 40) { return show(render(text, width)); }

const std::string kRule = "<d>────────────────────────────────────────<>\n";

TEST(Markdown, shows_what_stands_within_a_line) {
  EXPECT_EQ(seen("plain"), "plain\n");
  EXPECT_EQ(seen("a **bold** b"), "a <b>bold<> b\n");
  EXPECT_EQ(seen("a *it* b _it_"), "a <i>it<> b <i>it<>\n");
  EXPECT_EQ(seen("__bold__ ***both***"), "<b>bold<> <bi>both<>\n");
  EXPECT_EQ(seen("~~gone~~ ~not~"), "<s>gone<> ~not~\n");
  EXPECT_EQ(seen("use `f(*x*)` now"), "use <c>f(*x*)<> now\n");
  EXPECT_EQ(seen("`` a`b ``"), "<c>a`b<>\n");
  EXPECT_EQ(seen("**a *b* c**"), "<b>a <bi>b<b> c<>\n");
  EXPECT_EQ(seen("**a *b***"), "<b>a <bi>b<>\n");
  EXPECT_EQ(seen("*a **b***"), "<i>a <bi>b<>\n");
  EXPECT_EQ(seen("**a `*` c**"), "<b>a <bc>*<b> c<>\n");
  EXPECT_EQ(seen("[name](http://x.y) z"), "<u>name<> (<d>http://x.y<>) z\n");
  EXPECT_EQ(seen("[http://x.y](http://x.y)"), "<u>http://x.y<>\n");
  EXPECT_EQ(seen("![cat](c.png)"), "<u>cat<> (<d>c.png<>)\n");
  EXPECT_EQ(seen("\\*not\\* \\x \\(m\\)"), "*not* \\x \\(m\\)\n");
}

TEST(Markdown, leaves_signs_that_mean_nothing) {
  for (const char* text :
       {"2 * 3 * 4", "2*(3+4)*5",          "snake_case_name", "a ** b", "**open", "*open", "`open", "[open", "[x] done",
        "[a](b",     "f(*args, **kwargs)", "~~open",          "a*",     "**",     "a ***", "_",     "!",     "wow!",
        "5*4",       "<b>x</b>",           "****x****",       "\\"}) {
    EXPECT_EQ(seen(text), std::string(text) + "\n");
  }
  EXPECT_EQ(seen("**a\nb**"), "**a\nb**\n") << "not over lines";
  EXPECT_EQ(seen("*a `b* c`"), "*a <c>b* c<>\n") << "code binds first";
}

TEST(Markdown, shows_lines) {
  EXPECT_EQ(seen("# One\n## Two *x*\n####### no\n#no"), "<bu>One<>\n<b>Two <bi>x<>\n####### no\n#no\n");
  EXPECT_EQ(seen("- a\n* b\n+ c\n-d\n-"), "• a\n• b\n• c\n-d\n-\n");
  EXPECT_EQ(seen("1. a\n12) b\n1.x\n2024"), "1. a\n12) b\n1.x\n2024\n");
  EXPECT_EQ(seen("- a\n  - b\n    - **c**"), "• a\n  • b\n    • <b>c<>\n");
  EXPECT_EQ(seen("- a\n    more"), "• a\n    more\n");
  EXPECT_EQ(seen("    x = a*b*c"), "<c>    x = a*b*c<>\n");
  EXPECT_EQ(seen("> said *he*\n>\n> > twice"), "<d>│ <>said <i>he<>\n<d>│ <>\n<d>│ │ <>twice\n");
  EXPECT_EQ(seen("---"), kRule);
  EXPECT_EQ(seen("* * *\n--"), kRule + "--\n");
  EXPECT_EQ(seen("| a | *b* |"), "| a | *b* |\n");
  EXPECT_EQ(seen("**b** start\n*i* start"), "<b>b<> start\n<i>i<> start\n");
}

TEST(Markdown, sets_code_off) {
  EXPECT_EQ(seen("a\n```python\nx = **y**\n\n# no\n```\nb"),
            "a\n<d>── python ──────────────────────────────<>\n"
            "<c>x = **y**<>\n\n<c># no<>\n" +
                kRule + "b\n");
}

TEST(Markdown, ends_a_block_of_code_where_it_ends) {
  EXPECT_EQ(seen("```\na"), kRule + "<c>a<>\n" + kRule) << "not closed";
  EXPECT_EQ(seen("```\n"), kRule + kRule);
  EXPECT_EQ(seen("````\n```\n````\n*x*"), kRule + "<c>```<>\n" + kRule + "<i>x<>\n");
  EXPECT_EQ(seen("~~~\n```\n~~~"), kRule + "<c>```<>\n" + kRule);
  EXPECT_EQ(seen("```\n``` x\n  ```"), kRule + "<c>``` x<>\n" + kRule);
  EXPECT_EQ(seen("```a`b```"), "<c>a`b<>\n") << "no fence";
}

TEST(Markdown, keeps_line_ends) {
  EXPECT_EQ(seen("\n\na\nb\r\n\n\n\n\n\nc\n\n\n"), "a\nb\n\n\nc\n");
  EXPECT_EQ(seen(""), "");
  EXPECT_EQ(seen("\n \n"), "");
}

TEST(Markdown, breaks_lines_between_words) {
  EXPECT_EQ(seen("one two three four", 10), "one two\nthree four\n");
  EXPECT_EQ(seen("- one two three", 10), "• one two\n  three\n");
  EXPECT_EQ(seen("10. one two three", 11), "10. one two\n    three\n");
  EXPECT_EQ(seen("> one two three", 10), "<d>│ <>one two\n<d>│ <>three\n");
  EXPECT_EQ(seen("**one two three**", 10), "<b>one two<>\n<b>three<>\n");
  EXPECT_EQ(seen("a http://long.example/path b", 10), "a http://long.example/path b\n") << "to be copied whole";
  EXPECT_EQ(seen("12345678 9", 8), "12345678\n9\n");
}

TEST(Markdown, knows_how_wide_letters_are) {
  EXPECT_EQ(columns('a'), 1);
  EXPECT_EQ(columns(U'漢'), 2);
  EXPECT_EQ(columns(U'😀'), 2);
  EXPECT_EQ(columns(U'\u0301'), 0);
  EXPECT_EQ(seen("漢字漢字漢字", 8), "漢字漢字\n漢字\n");
  EXPECT_EQ(seen("漢字漢字。漢", 8), "漢字漢\n字。漢\n") << "a full stop begins no line";
  EXPECT_EQ(seen("e\u0301e\u0301e\u0301e\u0301 e\u0301e\u0301e\u0301", 8),
            "e\u0301e\u0301e\u0301e\u0301 e\u0301e\u0301e\u0301\n");
}

TEST(Markdown, lets_nothing_through_that_a_terminal_obeys) {
  EXPECT_EQ(seen("\x1b[31mred\x1b[0m"), "␛[31mred␛[0m\n");
  EXPECT_EQ(seen("a\x07\b\x7f\v"), "a␇␈␡␋\n");
  EXPECT_EQ(seen("\u009b31m"), "\uFFFD31m\n");
  EXPECT_EQ(seen("\x9b\x31m\xff"), "\uFFFD1m\uFFFD\n");
  EXPECT_EQ(seen("a\u202eb\u2066c"), "a\uFFFDb\uFFFDc\n");
  EXPECT_EQ(seen("```\x1b]0;t\x07\n\x1b[2J\n```"), show(render("```␛]0;t␇\n␛[2J\n```")));
  EXPECT_EQ(seen("[a](\x1b]8;;x\x07)"), "<u>a<> (<d>␛]8;;x␇<>)\n");
  EXPECT_EQ(visible("a\x1b[2Jb\r\n\tc\xc3"), "a␛[2Jb␍\n\tc\uFFFD");
}

TEST(Markdown, writes_the_same_however_the_text_is_cut) {
  const std::string text =
      "# Title with **bold**\n\nSome *text* with `code` and 漢字 é and a [link](http://x.y), 2*3*4 **open.\n"
      "- item one that is long enough to be broken\n  1. nested `x`\n\n```c++\nint *a = **b;\n\n``` not\n```\n"
      "> quote *x*\n>\n\n| a | b |\n---\n    code\n\x1b[31m\xff\xe6\xbc done! ***both*** ~~s~~ \\* `` ` ``\n```\nopen";
  const auto whole = render(text, 30);
  for (size_t cut = 1; cut < 40; ++cut) ASSERT_EQ(render(text, 30, cut), whole) << cut;
  // And cut once, anywhere.
  for (size_t at = 0; at <= text.size(); ++at) {
    std::string out;
    Markdown markdown([&](std::string_view bytes) { out += bytes; }, 30);
    markdown.add(std::string_view(text).substr(0, at));
    markdown.add(std::string_view(text).substr(at));
    markdown.finish();
    ASSERT_EQ(out, whole) << at;
  }
}

TEST(Markdown, writes_as_early_as_it_can) {
  std::string out;
  Markdown markdown([&](std::string_view bytes) { out += bytes; }, 1000);
  markdown.add("one two");
  EXPECT_EQ(out, "one");
  markdown.add(" ");
  EXPECT_EQ(out, "one two");
  markdown.add("**bo");
  EXPECT_EQ(out, "one two");
  markdown.add("ld** ");
  EXPECT_EQ(show(out), "one two <b>bold");
  // A sign that nothing closes holds no more back than that.
  markdown.add("*open " + std::string(kMaxHeld, 'x') + " y z ");
  EXPECT_NE(out.find("*open"), out.npos);
  EXPECT_NE(out.find(" y"), out.npos);
  markdown.finish();
  markdown.add("next");
  markdown.finish();
  EXPECT_TRUE(out.ends_with(" y z\nnext\n")) << "another text begins anew";
}

// Each letter costs a bounded time and nothing is kept: a quadratic renderer would not come to its end here.
TEST(Markdown, takes_hostile_texts) {
  for (const std::string unit : {"*", "`", "[", "*a", "_a_", "![", "> ", "- ", "#", "~~a", "**a*b", "\\", "```\n", "|",
                                 " ", "\t", "*`a", "(", "a"}) {
    std::string text;
    while (text.size() < 200'000) text += unit;
    const auto out = render(text, 40, 1000);
    EXPECT_EQ(text::find_invalid(out), out.npos) << unit;
  }
}

}  // namespace
}  // namespace mlx_lm::cli
