// The processors against what mlx-lm's make of logits (tests/golden/dump_samplers.py).
#include "mlx_lm/sample/logits_processors.h"

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/join.h"

#include "tests/sample/sampling_case.h"

namespace mlx_lm::sample {
namespace {

using nlohmann::json;

mx::array ids_of(const std::vector<int>& ids) { return mx::array(ids.begin(), {int(ids.size())}, mx::int32); }

PenaltyOptions options_of(const json& o) {
  PenaltyOptions options{.repetition_penalty = o.value("repetition_penalty", 0.f),
                         .repetition_context_size = o.value("repetition_context_size", 20),
                         .presence_penalty = o.value("presence_penalty", 0.f),
                         .presence_context_size = o.value("presence_context_size", 20),
                         .frequency_penalty = o.value("frequency_penalty", 0.f),
                         .frequency_context_size = o.value("frequency_context_size", 20)};
  const auto bias = o.value("logit_bias", json::object());
  for (const auto& [id, value] : bias.items()) options.logit_bias[std::stoi(id)] = value;
  return options;
}

std::vector<float> processed(const PenaltyOptions& options, const mx::array& tokens, mx::array logits) {
  for (const auto& processor : make_logits_processors(options)) logits = processor(tokens, logits);
  return numbers(logits);
}

TEST(LogitsProcessors, make_what_mlx_lm_makes) {
  const auto golden = golden_samplers().at("processors");
  ASSERT_GE(golden.size(), 250u);
  for (const auto& o : golden) {
    const auto x = drawn_row(o.at("logits"));
    const auto tokens = ids_of(o.at("tokens").get<std::vector<int>>());
    auto expected = numbers(x);
    for (const auto& [id, value] : o.at("changed").get<std::vector<std::pair<int, float>>>()) expected[id] = value;
    by_every_backend([&] {
      const auto found = processed(options_of(o), tokens, x);
      // The kernels subtract token by token, as mlx-lm does.
      const float error = ops::backend() == ops::Backend::kernels ? 0 : 2e-6f;
      for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], error) << i << ' ' << o;
    });
  }
}

TEST(LogitsProcessors, become_one_step) {
  ops::set_backend(ops::Backend::kernels);
  auto x = drawn_row({50, 1, 3, 0});
  x.eval();
  const auto tokens = ids_of({1, 2, 3, 2});
  const PenaltyOptions options{
      .logit_bias = {{4, 1.f}}, .repetition_penalty = 2, .presence_penalty = 1, .frequency_penalty = 1};
  const auto processors = make_logits_processors(options);
  ASSERT_EQ(processors.size(), 4u);
  auto y = x;
  for (const auto& processor : processors) y = processor(tokens, y);
  EXPECT_EQ(y.inputs()[0].id(), x.id()) << "there is nothing between the logits and the last of them";
  auto one_by_one = x;
  for (const auto& processor : processors) {
    one_by_one = processor(tokens, one_by_one);
    one_by_one.eval();
  }
  EXPECT_TRUE(mx::array_equal(y, one_by_one).item<bool>());
  EXPECT_TRUE(mx::array_equal(x, drawn_row({50, 1, 3, 0})).item<bool>()) << "the logits stay as they were";
  const auto other = processors[1](ids_of({9}), processors[1](ids_of({8}), x));
  EXPECT_EQ(numbers(other)[8], numbers(processors[1](ids_of({8}), x))[8]) << "each with its own tokens";
  EXPECT_EQ(numbers(other)[9], numbers(processors[1](ids_of({9}), x))[9]);
}

TEST(LogitsProcessors, take_tokens_that_are_still_to_come) {
  by_every_backend([] {
    const auto x = row_of({1, 2, 3, -4});
    auto last = mx::astype(mx::argmax(x, -1), mx::int32);
    auto y = make_repetition_penalty(2)(mx::concatenate({ids_of({3, 0}), last}), x);
    ops::join({&y});
    EXPECT_EQ(numbers(y), (std::vector<float>{0.5f, 2, 1.5f, -8}));
  });
}

TEST(LogitsProcessors, pass_over_tokens_that_are_not_there) {
  by_every_backend([] {
    const auto x = row_of({1, 2, 3});
    const auto tokens = ids_of({-1, 3, 1 << 30, std::numeric_limits<int>::min(), 1});
    const PenaltyOptions options{.logit_bias = {{3, 1.f}, {1 << 30, 1.f}},
                                 .repetition_penalty = 4,
                                 .repetition_context_size = 0,
                                 .presence_penalty = 0.25f,
                                 .frequency_penalty = 0.125f};
    EXPECT_EQ(processed(options, tokens, x), (std::vector<float>{1, 0.125f, 3}));
    EXPECT_EQ(processed(options, ids_of({}), x), (std::vector<float>{1, 2, 3})) << "no tokens yet";
    EXPECT_EQ(processed({.logit_bias = {{2, -kInfinity}}}, tokens, x)[2], -kInfinity);
  });
}

TEST(LogitsProcessors, are_only_those_that_do_something) {
  EXPECT_TRUE(make_logits_processors({}).empty());
  EXPECT_TRUE(make_logits_processors({.repetition_penalty = 1}).empty());
  EXPECT_EQ(make_logits_processors({.logit_bias = {{1, 0.f}}, .frequency_penalty = -1}).size(), 2u);
}

TEST(LogitsProcessors, refuse_options_out_of_range) {
  const auto refused = [](const PenaltyOptions& o, const std::string& name) {
    try {
      make_logits_processors(o);
      ADD_FAILURE() << name;
    } catch (const RequestError& e) {
      EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
    }
  };
  refused({.logit_bias = {{-1, 1.f}}}, "logit-bias");
  refused({.logit_bias = {{1, kNaN}}}, "logit-bias");
  refused({.logit_bias = {{1, kInfinity}}}, "logit-bias");
  refused({.repetition_penalty = -1}, "repetition-penalty");
  refused({.repetition_penalty = kNaN}, "repetition-penalty");
  refused({.repetition_penalty = kInfinity}, "repetition-penalty");
  refused({.presence_penalty = kInfinity}, "presence-penalty");
  refused({.frequency_penalty = kNaN}, "frequency-penalty");
  refused({.repetition_context_size = -1}, "repetition-context-size");
  refused({.presence_context_size = -1}, "presence-context-size");
  refused({.frequency_context_size = -1}, "frequency-context-size");
  EXPECT_THROW(make_repetition_penalty(0), RequestError);
  const PenaltyOptions beyond{.logit_bias = {{99, 1.f}, {100, 1.f}}};
  beyond.validate();
  beyond.validate(101);
  EXPECT_THROW(beyond.validate(100), RequestError);
}

}  // namespace
}  // namespace mlx_lm::sample
