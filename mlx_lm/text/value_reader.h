// Values in the text of tool calls: JSON and Python's literals.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mlx_lm/text/value.h"

namespace mlx_lm::text {

// json: RFC 8259. loose_json: control characters may stand in strings, too. python: what ast.literal_eval reads and
// JSON can hold: no sets, bytes and complex numbers; tuples become arrays. python_and_json: true, false and null
// besides.
enum class Dialect { json, loose_json, python, python_and_json };

// Deeper values are refused: readers and writers recurse.
inline constexpr int kMaxValueDepth = 100;

// The whole text as one value; nullopt for anything else. Numbers that no double holds are refused, and so are NaN and
// Infinity, which are not JSON. Lone surrogates become U+FFFD. Time: linear.
std::optional<Value> read_value(std::string_view text, Dialect dialect);

// One value at `at` that stands in brackets (line breaks are white space); `at` moves behind it.
std::optional<Value> read_value_at(std::string_view text, size_t& at, Dialect dialect);

// JSON, else a Python literal, else the text itself.
Value read_or_text(std::string_view text);

// Moves `at` over Python's white space and comments, as they may stand in brackets.
void skip_python_space(std::string_view text, size_t& at);

}  // namespace mlx_lm::text
