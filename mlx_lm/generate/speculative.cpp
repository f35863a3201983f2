#include "mlx_lm/generate/speculative.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/generate/token_chooser.h"
#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/ops.h"
#include "mlx_lm/sample/constraint.h"

namespace mlx_lm {
namespace {

// The logits after each token of a step, and the likeliest tokens where nothing else chooses.
struct Checked {
  mx::array logits;                 // (m, V)
  std::optional<mx::array> tokens;  // (m)
};

// tokens: (1, m).
Checked check(const mx::array& tokens, const models::LanguageModel& model, cache::KVCaches& caches,
              const StepOptions& o, bool greedy) {
  const int m = tokens.shape(1);
  auto logits = model(tokens, caches);  // (1, m, V)
  quantize_kv(caches, o);
  std::optional<mx::array> likeliest;
  if (greedy) {
    likeliest = ops::argmax(logits);
    join(caches, {&logits, &*likeliest});
    likeliest = mx::reshape(*likeliest, {m});
  } else {
    join(caches, {&logits});
  }
  return {mx::reshape(logits, {m, logits.shape(2)}), std::move(likeliest)};
}

mx::array to_array(const std::vector<int>& tokens) {
  return mx::array(tokens.data(), {1, int(tokens.size())}, mx::int32);
}

// The step of one token after the one that runs, built beside it for a token that is not known yet: to build a step
// takes a tenth of its time. For our kernels only, which write into the caches' buffers whoever else holds them.
class StepAhead {
 public:
  void build(const models::LanguageModel& model, cache::KVCaches& caches, const StepOptions& o) {
    if (ops::backend() != ops::Backend::kernels) return;
    before_ = cache::shallow_copy(caches);
    token_ = to_array({0});
    checked_ = check(token_, model, caches, o, /* greedy */ false);
  }
  // With its token, to be evaluated; none if there is no such step.
  std::optional<Checked> with(int token) {
    if (checked_) token_.data<int32_t>()[0] = token;
    return std::exchange(checked_, std::nullopt);
  }
  // It is not to be: the caches are what they were before.
  void drop(cache::KVCaches& caches) {
    if (checked_) caches = std::move(before_);
    checked_.reset();
  }

 private:
  cache::KVCaches before_;
  mx::array token_ = to_array({0});
  std::optional<Checked> checked_;
};

mx::array row(const mx::array& x, int i) { return mx::slice(x, {i, 0}, {i + 1, x.shape(1)}); }

// Takes back what the caches hold and nobody was given.
struct Surplus {
  cache::KVCaches& caches;
  StepAhead& ahead;
  int tokens = 0;

  ~Surplus() {
    ahead.drop(caches);
    cache::trim(caches, tokens);
  }
};

}  // namespace

int DraftLength::next() {
  int n = most_;
  if (acceptance_ < 0.99) n = std::min(n, int(std::log(cost_) / std::log(acceptance_)));
  if (n > 0 || ++rests_ % 16 == 0) return std::max(n, 1);
  return 0;
}

void DraftLength::learn(int drafted, int accepted) {
  for (int i = 0; i < std::min(drafted, accepted + 1); ++i) acceptance_ += 0.1 * ((i < accepted) - acceptance_);
  acceptance_ = std::max(acceptance_, 0.01);
}

Generator<Step> speculative_generate_step(std::vector<int> prompt, const models::LanguageModel& model, StepOptions o) {
  auto own = own_caches(prompt, model, o);
  cache::KVCaches& caches = o.prompt_cache ? *o.prompt_cache : own;
  auto text = std::move(prompt);
  const int total = int(text.size());
  const auto told = [&](int processed) {
    if (o.prompt_progress_callback) o.prompt_progress_callback(processed, total);
    return !o.stop.stop_requested();
  };
  if (!told(0)) co_return;
  prefill(text, model, caches, o, told);
  if (o.stop.stop_requested()) co_return;

  const bool greedy = !o.sampler && o.logits_processors.empty() && !o.constraint;
  TokenChooser chooser(o.constraint, o.logits_processors, o.sampler, o.max_tokens);
  DraftLength length(o.num_draft_tokens, kTokenCost + (o.drafter ? o.drafter->cost() : 0));
  const auto is_done = [&] { return o.constraint && o.constraint->is_done(); };
  if (o.max_tokens == 0) {  // the prompt is wanted in the cache, and nothing more
    mx::eval(check(to_array({text.back()}), model, caches, o, false).logits);
    told(total);
  }
  StepAhead ahead;
  Surplus surplus{caches, ahead};
  for (int made = 0; made != o.max_tokens && !is_done() && !o.stop.stop_requested();) {
    const int left = o.max_tokens < 0 ? std::numeric_limits<int>::max() : o.max_tokens - made;
    const int most = std::min(left, cache::draftable(caches)) - 1;
    const auto guesses = chooser.guess(text, o.drafter, o.drafter ? length.next() : 0, most);
    const auto& drafts = guesses.tokens;
    const int fixed = guesses.fixed, drafted = int(drafts.size()) - fixed;
    if (fixed > 0) ahead.drop(caches);
    auto input = drafts;
    input.insert(input.begin(), text.back());

    if (o.constraint && fixed == 0) o.constraint->prepare();  // beside the model
    auto built = ahead.with(text.back());
    auto checked = built ? std::move(*built) : check(to_array(input), model, caches, o, greedy);
    mx::async_eval(checked.tokens ? *checked.tokens : checked.logits);
    if (o.constraint && !o.drafter && left > int(input.size())) ahead.build(model, caches, o);
    mx::eval(checked.tokens ? *checked.tokens : checked.logits);
    if (made == 0) told(total);

    std::vector<Step> steps;
    for (size_t i = 0; i < input.size() && !is_done(); ++i) {
      auto logits = row(checked.logits, int(i));
      const int after = left - 1 - int(i);
      const int token = int(i) < fixed   ? chooser.take(drafts[i])
                        : checked.tokens ? int(checked.tokens->data<uint32_t>()[i])
                                         : chooser.choose(text, logits, after);
      const bool right = i < drafts.size() && token == drafts[i];
      text.push_back(token);
      auto logprobs = mx::reshape(logits - mx::logsumexp(logits, -1, /* keepdims */ true), {-1});
      steps.push_back({token, std::move(logprobs), right});
      if (!right) break;
    }
    const int accepted = int(steps.size()) - 1;
    if (drafted > 0) length.learn(drafted, std::min(drafted, accepted - fixed));
    if (const int rejected = int(input.size() - steps.size()); rejected > 0) {
      ahead.drop(caches);
      cache::trim(caches, rejected);
    }
    // Left from here on, the caches hold what was handed out but the newest.
    surplus.tokens = accepted;
    for (auto& step : steps) {
      co_yield step;
      if (o.stop.stop_requested()) co_return;
      surplus.tokens -= 1;
    }
    surplus.tokens = 0;
    made += int(steps.size());
  }
}

}  // namespace mlx_lm
