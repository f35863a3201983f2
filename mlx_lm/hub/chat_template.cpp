#include "mlx_lm/hub/chat_template.h"

#include "mlx_lm/hub/bridge.h"

namespace mlx_lm {

using bridge::bytes;
using bridge::call;

struct ChatTemplate::Handle {
  rust::Box<bridge::BridgeTemplate> inner;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string_view where)
    : handle_(call<ConfigError>(
          [&] { return std::make_shared<const Handle>(Handle{bridge::template_new(bytes(source), bytes(where))}); })) {}

std::string ChatTemplate::render(const nlohmann::json& context) const {
  return render_json(context.dump(-1, ' ', /* ensure_ascii */ false, nlohmann::json::error_handler_t::replace));
}

std::string ChatTemplate::render_json(std::string_view context) const {
  return call<RequestError>([&] { return std::string(handle_->inner->render(bytes(context))); });
}

}  // namespace mlx_lm
