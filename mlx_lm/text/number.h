// Numbers as Python and JSON write them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mlx_lm::text {

struct Number {
  std::string json;   // the same number as JSON writes it
  size_t length;      // in the source
  bool whole;         // no fraction, no exponent
  bool leading_zero;  // "007", which int() takes and a literal does not
};

// A number without a sign at the start of text, as Python writes it ("1_000", "1.", ".5", "1e5"); nullopt if there is
// none, or one that no double holds.
std::optional<Number> scan_number(std::string_view text);

// Whether what scan_number() takes is JSON as it stands.
bool is_json_number(std::string_view number);

// What int() and float() take, the former as JSON; nullopt for other texts and for numbers that are not finite.
std::optional<std::string> read_int(std::string_view text);
std::optional<double> read_float(std::string_view text);
// The shortest JSON of a finite number; without a fraction where it has none.
std::string number_json(double number);

}  // namespace mlx_lm::text
