#include "mlx_lm/generate/generate_step.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "mlx_lm/base/error.h"
#include "mlx_lm/generate/steps.h"
#include "mlx_lm/ops/ops.h"

namespace mlx_lm {
namespace {

// Steps after which MLX's pool of freed buffers is emptied: their sizes change as the cache grows.
constexpr int kClearCacheEvery = 256;

mx::array to_tokens(const int* begin, int n) { return mx::array(begin, {1, n}, mx::int32); }

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

// tokens: (1, 1).
Sampled step(const mx::array& tokens, const models::LanguageModel& model, cache::KVCaches& caches,
             const StepOptions& o) {
  auto logits = model(tokens, caches);  // (1, 1, V)
  quantize_kv(caches, o);
  const int vocabulary = logits.shape(2);
  // The likeliest token needs no probabilities, so none are computed unless somebody looks.
  std::optional<mx::array> token;
  if (o.sampler) {
    join(caches, {&logits});
  } else {
    token = ops::argmax(logits);
    join(caches, {&logits, &*token});
  }
  logits = mx::reshape(logits, {1, vocabulary});
  auto logprobs = mx::subtract(logits, mx::logsumexp(logits, -1, /* keepdims */ true));
  token = o.sampler ? o.sampler(logprobs) : mx::reshape(*token, {1});
  return {std::move(*token), mx::reshape(logprobs, {vocabulary})};
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
}

Generator<Step> generate_step(std::vector<int> prompt, const models::LanguageModel& model, StepOptions o) {
  o.validate();
  if (prompt.empty()) fail<RequestError>("[generate] prompt: expected at least one token, found none");
  auto own = model.make_cache(o.prompt_cache ? 0 : o.max_kv_size);
  if (o.prompt_cache && o.prompt_cache->size() != own.size()) {
    fail<RequestError>("[generate] prompt_cache: expected {} layers, found {}", own.size(), o.prompt_cache->size());
  }
  cache::KVCaches& caches = o.prompt_cache ? *o.prompt_cache : own;
  const int total = int(prompt.size());
  const auto report = [&](int processed) {
    if (o.prompt_progress_callback) o.prompt_progress_callback(processed, total);
  };

  report(0);
  int processed = 0;
  while (processed < total - 1) {
    if (o.stop.stop_requested()) co_return;
    const int n = std::min(o.prefill_step_size, total - 1 - processed);
    // The logits are never asked for, so neither the output layer nor the last layer's MLP is computed.
    model(to_tokens(prompt.data() + processed, n), caches);
    quantize_kv(caches, o);
    join(caches);
    eval_state(caches);
    mx::clear_cache();
    processed += n;
    report(processed);
  }
  if (o.stop.stop_requested()) co_return;

  auto current = step(to_tokens(prompt.data() + processed, 1), model, caches, o);
  mx::async_eval(current.token);
  if (o.max_tokens == 0) {  // the prompt is wanted in the cache, and nothing more
    mx::eval(current.token);
    report(total);
  }
  for (int n = 0; n != o.max_tokens; ++n) {
    // The step after the last token is for caches only that somebody goes on with.
    const bool more = n + 1 != o.max_tokens || o.prompt_cache;
    Sampled next = more ? step(mx::reshape(current.token, {1, 1}), model, caches, o) : Sampled(current);
    if (more) mx::async_eval(next.token);
    const int token = int(current.token.item<uint32_t>());
    if (n == 0) report(total);
    Step made{token, current.logprobs};
    co_yield made;
    if (o.stop.stop_requested()) break;
    if (n % kClearCacheEvery == kClearCacheEvery - 1) mx::clear_cache();
    std::swap(current.token, next.token);
    std::swap(current.logprobs, next.logprobs);
  }
}

}  // namespace mlx_lm
