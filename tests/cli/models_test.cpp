#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/models/architecture.h"

#include "program.h"

namespace mlx_lm {
namespace {

TEST(ModelsTest, ListsEveryTypeWithWhatItIs) {
  const auto run = Program().run({"models"});
  EXPECT_EQ(run.status, 0);
  const auto list = nlohmann::json::parse(Program().run({"models", "--json"}).out);
  size_t types = 0;
  for (const auto* architecture : models::architectures()) {
    for (const auto type : architecture->types) {
      const auto found = std::ranges::find_if(list, [&](const auto& entry) { return entry["model_type"] == type; });
      ASSERT_NE(found, list.end()) << type;
      EXPECT_GE((*found)["description"].template get<std::string>().size(), 20u) << type;
      EXPECT_NE(run.out.find(std::string(type) + " "), std::string::npos) << type;
      ++types;
    }
  }
  EXPECT_EQ(list.size(), types);
  const auto llama = std::ranges::find_if(list, [](const auto& entry) { return entry["model_type"] == "llama"; });
  EXPECT_EQ((*llama)["gguf"][0], "llama");
}

}  // namespace
}  // namespace mlx_lm
