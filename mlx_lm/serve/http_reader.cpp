#include "mlx_lm/serve/http_reader.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <charconv>

#include "mlx_lm/serve/api_error.h"
#include "mlx_lm/serve/http_answer.h"

namespace mlx_lm::serve {

namespace http = boost::beast::http;
using boost::beast::iequals;

namespace {

[[noreturn]] void bad(const std::string& message) { throw ApiError(400, message); }

bool is_request_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string percent_decode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = high < 0 ? -1 : hex_digit(text[i + 2]);
      if (low < 0) bad(fmt::format("path: expected two hexadecimal digits after \"%\", found \"{}\"", printable(text)));
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) {
      bad(fmt::format("path: expected no control characters, found \"{}\"", printable(text)));
    }
    decoded += c;
  }
  return decoded;
}

}  // namespace

void HttpReader::add(std::string_view bytes) {
  buffer_.erase(0, start_);
  start_ = 0;
  buffer_.append(bytes);
}

void HttpReader::next() {
  chunks_.reset();
  length_ = 0;
  request_ = {};
  scanned_ = 0;
  state_ = State::header;
  is_http_10_ = keep_alive_ = has_body_ = wants_continue_ = false;
}

HttpReader::Step HttpReader::step() {
  if (state_ == State::header) {
    if (!find_header()) return Step::more;
    read_header();
    state_ = State::body;
    return Step::header;
  }
  const std::string_view bytes(buffer_.data() + start_, buffered());
  if (chunks_) {
    start_ += chunks_->read(bytes, request_.body);
    return chunks_->is_complete() ? Step::body : Step::more;
  }
  const auto size = static_cast<size_t>(std::min<uint64_t>(length_ - request_.body.size(), bytes.size()));
  request_.body.append(bytes.substr(0, size));
  start_ += size;
  return request_.body.size() == length_ ? Step::body : Step::more;
}

// Looks at every byte once, however they come.
bool HttpReader::find_header() {
  if (request_.id.empty()) request_.id = new_request_id();
  // Some clients end a body with a line that is no part of it.
  while (buffered() >= 2 && buffer_.compare(start_, 2, "\r\n") == 0) start_ += 2, scanned_ = 0;
  const std::string_view bytes(buffer_.data() + start_, buffered());
  for (; scanned_ < bytes.size(); ++scanned_) {
    const auto i = scanned_;
    if (i >= options_.header_bytes) {
      throw ApiError(431, fmt::format("header: expected at most {} bytes, found more", options_.header_bytes));
    }
    const auto c = static_cast<unsigned char>(bytes[i]);
    const char before = i > 0 ? bytes[i - 1] : '\0';
    if ((c == '\n') != (before == '\r')) bad("header: expected lines that end in CRLF, found another end");
    if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 0x7f) {
      bad("header: expected text, found a control character");
    }
    if (before == '\n' && (c == ' ' || c == '\t')) bad("header: expected one line for each field, found a folded line");
    if (c == '\n' && i >= 3 && bytes[i - 2] == '\n') {
      ++scanned_;
      return true;
    }
  }
  return false;
}

void HttpReader::read_header() {
  http::request_parser<http::empty_body> parser;
  parser.skip(true);  // the body is ours
  parser.eager(true);
  parser.header_limit(static_cast<std::uint32_t>(options_.header_bytes));
  boost::system::error_code error;
  parser.put(boost::asio::buffer(buffer_.data() + start_, scanned_), error);
  start_ += scanned_;
  scanned_ = 0;

  const auto& header = parser.get();
  request_.method = std::string(header.method_string());
  for (const auto& field : header) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    const auto [place, is_new] = request_.headers.try_emplace(std::move(name), field.value());
    if (!is_new) place->second.append(", ").append(field.value());
  }
  if (const auto id = request_.header("x-request-id"); is_request_id(id)) request_.id = std::string(id);
  if (error || !parser.is_header_done()) bad("request: expected HTTP/1.1, found " + error.message());
  check_header(header);
  read_target(header.target());
}

template <class Header>
void HttpReader::check_header(const Header& header) {
  is_http_10_ = header.version() == 10;
  keep_alive_ = header.keep_alive();

  const auto hosts = header.count(http::field::host);
  if (hosts > 1 || (hosts == 0 && !is_http_10_)) bad(fmt::format("Host: expected one, found {}", hosts));
  const auto lengths = header.count(http::field::content_length);
  const auto encodings = header.count(http::field::transfer_encoding);
  if (lengths + encodings > 1) {
    bad("body: expected one Content-Length or Transfer-Encoding, found several");
  }
  if (lengths == 1) {
    const auto length = request_.header("content-length");
    const auto [after, error] = std::from_chars(length.data(), length.data() + length.size(), length_);
    if (error != std::errc() || after != length.data() + length.size()) {
      bad(fmt::format("Content-Length: expected a number, found \"{}\"", printable(length)));
    }
    if (length_ > options_.body_bytes) {
      throw ApiError(413, fmt::format("body: expected at most {} bytes, found {}", options_.body_bytes, length_));
    }
  }
  if (encodings == 1) {
    const auto encoding = request_.header("transfer-encoding");
    if (is_http_10_ || !iequals(encoding, "chunked")) {
      bad(fmt::format("Transfer-Encoding: expected \"chunked\" of HTTP/1.1, found \"{}\"", printable(encoding)));
    }
    chunks_.emplace(options_.header_bytes, options_.body_bytes);
  }
  const auto& method = request_.method;
  if (lengths + encodings == 0 && (method == "POST" || method == "PUT" || method == "PATCH")) {
    throw ApiError(411, "body: expected Content-Length or Transfer-Encoding, found neither");
  }
  has_body_ = chunks_ || length_ > 0;
  if (const auto expect = request_.header("expect"); !expect.empty() && !is_http_10_) {
    if (!iequals(expect, "100-continue")) {
      throw ApiError(417, fmt::format("Expect: expected \"100-continue\", found \"{}\"", printable(expect)));
    }
    wants_continue_ = has_body_;
  }
}

void HttpReader::read_target(std::string_view target) {
  if (target == "*" && request_.method == "OPTIONS") {
    request_.path = target;
    return;
  }
  // The form that proxies get: "http://host/path". Its host is the one that counts.
  if (const auto scheme = target.find("://"); scheme != std::string_view::npos && !target.starts_with('/')) {
    const auto name = target.substr(0, scheme);
    auto rest = target.substr(scheme + 3);
    const auto authority = rest.substr(0, rest.find_first_of("/?"));
    if ((!iequals(name, "http") && !iequals(name, "https")) || authority.empty() ||
        authority.find('@') != std::string_view::npos) {
      bad(fmt::format("target: expected a path, found \"{}\"", printable(target)));
    }
    request_.headers["host"] = std::string(authority);
    rest.remove_prefix(authority.size());
    if (!rest.starts_with('/')) return read_target("/" + std::string(rest));
    target = rest;
  }
  const auto question = target.find('?');
  if (!target.starts_with('/') || target.find('#') != std::string_view::npos) {
    bad(fmt::format("target: expected a path, found \"{}\"", printable(target)));
  }
  request_.path = percent_decode(target.substr(0, question));
  if (question != std::string_view::npos) request_.query = std::string(target.substr(question + 1));
}

}  // namespace mlx_lm::serve
