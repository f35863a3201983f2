#include "mlx_lm/text/number.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "mlx_lm/text/scan.h"

namespace mlx_lm::text {
namespace {

// Splits off white space and a sign.
std::string_view unsigned_part(std::string_view text, std::string& sign) {
  text = strip(text);
  if (text.starts_with('-')) sign = '-';
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return text;
}

bool is_finite(std::string_view number) {
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  // "Out of range" is said of both ends; too small a number is 0.
  return error == std::errc() || number.find("e-") != number.npos || number.find("E-") != number.npos;
}

}  // namespace

std::optional<Number> scan_number(std::string_view text) {
  size_t at = 0;
  std::string json;
  const auto digits = [&] {
    const size_t before = json.size();
    while (at < text.size() &&
           (is_digit(text[at]) || (text[at] == '_' && json.size() > before && at + 1 < text.size() &&
                                   text[at - 1] != '_' && is_digit(text[at + 1])))) {
      if (text[at] != '_') json += text[at];
      ++at;
    }
    return json.size() - before;
  };
  const size_t before_point = digits();
  bool whole = true;
  if (at < text.size() && text[at] == '.') {
    ++at;
    json += '.';
    const size_t behind_point = digits();
    if (before_point + behind_point == 0) return std::nullopt;
    if (behind_point == 0) json += '0';
    whole = false;
  } else if (before_point == 0) {
    return std::nullopt;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    const size_t kept = json.size(), mark = at;
    json += 'e';
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) json += text[at++];
    if (digits() > 0) {
      whole = false;
    } else {
      json.resize(kept);
      at = mark;
    }
  }
  const size_t zeros = std::min(json.find_first_not_of('0'), json.size());
  const bool bare = zeros == json.size() || !is_digit(json[zeros]);  // nothing but zeros before the point
  const bool leading_zero = before_point > 1 && zeros > 0 && !(whole && zeros == json.size());
  json.erase(0, zeros);
  if (bare) json.insert(0, 1, '0');
  if (!is_finite(json)) return std::nullopt;
  return Number{std::move(json), at, whole, leading_zero};
}

bool is_json_number(std::string_view number) {
  if (number.find('_') != number.npos || !is_digit(number[0])) return false;
  if (number.size() > 1 && number[0] == '0' && is_digit(number[1])) return false;
  const auto point = number.find('.');
  return point == number.npos || (point + 1 < number.size() && is_digit(number[point + 1]));
}

std::optional<std::string> read_int(std::string_view text) {
  std::string sign;
  text = unsigned_part(text, sign);
  const auto number = scan_number(text);
  if (!number || !number->whole || number->length != text.size()) return std::nullopt;
  return number->json == "0" ? "0" : sign + number->json;
}

std::optional<double> read_float(std::string_view text) {
  std::string sign;
  text = unsigned_part(text, sign);
  const auto number = scan_number(text);
  if (!number || number->length != text.size()) return std::nullopt;
  double value = 0;  // stays so for what is too small
  std::from_chars(number->json.data(), number->json.data() + number->json.size(), value);
  return sign.empty() ? value : -value;
}

std::string number_json(double number) {
  std::array<char, 400> out;
  if (number == 0) return "0";
  const bool whole = number == std::trunc(number);
  const auto end = whole ? std::to_chars(out.data(), out.data() + out.size(), number, std::chars_format::fixed, 0)
                         : std::to_chars(out.data(), out.data() + out.size(), number);
  return {out.data(), end.ptr};
}

}  // namespace mlx_lm::text
