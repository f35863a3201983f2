#include "mlx_lm/sample/logits_processors.h"

#include <cmath>
#include <memory>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/sampling.h"

namespace mlx_lm::sample {
namespace {

using ops::Adjustment;

void expect_number(const char* option, float value) {
  if (!std::isfinite(value)) fail<RequestError>("[sample] {}: expected a number, found {}", option, value);
}

void expect_context(const char* option, int size) {
  if (size < 0) fail<RequestError>("[sample] {}: expected at least 0, found {}", option, size);
}

// How often each token of the vocabulary is in the context. (V) int32.
mx::array counts(const mx::array& tokens, int context_size, int vocabulary) {
  const int n = int(tokens.size()), begin = context_size == 0 ? 0 : std::max(0, n - context_size);
  const auto last = mx::slice(tokens, {begin}, {n});
  // What is outside of the vocabulary is counted past its end: MLX checks no index.
  const auto outside = mx::array(vocabulary);
  const auto known = mx::logical_and(mx::greater_equal(last, mx::array(0)), mx::less(last, outside));
  const auto all = mx::scatter_add_axis(mx::zeros({vocabulary + 1}, mx::int32), mx::where(known, last, outside),
                                        mx::ones({n - begin}, mx::int32), 0);
  return mx::slice(all, {0}, {vocabulary});
}

mx::array by_mlx(const mx::array& tokens, const mx::array& logits, const Adjustment& a) {
  const int vocabulary = logits.shape(-1);
  const auto number = [&](float value) { return mx::array(value, logits.dtype()); };
  if (a.kind == Adjustment::Kind::bias) {
    std::vector<int32_t> ids;
    std::vector<float> values;
    for (const auto& [id, value] : a.bias) {
      if (id < vocabulary) ids.push_back(id), values.push_back(value);
    }
    if (ids.empty()) return logits;
    const int n = int(ids.size());
    const auto biases = mx::scatter_add_axis(mx::zeros({vocabulary}, logits.dtype()), mx::array(ids.begin(), {n}),
                                             mx::array(values.begin(), {n}, logits.dtype()), 0);
    return logits + biases;
  }
  if (tokens.size() == 0) return logits;
  const auto times = counts(tokens, a.context_size, vocabulary), there = mx::greater(times, mx::array(0));
  switch (a.kind) {
    case Adjustment::Kind::repetition: {
      const auto p = number(a.penalty);
      return mx::where(there, mx::where(mx::less(logits, number(0)), logits * p, logits / p), logits);
    }
    case Adjustment::Kind::presence:
      return mx::where(there, logits - number(a.penalty), logits);
    default:
      return logits - mx::astype(times, logits.dtype()) * number(a.penalty);
  }
}

LogitsProcessor make(Adjustment adjustment) {
  return [a = std::make_shared<const Adjustment>(std::move(adjustment))](const mx::array& tokens,
                                                                         const mx::array& logits) {
    return ops::backend() == ops::Backend::kernels ? ops::adjust(logits, tokens, a) : by_mlx(tokens, logits, *a);
  };
}

}  // namespace

void PenaltyOptions::validate(int vocab_size) const {
  for (const auto& [id, bias] : logit_bias) {
    if (id < 0 || id >= vocab_size) {
      const auto range =
          vocab_size == std::numeric_limits<int>::max() ? "of at least 0" : fmt::format("from 0 to {}", vocab_size - 1);
      fail<RequestError>("[sample] logit-bias: expected token ids {}, found {}", range, id);
    }
    if (std::isnan(bias) || bias == std::numeric_limits<float>::infinity()) {
      fail<RequestError>("[sample] logit-bias: expected a number for token {}, found {}", id, bias);
    }
  }
  if (!(repetition_penalty >= 0 && std::isfinite(repetition_penalty))) {
    fail<RequestError>("[sample] repetition-penalty: expected a number of at least 0, found {}", repetition_penalty);
  }
  expect_number("presence-penalty", presence_penalty);
  expect_number("frequency-penalty", frequency_penalty);
  expect_context("repetition-context-size", repetition_context_size);
  expect_context("presence-context-size", presence_context_size);
  expect_context("frequency-context-size", frequency_context_size);
}

std::vector<LogitsProcessor> make_logits_processors(const PenaltyOptions& o) {
  o.validate();
  std::vector<LogitsProcessor> all;
  if (!o.logit_bias.empty()) all.push_back(make_logit_bias(o.logit_bias));
  if (o.repetition_penalty != 0 && o.repetition_penalty != 1) {
    all.push_back(make_repetition_penalty(o.repetition_penalty, o.repetition_context_size));
  }
  if (o.presence_penalty != 0) all.push_back(make_presence_penalty(o.presence_penalty, o.presence_context_size));
  if (o.frequency_penalty != 0) all.push_back(make_frequency_penalty(o.frequency_penalty, o.frequency_context_size));
  return all;
}

LogitsProcessor make_logit_bias(const std::map<int, float>& logit_bias) {
  PenaltyOptions{.logit_bias = logit_bias}.validate();
  return make({.kind = Adjustment::Kind::bias, .bias = {logit_bias.begin(), logit_bias.end()}});
}

LogitsProcessor make_repetition_penalty(float penalty, int context_size) {
  PenaltyOptions{.repetition_penalty = penalty, .repetition_context_size = context_size}.validate();
  if (penalty == 0) fail<RequestError>("[sample] repetition-penalty: expected a number above 0, found 0");
  return make({.kind = Adjustment::Kind::repetition, .penalty = penalty, .context_size = context_size});
}

LogitsProcessor make_presence_penalty(float penalty, int context_size) {
  PenaltyOptions{.presence_penalty = penalty, .presence_context_size = context_size}.validate();
  return make({.kind = Adjustment::Kind::presence, .penalty = penalty, .context_size = context_size});
}

LogitsProcessor make_frequency_penalty(float penalty, int context_size) {
  PenaltyOptions{.frequency_penalty = penalty, .frequency_context_size = context_size}.validate();
  return make({.kind = Adjustment::Kind::frequency, .penalty = penalty, .context_size = context_size});
}

}  // namespace mlx_lm::sample
