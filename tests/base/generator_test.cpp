#include "mlx_lm/base/generator.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm {
namespace {

// Counts the values that live, so that one destroyed twice or never shows.
struct Counted {
  explicit Counted(int v) : value(v), text(50, 'x') { ++alive; }
  Counted(const Counted& other) : value(other.value), text(other.text) { ++alive; }
  ~Counted() { --alive; }
  int value;
  std::string text;
  static inline int alive = 0;
};

Generator<Counted> count_to(int n, std::shared_ptr<int> resumed = nullptr) {
  Counted local(-1);
  for (int i = 0; i < n; ++i) {
    if (resumed) ++*resumed;
    Counted made(i);
    co_yield made;
  }
}

Generator<Counted> fails_after(int n) {
  Counted local(-1);
  for (int i = 0; i < n; ++i) {
    Counted made(i);
    co_yield made;
  }
  fail<RequestError>("[test] after {}", n);
}

class GeneratorTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(Counted::alive, 0); }
};

TEST_F(GeneratorTest, gives_one_value_after_another) {
  std::vector<int> values;
  for (auto& made : count_to(4)) values.push_back(made.value);
  EXPECT_EQ(values, (std::vector{0, 1, 2, 3}));
  for (auto& made : count_to(0)) ADD_FAILURE() << made.value;
}

TEST_F(GeneratorTest, does_nothing_before_the_first_value_is_wanted) {
  auto resumed = std::make_shared<int>(0);
  auto generator = count_to(3, resumed);
  EXPECT_EQ(*resumed, 0);
  EXPECT_EQ(Counted::alive, 0);
  auto it = generator.begin();
  EXPECT_EQ(*resumed, 1);
  ++it;
  EXPECT_EQ(*resumed, 2);
  EXPECT_EQ(it->value, 1);
}

TEST_F(GeneratorTest, lets_the_caller_take_the_value) {
  std::vector<std::string> taken;
  for (auto& made : count_to(3)) taken.push_back(std::move(made.text));
  EXPECT_EQ(taken, std::vector<std::string>(3, std::string(50, 'x')));
}

TEST_F(GeneratorTest, destroys_what_a_loop_left_behind) {
  for (auto& made : count_to(10)) {
    if (made.value == 2) break;
  }
  EXPECT_EQ(Counted::alive, 0);
  { auto never_started = count_to(10); }
  try {
    for (auto& made : count_to(10)) {
      if (made.value == 1) throw std::runtime_error("the loop's own");
    }
    ADD_FAILURE();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "the loop's own");
  }
}

TEST_F(GeneratorTest, throws_what_the_coroutine_throws) {
  for (int n : {0, 1, 3}) {
    int seen = 0;
    try {
      for (auto& made : fails_after(n)) seen += made.value >= 0;
      ADD_FAILURE();
    } catch (const RequestError& error) {
      EXPECT_EQ(error.what(), "[test] after " + std::to_string(n));
    }
    EXPECT_EQ(seen, n);
  }
}

TEST_F(GeneratorTest, is_at_its_end_after_an_error) {
  auto generator = fails_after(1);
  auto it = generator.begin();
  EXPECT_THROW(++it, RequestError);
  EXPECT_TRUE(it == generator.end());
}

TEST_F(GeneratorTest, moves) {
  auto first = count_to(3);
  auto second = std::move(first);
  int n = 0;
  for (auto& made : second) n += made.value >= 0;
  EXPECT_EQ(n, 3);
  auto third = count_to(5);
  third.begin();
  third = count_to(2);
  n = 0;
  for (auto& made : third) n += made.value >= 0;
  EXPECT_EQ(n, 2);
}

// One coroutine over another, as stream_generate is over generate_step.
Generator<std::string> texts(int n) {
  for (auto& made : fails_after(n)) {
    std::string text = std::to_string(made.value);
    co_yield text;
  }
}

TEST_F(GeneratorTest, nests) {
  std::string all;
  EXPECT_THROW(
      for (auto& text
           : texts(3)) { all += text; },
      RequestError);
  EXPECT_EQ(all, "012");
  for (auto& text : texts(3)) {
    if (text == "1") break;
  }
}

// GCC 12 would destroy such a value twice.
template <class T>
concept TakesTemporaries = requires(typename Generator<T>::promise_type p, T v) {
  p.yield_value(std::move(v));
};
static_assert(!TakesTemporaries<Counted>);
static_assert(!TakesTemporaries<int>);
static_assert(!std::is_copy_constructible_v<Generator<int>>);

}  // namespace
}  // namespace mlx_lm
