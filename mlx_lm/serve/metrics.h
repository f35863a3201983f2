// What the server counts and measures, for Prometheus.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

namespace mlx_lm::serve {

// Threads: any.
class Metrics {
 public:
  Metrics();

  // As GET /metrics gives it.
  std::string text() const;
  // An answer to a request was complete.
  void count_answer(const std::string& route, int status);

 private:
  std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Family<prometheus::Counter>& answers_;
  prometheus::Family<prometheus::Counter>& cached_;

 public:
  prometheus::Counter& prompt_tokens;      // of prompts, those found in the prefix cache included
  prometheus::Counter& cached_tokens;      // of these, found in the prefix cache
  prometheus::Counter& generation_tokens;  // handed out
  prometheus::Counter& cache_hits;         // prompts of which a part was found
  prometheus::Counter& cache_misses;
  prometheus::Counter& cancelled;     // texts whose client went, or whose server stopped
  prometheus::Counter& failed;        // texts that failed while they were computed
  prometheus::Gauge& waiting;         // texts that wait
  prometheus::Gauge& running;         // texts under way
  prometheus::Gauge& batch_tokens;    // texts of the last step that made tokens
  prometheus::Gauge& reserved_bytes;  // that texts under way may come to take
  prometheus::Gauge& text_bytes;      // of their caches
  prometheus::Gauge& cache_bytes;     // of the prefix cache
  prometheus::Gauge& resident_bytes;  // of the process
  prometheus::Histogram& queue_seconds;
  prometheus::Histogram& first_token_seconds;  // since the request was read
  prometheus::Histogram& inter_token_seconds;
  prometheus::Histogram& answer_seconds;
};

}  // namespace mlx_lm::serve
