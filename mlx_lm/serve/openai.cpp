#include "mlx_lm/serve/openai.h"

#include <random>
#include <utility>

#include <fmt/format.h>

namespace mlx_lm::serve {

using json = Json;

std::string random_id(const std::string& prefix) {
  static thread_local std::random_device random;
  return fmt::format("{}{:08x}{:08x}{:08x}{:08x}", prefix, random(), random(), random(), random());
}

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

json to_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

void cancel_when_gone(const Api& api, HttpExchange& exchange, std::vector<int> numbers) {
  exchange.on_gone([&engine = api.engine, numbers = std::move(numbers)] { engine.cancel(numbers); });
}

void send_error(HttpExchange& exchange, const ApiError& error) { send_error(exchange, error, error.body()); }

void send_error(HttpExchange& exchange, const ApiError& error, const json& body) {
  HttpAnswer answer{.status = error.status(), .body = dump(body)};
  if (error.retry_after) answer.headers.emplace_back("Retry-After", std::to_string(*error.retry_after));
  exchange.send(std::move(answer));
}

void EventStream::write(std::string text) {
  if (std::exchange(begun_, true)) return exchange_->write(std::move(text));
  exchange_->begin({.content_type = "text/event-stream",
                    .body = std::move(text),
                    .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}});
}

void EventStream::progress(int processed, int total) { write(fmt::format(": keepalive {}/{}\n\n", processed, total)); }

void EventStream::finish() {
  write("data: [DONE]\n\n");
  exchange_->end();
}

void EventStream::fail(const ApiError& error) {
  if (!begun_) return send_error(*exchange_, error);
  send(error.body());
  exchange_->end();
}

}  // namespace mlx_lm::serve
