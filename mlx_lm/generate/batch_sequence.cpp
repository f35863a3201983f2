#include "mlx_lm/generate/batch_sequence.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "mlx_lm/ops/ops.h"

namespace mlx_lm {

void BatchGenerator::Sequence::choose(const mx::array& input, mx::array& logits, mx::array& token) {
  auto& o = options;
  if (!o.logits_processors.empty()) {
    if (started == 0) {
      auto all = std::move(o.cached_tokens);
      all.insert(all.end(), prompt.begin(), prompt.end());
      history = mx::array(all.begin(), {int(all.size())}, mx::int32);
    } else {
      history = mx::concatenate({*history, input});
    }
  }
  for (const auto& processor : o.logits_processors) logits = processor(*history, logits);
  token = mx::reshape(o.sampler ? o.sampler(logits) : ops::argmax(logits), {1});
}

TokenChooser::Guesses BatchGenerator::Sequence::guess(bool drafting) {
  const auto& o = options;
  if (wants_snapshot(int(prompt.size()))) return {{}, 0};  // of the prompt and nothing more
  const int left = o.max_tokens < 0 ? std::numeric_limits<int>::max() : o.max_tokens - made;
  const int most = std::max(0, std::min(left, cache::draftable(caches)) - 1);
  auto* const drafter = drafting ? o.drafter.get() : nullptr;
  auto guesses = chooser->guess(text, drafter, drafter ? draft_length->next() : 0, most);
  if (o.constraint && guesses.fixed == 0) o.constraint->prepare();  // beside the model
  return guesses;
}

BatchGenerator::Response BatchGenerator::Sequence::finish(int token, const mx::array& logits, bool may_end) {
  const auto& o = options;
  const auto logprobs = mx::reshape(logits - mx::logsumexp(logits, -1, /* keepdims */ true), {-1});
  Response response{uid, token, logprobs, {}, {}};
  made += 1;
  newest = token;
  if (!may_end) return response;
  if (o.stop_tokens.contains(token) || (o.constraint && o.constraint->is_done())) {
    response.finish_reason = FinishReason::stop;
  } else if (made == o.max_tokens) {
    response.finish_reason = FinishReason::length;
  }
  if (response.finish_reason) {
    if (o.return_cache) response.caches = std::move(caches);
    end();
  }
  return response;
}

void BatchGenerator::Sequence::check(const Step& step, size_t i, int at, std::vector<Response>& responses) {
  const auto& o = options;
  const auto& [guesses, fixed] = step.guesses[i];
  const int count = 1 + int(guesses.size());
  const auto own = step.logits.size() < step.sequences.size() ? rows(step.logits[0], at, count) : step.logits[i];
  const auto* likeliest = step.tokens.data<uint32_t>() + at;
  std::vector<std::pair<int, mx::array>> tokens;
  for (int k = 0; k < count; ++k) {
    auto logits = rows(own, k);
    const int left = o.max_tokens < 0 ? std::numeric_limits<int>::max() : o.max_tokens - made - k - 1;
    const int token = k < fixed  ? chooser->take(guesses[k])
                      : greedy() ? int(likeliest[k])
                                 : chooser->choose(text, logits, left);
    text.push_back(token);
    tokens.emplace_back(token, std::move(logits));
    const bool is_last = left == 0 || o.stop_tokens.contains(token) || (o.constraint && o.constraint->is_done());
    if (is_last || k + 1 == count || token != guesses[k]) break;
  }
  const int accepted = int(tokens.size()) - 1, drafted = count - 1 - fixed;
  if (drafted > 0) draft_length->learn(drafted, std::max(0, accepted - fixed));
  cache::trim(caches, count - int(tokens.size()));
  for (size_t k = 0; k < tokens.size(); ++k) {
    responses.push_back(finish(tokens[k].first, tokens[k].second, k + 1 == tokens.size()));
  }
  started = made;
}

}  // namespace mlx_lm
