// The routes of the API: each reads a request, starts on its answer, and returns.
#pragma once

#include <memory>

#include "mlx_lm/serve/engine.h"
#include "mlx_lm/serve/generation_request.h"
#include "mlx_lm/serve/http.h"
#include "mlx_lm/serve/model_store.h"

namespace mlx_lm::serve {

// What all of them need; outlives them.
struct Api {
  Engine& engine;
  ModelStore& models;
  GenerationDefaults defaults;
};

// Errors of each: ApiError, RequestError; nothing has been sent then. Threads: any; loading a model takes time.

// POST /v1/chat/completions. Source: OpenAI's API reference; mlx_lm/server.py for its own fields.
void chat_completions(const Api& api, const std::shared_ptr<HttpExchange>& exchange);
// POST /v1/completions.
void completions(const Api& api, const std::shared_ptr<HttpExchange>& exchange);
// POST /v1/responses.
void responses(const Api& api, const std::shared_ptr<HttpExchange>& exchange);
// POST /v1/messages, /v1/messages/count_tokens. Errors: what is wrong with a request is sent, in Anthropic's form.
void messages(const Api& api, const std::shared_ptr<HttpExchange>& exchange);
void count_tokens(const Api& api, const std::shared_ptr<HttpExchange>& exchange);

}  // namespace mlx_lm::serve
