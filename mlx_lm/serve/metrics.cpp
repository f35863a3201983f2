#include "mlx_lm/serve/metrics.h"

#include <prometheus/text_serializer.h>

namespace mlx_lm::serve {
namespace {

using prometheus::Histogram;
using prometheus::Registry;

prometheus::Family<prometheus::Counter>& counters(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
prometheus::Counter& counter(Registry& registry, const char* name, const char* help) {
  return counters(registry, name, help).Add({});
}
prometheus::Gauge& gauge(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}
prometheus::Histogram& histogram(Registry& registry, const char* name, const char* help,
                                 const Histogram::BucketBoundaries& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

// Seconds.
const Histogram::BucketBoundaries kShort{0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5};
const Histogram::BucketBoundaries kLong{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300};

}  // namespace

Metrics::Metrics()
    : registry_(std::make_shared<Registry>()),
      answers_(counters(*registry_, "mlx_lm_http_answers_total", "Answers to requests, by route and status")),
      cached_(counters(*registry_, "mlx_lm_prefix_cache_lookups_total", "Prompts looked up in the prefix cache")),
      prompt_tokens(counter(*registry_, "mlx_lm_prompt_tokens_total", "Tokens of prompts")),
      cached_tokens(counter(*registry_, "mlx_lm_cached_prompt_tokens_total",
                            "Tokens of prompts that were found in the prefix cache")),
      generation_tokens(counter(*registry_, "mlx_lm_generation_tokens_total", "Tokens generated")),
      cache_hits(cached_.Add({{"result", "hit"}})),
      cache_misses(cached_.Add({{"result", "miss"}})),
      cancelled(counter(*registry_, "mlx_lm_texts_cancelled_total", "Texts that were ended from outside")),
      failed(counter(*registry_, "mlx_lm_texts_failed_total", "Texts that failed while they were computed")),
      waiting(gauge(*registry_, "mlx_lm_texts_waiting", "Texts in the queue")),
      running(gauge(*registry_, "mlx_lm_texts_running", "Texts under way")),
      batch_tokens(gauge(*registry_, "mlx_lm_batch_size", "Tokens that the last step made")),
      reserved_bytes(gauge(*registry_, "mlx_lm_reserved_bytes", "Memory that texts under way may come to take")),
      text_bytes(gauge(*registry_, "mlx_lm_text_cache_bytes", "Memory of the caches of texts under way")),
      cache_bytes(gauge(*registry_, "mlx_lm_prefix_cache_bytes", "Memory of the prefix cache")),
      resident_bytes(gauge(*registry_, "mlx_lm_resident_bytes", "Memory of the process")),
      queue_seconds(histogram(*registry_, "mlx_lm_queue_seconds", "Time in the queue", kLong)),
      first_token_seconds(
          histogram(*registry_, "mlx_lm_time_to_first_token_seconds", "From submission to the first token", kLong)),
      inter_token_seconds(
          histogram(*registry_, "mlx_lm_inter_token_seconds", "From a text's token to the next", kShort)),
      answer_seconds(histogram(*registry_, "mlx_lm_text_seconds", "From submission to the end", kLong)) {}

std::string Metrics::text() const { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

void Metrics::count_answer(const std::string& route, int status) {
  answers_.Add({{"route", route}, {"status", std::to_string(status)}}).Increment();
}

}  // namespace mlx_lm::serve
