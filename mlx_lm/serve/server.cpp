#include "mlx_lm/serve/server.h"

#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <exception>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "mlx_lm/serve/api.h"
#include "mlx_lm/serve/http_server.h"
#include "mlx_lm/serve/metrics.h"
#include "mlx_lm/serve/openai.h"
#include "mlx_lm/serve/page.h"

namespace mlx_lm::serve {
namespace {

using json = Json;
using Exchange = std::shared_ptr<HttpExchange>;

const std::string kOneModel = "/v1/models/";  // and its id

constexpr double kAlive = 60;  // seconds that a step of the engine may take

// Runs what may take time, and turns what it throws into the answer.
template <class F>
void answer(HttpExchange& exchange, const F& function) {
  try {
    function();
  } catch (const ApiError& error) {
    send_error(exchange, error);
  } catch (const RequestError& error) {
    send_error(exchange, ApiError(400, error.what()));
  } catch (const std::exception& error) {
    send_error(exchange, ApiError(500, fmt::format("request {}: {}", exchange.request().id, error.what())));
  }
}

// Bytes of memory that the process holds.
double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t all = 0, resident = 0;
  file >> all >> resident;
  return double(resident) * double(::sysconf(_SC_PAGESIZE));
}

}  // namespace

class Server::Router {
 public:
  explicit Router(ServerOptions options)
      : engine_(options.engine, metrics_),
        models_(with_settling(std::move(options.models))),
        api_{engine_, models_, options.defaults},
        page_(options.page),
        workers_(2),
        embedder_(1),
        server_(counted(std::move(options.http)), [this](Exchange exchange) { route(std::move(exchange)); }) {
    const auto post = [this](const char* path, Route::Function function, bool alias = true) {
      routes_[path] = {"POST", function, &workers_};
      if (alias) routes_[std::string(path).substr(3)] = {"POST", function, &workers_};  // mlx-lm's, without /v1
    };
    post("/v1/chat/completions", [this](const Exchange& e) { chat_completions(api_, e); });
    post(
        "/v1/completions", [this](const Exchange& e) { completions(api_, e); }, false);
    post(
        "/v1/responses", [this](const Exchange& e) { responses(api_, e); }, false);
    post(
        "/v1/messages", [this](const Exchange& e) { messages(api_, e); }, false);
    post(
        "/v1/messages/count_tokens", [this](const Exchange& e) { count_tokens(api_, e); }, false);
    routes_["/v1/embeddings"] = {"POST", [this](const Exchange& e) { embeddings(api_, e); }, &embedder_};
    routes_["/v1/models"] = {"GET", [this](const Exchange& e) { list_models(*e); }, nullptr};
    routes_[kOneModel] = {"GET", [this](const Exchange& e) { one_model(*e); }, nullptr};
    routes_["/health"] = {"GET", [this](const Exchange& e) { health(*e); }, nullptr};
    routes_["/metrics"] = {"GET", [this](const Exchange& e) { metrics(*e); }, nullptr};
    models_.get(std::nullopt);
  }
  ~Router() {
    workers_.join();
    embedder_.join();
  }

  HttpServer& http() { return server_; }
  ModelStore& models() { return models_; }
  void stop(std::chrono::milliseconds grace) {
    engine_.stop();
    server_.stop(grace);
  }

 private:
  struct Route {
    using Function = std::function<void(const Exchange&)>;
    std::string method;
    Function function;
    boost::asio::thread_pool* threads;  // that it runs on; null: at once
  };

  ModelStoreOptions with_settling(ModelStoreOptions options) {
    // Between its steps the engine lets go of models that the store has no more; twice, since it does so at their end.
    options.on_unload = [this] {
      for (int i = 0; i < 2; ++i) engine_.run([] {});
    };
    return options;
  }

  HttpOptions counted(HttpOptions options) {
    options.on_answer = [this, log = options.on_answer](const HttpRequest& request, int status, double seconds,
                                                        size_t bytes) {
      const bool known = routes_.contains(request.path);
      metrics_.count_answer(known ? request.path : "other", status);
      if (log) log(request, status, seconds, bytes);
    };
    return options;
  }

  void route(Exchange exchange) {
    const auto& request = exchange->request();
    if (page_) {
      if (auto file = page_answer(request)) return exchange->send(std::move(*file));
    }
    auto found = routes_.find(request.path);
    if (found == routes_.end() && request.path.starts_with(kOneModel)) found = routes_.find(kOneModel);
    if (found == routes_.end()) throw ApiError(404, "there is nothing at " + dump(json(request.path)));
    const auto& route = found->second;
    if (request.method != route.method) {
      const ApiError error(405, fmt::format("{}: expected {}, found {}", request.path, route.method, request.method));
      return exchange->send({.status = 405, .body = dump(error.body()), .headers = {{"Allow", route.method}}});
    }
    if (!route.threads) return route.function(exchange);
    boost::asio::post(*route.threads, [&route, exchange = std::move(exchange)] {
      answer(*exchange, [&] { route.function(exchange); });
    });
  }

  void list_models(HttpExchange& exchange) {
    exchange.send({.body = dump({{"object", "list"}, {"data", models_.list()}})});
  }
  void one_model(HttpExchange& exchange) {
    const auto id = exchange.request().path.substr(kOneModel.size());
    for (const auto& model : models_.list()) {
      if (model["id"] == id) return exchange.send({.body = dump(model)});
    }
    throw ApiError(404, "model: expected one that GET /v1/models lists, found " + dump(json(id)), "model",
                   "model_not_found");
  }
  void health(HttpExchange& exchange) {
    const bool alive = engine_.is_alive(kAlive);
    exchange.send(
        {.status = alive ? 200 : 503, .body = dump({{"status", alive ? "ok" : "the engine does not answer"}})});
  }
  void metrics(HttpExchange& exchange) {
    metrics_.resident_bytes.Set(resident_bytes());
    exchange.send({.content_type = "text/plain; version=0.0.4", .body = metrics_.text()});
  }

  Metrics metrics_;
  Engine engine_;
  ModelStore models_;
  Api api_;
  bool page_;
  std::map<std::string, Route> routes_;
  boost::asio::thread_pool workers_, embedder_;  // embeddings take long, and come one after another
  HttpServer server_;
};

Server::Server(ServerOptions options) {
  options.defaults.validate();
  router_ = std::make_unique<Router>(std::move(options));
}
Server::~Server() = default;

int Server::port() const { return router_->http().port(); }
const std::string& Server::model_id() const { return router_->models().default_id(); }
void Server::run() { router_->http().run(); }
void Server::stop(std::chrono::milliseconds grace) { router_->stop(grace); }

}  // namespace mlx_lm::serve
