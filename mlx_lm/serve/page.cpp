#include "mlx_lm/serve/page.h"

#include <algorithm>
#include <string>

namespace mlx_lm::serve {
namespace {

// A list of tags, or "*". A cache on the way may have made a tag weak: for If-None-Match that is the same one.
bool names(std::string_view list, std::string_view etag) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    std::string_view tag = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (tag.starts_with(' ') || tag.starts_with('\t')) tag.remove_prefix(1);
    while (tag.ends_with(' ') || tag.ends_with('\t')) tag.remove_suffix(1);
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    if (tag == etag || tag == "*") return true;
  }
  return false;
}

}  // namespace

const PageFile* find_page_file(std::string_view path) {
  const auto files = page_files();
  const auto found = std::ranges::find(files, path, &PageFile::path);
  return found == files.end() ? nullptr : &*found;
}

std::optional<HttpAnswer> page_answer(const HttpRequest& request) {
  if (request.method != "GET" && request.method != "HEAD") return std::nullopt;
  const PageFile* file = find_page_file(request.path);
  if (!file) return std::nullopt;
  HttpAnswer answer{.content_type = std::string(file->content_type), .headers = page_headers()};
  answer.headers.emplace_back("ETag", file->etag);
  const auto known = request.headers.find("if-none-match");
  if (known != request.headers.end() && names(known->second, file->etag)) {
    answer.status = 304;
  } else {
    answer.body = file->bytes;
  }
  return answer;
}

}  // namespace mlx_lm::serve
