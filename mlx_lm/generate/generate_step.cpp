#include "mlx_lm/generate/generate_step.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/speculative.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/ops/ops.h"

namespace mlx_lm {
namespace {

// Steps after which MLX's pool of freed buffers is emptied: their sizes change as the cache grows.
constexpr int kClearCacheEvery = 256;

struct Sampled {
  mx::array token;     // (1)
  mx::array logprobs;  // (V)

  // A step under way is waited for: MLX frees the memory of a dropped array at once, though its thread is yet to write
  // it, and a program that ends takes the allocator from under that thread. Its failure is nobody's any more.
  ~Sampled() {
    try {
      token.wait();
    } catch (...) {
    }
  }
};

// tokens: (1, 1). history: all tokens up to these, if there are processors.
Sampled step(const mx::array& tokens, const std::optional<mx::array>& history, const models::LanguageModel& model,
             cache::KVCaches& caches, const StepOptions& o) {
  auto logits = model(tokens, caches);  // (1, 1, V)
  quantize_kv(caches, o);
  const int vocabulary = logits.shape(2);
  logits = mx::reshape(logits, {1, vocabulary});
  for (const auto& processor : o.logits_processors) logits = processor(*history, logits);
  auto token = o.sampler ? o.sampler(logits) : ops::argmax(logits);
  join(caches, {&logits, &token});
  // Choosing a token needs no probabilities, so none are computed unless somebody looks.
  auto logprobs = mx::subtract(logits, mx::logsumexp(logits, -1, /* keepdims */ true));
  return {std::move(token), mx::reshape(logprobs, {vocabulary})};
}

}  // namespace

void StepOptions::validate() const {
  if (max_tokens < -1) fail<RequestError>("[generate] max-tokens: expected -1 or more, found {}", max_tokens);
  if (max_kv_size < 0) fail<RequestError>("[generate] max-kv-size: expected at least 0, found {}", max_kv_size);
  ops::KVFormat{kv_bits, kv_group_size}.validate();
  if (quantized_kv_start < 0) {
    fail<RequestError>("[generate] quantized-kv-start: expected at least 0, found {}", quantized_kv_start);
  }
  if (prefill_step_size < 1)
    fail<RequestError>("[generate] prefill-step-size: expected at least 1, found {}", prefill_step_size);
  if (num_draft_tokens < 1)
    fail<RequestError>("[generate] num-draft-tokens: expected at least 1, found {}", num_draft_tokens);
}

cache::KVCaches own_caches(const std::vector<int>& prompt, const models::LanguageModel& model, const StepOptions& o) {
  o.validate();
  if (prompt.empty()) fail<RequestError>("[generate] prompt: expected at least one token, found none");
  auto own = model.make_cache(o.prompt_cache ? 0 : o.max_kv_size);
  if (o.prompt_cache && o.prompt_cache->size() != own.size()) {
    fail<RequestError>("[generate] prompt_cache: expected {} layers, found {}", own.size(), o.prompt_cache->size());
  }
  return own;
}

Generator<Step> generate_step(std::vector<int> prompt, const models::LanguageModel& model, StepOptions o) {
  if (o.drafter || o.constraint) {
    for (auto& step : speculative_generate_step(std::move(prompt), model, std::move(o))) co_yield step;
    co_return;
  }
  auto own = own_caches(prompt, model, o);
  cache::KVCaches& caches = o.prompt_cache ? *o.prompt_cache : own;
  const int total = int(prompt.size());
  const auto told = [&](int processed) {
    if (o.prompt_progress_callback) o.prompt_progress_callback(processed, total);
    return !o.stop.stop_requested();
  };
  if (!told(0)) co_return;
  const auto last = prefill(prompt, model, caches, o, told);
  if (o.stop.stop_requested()) co_return;

  std::optional<mx::array> history;
  if (!o.logits_processors.empty()) history = mx::array(prompt.begin(), {total}, mx::int32);
  auto current = step(last, history, model, caches, o);
  mx::async_eval(current.token);
  if (o.max_tokens == 0) {  // the prompt is wanted in the cache, and nothing more
    mx::eval(current.token);
    told(total);
  }
  for (int n = 0; n != o.max_tokens; ++n) {
    // The step after the last token is for caches only that somebody goes on with.
    const bool more = n + 1 != o.max_tokens || o.prompt_cache;
    if (more && history) history = mx::concatenate({*history, mx::astype(current.token, mx::int32)});
    Sampled next = more ? step(mx::reshape(current.token, {1, 1}), history, model, caches, o) : Sampled(current);
    if (more) mx::async_eval(next.token);
    const int token = int(current.token.item<uint32_t>());
    if (n == 0) told(total);
    Step made{token, current.logprobs};
    co_yield made;
    if (o.stop.stop_requested()) break;
    if (n % kClearCacheEvery == kClearCacheEvery - 1) mx::clear_cache();
    std::swap(current.token, next.token);
    std::swap(current.logprobs, next.logprobs);
  }
}

}  // namespace mlx_lm
