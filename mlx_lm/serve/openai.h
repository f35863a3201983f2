// What OpenAI's endpoints have in common: ids, counts, log-probabilities, streams of events.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx_lm/serve/answer.h"
#include "mlx_lm/serve/api.h"

namespace mlx_lm::serve {

// "chatcmpl-" and 32 random digits.
std::string random_id(const std::string& prefix);
// A body's text; what is not UTF-8 in it is replaced.
std::string dump(const Json& value);
Json to_json(const Usage& usage);
// Ends the texts when the client goes.
void cancel_when_gone(const Api& api, HttpExchange& exchange, std::vector<int> numbers);
void send_error(HttpExchange& exchange, const ApiError& error);
// With a body of another form.
void send_error(HttpExchange& exchange, const ApiError& error, const Json& body);

// A stream of server-sent events, begun with the first of them, so that an error before it has a status of its own.
class EventStream {
 public:
  explicit EventStream(std::shared_ptr<HttpExchange> exchange) : exchange_(std::move(exchange)) {}

  bool begun() const { return begun_; }
  HttpExchange& exchange() { return *exchange_; }
  // data: {...}
  void send(const Json& event) { write("data: " + dump(event) + "\n\n"); }
  // What clients pass over, which keeps the connection alive. Source: mlx_lm/server.py.
  void progress(int processed, int total);
  // event: NAME, data: {...}
  void send(const std::string& name, const Json& event) { write("event: " + name + "\ndata: " + dump(event) + "\n\n"); }
  // data: [DONE]
  void finish();
  // The end without that.
  void end() { exchange_->end(); }
  // As an answer or, in a stream that has begun, an event; the end of it.
  void fail(const ApiError& error);

 private:
  void write(std::string text);

  std::shared_ptr<HttpExchange> exchange_;
  bool begun_ = false;
};

}  // namespace mlx_lm::serve
