// HTTP as the rest of the server sees it: a request in, an answer out, at once or piece by piece.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlx_lm::serve {

struct HttpRequest {
  std::string method;                          // "GET", for HEAD too
  std::string path;                            // percent-decoded, without the query: "/v1/models"
  std::string query;                           // as it came, without "?"
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::string id;  // what this request is called in headers, logs and errors: the client's x-request-id, or a new one

  // Empty when the request has none.
  std::string_view header(const std::string& lower_case_name) const;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpAnswer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers = {};  // besides those that every answer has
};

// Where a request's answer goes: either send(), or begin() and then write() until end(). What is said after the client
// has gone is dropped. An exchange that is let go of without an answer sends 500. Threads: any.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;

  virtual void send(HttpAnswer answer) = 0;
  // answer.body: the first piece, perhaps empty.
  virtual void begin(HttpAnswer answer) = 0;
  virtual void write(std::string piece) = 0;
  virtual void end() = 0;

  // Calls back once if the client goes (or reads so slowly that it has to) before the answer is complete; at once if it
  // has gone already. The callback may run on any thread and must be quick.
  virtual void on_gone(std::function<void()> callback) = 0;
};

// Takes a request, on a thread of the server, which it must not keep: what takes time answers later.
// Errors: an exception that leaves it becomes the answer (see ApiError), or 500.
using HttpHandler = std::function<void(std::shared_ptr<HttpExchange>)>;

}  // namespace mlx_lm::serve
