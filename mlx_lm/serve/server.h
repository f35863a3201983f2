// The whole server: routes over an engine, models and HTTP.
#pragma once

#include <memory>

#include "mlx_lm/serve/engine.h"
#include "mlx_lm/serve/generation_request.h"
#include "mlx_lm/serve/http_options.h"
#include "mlx_lm/serve/model_store.h"

namespace mlx_lm::serve {

struct ServerOptions {
  HttpOptions http;
  EngineOptions engine;
  ModelStoreOptions models;
  GenerationDefaults defaults;
  bool page = true;  // the chat page at /
};

class Server {
 public:
  // Loads the default model, then listens. Errors: RequestError for options; those of loading.
  explicit Server(ServerOptions options);
  ~Server();

  int port() const;
  const std::string& model_id() const;
  // Serves until stop(); once.
  void run();
  // No more requests are taken; answers under way have so long. Threads: any.
  void stop(std::chrono::milliseconds grace);

 private:
  class Router;
  std::unique_ptr<Router> router_;
};

}  // namespace mlx_lm::serve
