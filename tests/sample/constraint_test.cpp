#include "mlx_lm/sample/constraint.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/sample/sampler.h"

#include "tests/hub/byte_tokenizer.h"

namespace mlx_lm::sample {
namespace {

using Ids = std::vector<int>;

constexpr int kEnd = 259, kSize = 260;  // the bytes, "na", "me", <s>, </s>

Constraint constraint(const GrammarOptions& options) {
  static const GrammarTokens tokens(tokenizer_of(byte_level_json({{"n", "a"}, {"m", "e"}})), kSize, Ids{kEnd});
  return Constraint(Grammar(tokens, options).matcher());
}

mx::array logits(uint32_t seed, mx::Dtype type = mx::float32) {
  return mx::astype(mx::random::normal({1, kSize}, mx::random::key(seed)), type);
}

// The tokens that are left.
Ids left(const mx::array& masked) {
  auto values = mx::astype(masked, mx::float32);
  values.eval();
  Ids ids;
  for (int id = 0; id < kSize; ++id) {
    if (values.data<float>()[id] != -std::numeric_limits<float>::infinity()) ids.push_back(id);
  }
  return ids;
}

TEST(Constraint, MasksLogits) {
  auto c = constraint({.regex = "[a-c]+"});
  for (auto type : {mx::float32, mx::float16, mx::bfloat16}) {
    const auto before = logits(1, type);
    const auto after = c.apply(before);
    EXPECT_EQ(after.dtype(), type);
    EXPECT_EQ(after.shape(), (mx::Shape{1, kSize}));
    EXPECT_EQ(left(after), (Ids{'a', 'b', 'c'}));
    const auto same = mx::equal(mx::slice(before, {0, 'a'}, {1, 'd'}), mx::slice(after, {0, 'a'}, {1, 'd'}));
    EXPECT_TRUE(mx::all(same).item<bool>());
  }
  c.commit('b');
  EXPECT_EQ(left(c.apply(logits(2))), (Ids{'a', 'b', 'c', kEnd}));
  c.commit(kEnd);
  EXPECT_TRUE(c.is_done());
  EXPECT_THROW(c.apply(logits(3)), RequestError);
}

TEST(Constraint, PreparedOrNotTheSame) {
  const GrammarOptions options = {.json_schema = R"({"type":"object","properties":{"name":{"type":"string"},
    "list":{"type":"array","items":{"type":"integer"}}},"required":["name"],"additionalProperties":false})"};
  std::mt19937 random(1);
  auto plain = constraint(options), prepared = constraint(options);
  for (int step = 0; step < 120 && !plain.is_done(); ++step) {
    if (random() % 4) prepared.prepare();
    if (random() % 4 == 0) prepared.prepare();  // twice is once
    if (random() % 8 == 0) prepared = Constraint(prepared);
    ASSERT_EQ(prepared.forced(), plain.forced());
    const auto expected = left(plain.apply(logits(step)));
    ASSERT_EQ(left(prepared.apply(logits(step))), expected);
    ASSERT_EQ(left(prepared.apply(logits(step))), expected);  // as often as one likes
    ASSERT_EQ(prepared.accepts(), plain.accepts());
    const int id = expected[random() % expected.size()];
    ASSERT_EQ(prepared.validate(Ids{id}), 1);
    plain.commit(id);
    prepared.commit(id);
    if (random() % 8 == 0) {
      prepared.prepare();
      prepared.rollback(1);
      prepared.prepare();
      prepared.commit(id);
    }
  }
}

TEST(Constraint, ALoop) {
  auto c = constraint({.json_schema = R"({"type":"object","properties":{"name":{"enum":["anna","me"]}},
    "required":["name"],"additionalProperties":false})",
                       .compact = true});
  const auto sampler = make_sampler({.temp = 1});
  mx::random::seed(3);
  std::string text;
  const auto feed = [&](int id) {
    c.commit(id);
    text += id < 256 ? std::string(1, char(id)) : id == 256 ? "na" : "me";
  };
  int asked = 0;
  while (!c.is_done()) {
    if (const auto forced = c.forced(); !forced.empty()) {
      for (int id : forced) feed(id);
      continue;
    }
    c.prepare();
    feed(sampler(c.apply(logits(asked++))).item<int>());
  }
  EXPECT_TRUE(text == R"({"name": "anna"})" || text == R"({"name": "me"})") << text;
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(left(c.apply(logits(0))), Ids{kEnd});
}

TEST(Constraint, SpeculationBranches) {
  auto c = constraint({.choice = {"name", "nana", "nab"}});
  EXPECT_EQ(c.validate(Ids{256, 256, kEnd}), 3);
  EXPECT_EQ(c.validate(Ids{256, 257, 256}), 2);
  EXPECT_EQ(c.validate(Ids{'x'}), 0);
  auto branch = c;
  branch.commit('n');
  branch.commit('a');
  EXPECT_EQ(left(branch.apply(logits(0))), (Ids{'b', 'm', 'n', 256, 257}));
  branch.rollback(2);
  EXPECT_EQ(left(branch.apply(logits(0))), left(c.apply(logits(0))));
  EXPECT_EQ(*c.ending(3), (Ids{256, 'b'}));
  EXPECT_FALSE(c.ending(1));
}

TEST(Constraint, Refuses) {
  auto c = constraint({.choice = {"name"}});
  c.prepare();
  try {
    c.commit('x');
    ADD_FAILURE();
  } catch (const RequestError& error) {
    EXPECT_STREQ(error.what(), "[constraint] token: expected one that the grammar allows here, found 120");
  }
  try {
    c.apply(mx::zeros({1, kSize + 1}));
    ADD_FAILURE();
  } catch (const RequestError& error) {
    EXPECT_STREQ(error.what(), "[constraint] logits: expected shape (1, 260), found (1, 261)");
  }
  EXPECT_THROW(c.apply(mx::zeros({2, kSize})), RequestError);
  EXPECT_THROW(c.apply(mx::zeros({kSize})), RequestError);
  EXPECT_THROW(c.rollback(1), RequestError);
  EXPECT_EQ(left(c.apply(logits(0))), Ids{256});
}

// What goes wrong on the thread comes out where the mask is asked for, and again after that.
TEST(Constraint, ErrorsOfTheThread) {
  const GrammarTokens tokens(tokenizer_of(byte_level_json({})), 'b' + 1, Ids{});  // no letters after b
  Constraint c(Grammar(tokens, {.choice = {"az"}}).matcher());
  c.commit('a');
  for (int i = 0; i < 2; ++i) {
    c.prepare();
    EXPECT_THROW(c.apply(mx::zeros({1, 'b' + 1})), RequestError);
  }
  EXPECT_TRUE(c.is_done());
}

TEST(Constraint, DroppedWhileAMaskIsUnderWay) {
  for (int i = 0; i < 50; ++i) {
    auto c = constraint({.json_object = true});
    c.prepare();
    auto copy = c;
    copy.prepare();
    if (i % 2) c = std::move(copy);
  }
}

}  // namespace
}  // namespace mlx_lm::sample
