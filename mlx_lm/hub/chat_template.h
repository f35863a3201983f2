// Jinja chat templates.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace mlx_lm {

// A template as transformers would run it: trim_blocks, lstrip_blocks, loop controls, methods of Python's strings and
// dicts, tojson, raise_exception, strftime_now, {% generation %}. A template is hostile until shown otherwise: its
// steps, its output, its recursion and its size are bounded. Immutable; copies share it. Threads: safe to use from
// several.
class ChatTemplate {
 public:
  // where: as errors should call it. Errors: ConfigError for a source that does not parse.
  ChatTemplate(std::string_view source, std::string_view where);

  // context: messages, tools, add_generation_prompt, bos_token, ... Keys keep the order of their sorting.
  // Errors: RequestError for what the template raises, and for one that takes too long or writes too much.
  std::string render(const nlohmann::json& context) const;
  // The same for a context that is JSON text already; the order of its keys is kept.
  std::string render_json(std::string_view context) const;

 private:
  struct Handle;
  std::shared_ptr<const Handle> handle_;
};

}  // namespace mlx_lm
