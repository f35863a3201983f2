// The chat page: the files of web/, which the program carries, and the answers that hand them out.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "mlx_lm/serve/http.h"

namespace mlx_lm::serve {

struct PageFile {
  std::string_view path;  // "/" for the page itself, "/chat.js"
  std::string_view content_type;
  std::string_view etag;  // strong, with its quotes
  std::string_view bytes;
};

std::span<const PageFile> page_files();

// What goes with each file: among them a Content-Security-Policy under which nothing runs or loads but these files, and
// nothing connects but to this server. web/headers.json has them.
const HttpHeaders& page_headers();

// null when the page has no file of that path.
const PageFile* find_page_file(std::string_view path);

// The answer to a GET or HEAD of one of the files, 304 when If-None-Match names its bytes; nothing for other requests.
// HEAD gets the body too: whoever sends it leaves that out. Threads: any.
std::optional<HttpAnswer> page_answer(const HttpRequest& request);

}  // namespace mlx_lm::serve
