#include "mlx_lm/base/error.h"

#include <type_traits>

#include <gtest/gtest.h>

namespace mlx_lm {
namespace {

template <class E>
void expect_kind() {
  static_assert(std::is_base_of_v<Error, E> && std::is_base_of_v<std::exception, E>);
  try {
    fail<E>("[area] {}: expected {}, found {:.1f}, in {}", "what", 1, 2.0, "where");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[area] what: expected 1, found 2.0, in where");
    EXPECT_NE(dynamic_cast<const E*>(&error), nullptr) << "the kind is kept";
  }
}

TEST(Error, says_what_where_and_of_which_kind) {
  expect_kind<Error>();
  expect_kind<ConfigError>();
  expect_kind<WeightError>();
  expect_kind<UnsupportedModel>();
  expect_kind<RequestError>();
}

// What comes from a file is an argument, never the format.
TEST(Error, leaves_braces_in_its_arguments_alone) {
  try {
    fail<Error>("[area] found {}", "{}{0}%s");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[area] found {}{0}%s");
  }
}

}  // namespace
}  // namespace mlx_lm
