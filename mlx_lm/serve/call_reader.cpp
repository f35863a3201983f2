#include "mlx_lm/serve/call_reader.h"

#include "mlx_lm/serve/fields.h"

namespace mlx_lm::serve {
namespace {

constexpr int kList = 1, kCall = 2;  // depth within

}  // namespace

std::vector<CallReader::Piece> CallReader::add(std::string_view text) {
  using Kind = Piece::Kind;
  std::vector<Piece> pieces;
  const auto put = [&](Kind kind, std::string_view more) {
    if (pieces.empty() || pieces.back().kind != kind || kind == Kind::call) {
      pieces.push_back({kind, std::string(more)});
    } else {
      pieces.back().text += more;
    }
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (state_ == State::start) state_ = c == '[' ? State::list : State::text;
    if (state_ == State::text) {
      put(Kind::text, text.substr(i));
      break;
    }
    const bool opens = !in_string_ && (c == '{' || c == '[');
    const bool closes = !in_string_ && (c == '}' || c == ']');
    if (depth_ == kCall && opens) {  // the arguments
      const auto call = Json::parse(head_ + "{}}", nullptr, /* allow_exceptions */ false);
      put(Kind::call, call.is_object() && call.contains("name") ? call["name"].get<std::string>() : "");
      calls_ += 1;
      in_arguments_ = true;
    }
    if (depth_ == kList && opens) head_.clear();
    if (opens) depth_ += 1;
    if (closes) depth_ -= 1;
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"') {
      in_string_ = true;
    }
    if (in_arguments_) {
      put(Kind::arguments, text.substr(i, 1));
      in_arguments_ = depth_ > kCall;
    } else if (depth_ == kCall) {
      head_ += c;
    }
  }
  return pieces;
}

}  // namespace mlx_lm::serve
