// mlx_lm models: what this program can load.
#include <algorithm>
#include <iostream>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/cli/commands.h"
#include "mlx_lm/load/gguf_names.h"
#include "mlx_lm/models/architecture.h"

namespace mlx_lm::cli {
namespace {

using nlohmann::json;

struct Entry {
  std::string_view model_type;
  std::string_view about;
  std::vector<std::string_view> gguf;  // general.architecture of the GGUF files that are read as this type
};

std::vector<Entry> entries() {
  std::vector<Entry> all;
  for (const auto* architecture : models::architectures()) {
    for (const auto type : architecture->types) {
      Entry entry{type, models::description(*architecture), {}};
      for (const auto& gguf : gguf_architectures()) {
        if (gguf.model_type == type) entry.gguf.push_back(gguf.name);
      }
      all.push_back(std::move(entry));
    }
  }
  std::ranges::sort(all, {}, &Entry::model_type);
  return all;
}

void print_table(const std::vector<Entry>& all) {
  size_t width = 0;
  for (const auto& entry : all) width = std::max(width, entry.model_type.size());
  for (const auto& entry : all) {
    std::cout << fmt::format("{:<{}}  {}{}\n", entry.model_type, width, entry.about,
                             entry.gguf.empty() ? "" : fmt::format(" [GGUF: {}]", fmt::join(entry.gguf, ", ")));
  }
  std::cout << fmt::format("{} model types\n", all.size());
}

}  // namespace

Command add_models(CLI::App& program) {
  auto* app = program.add_subcommand("models", "List the model types that can be loaded");
  auto as_json = std::make_shared<bool>(false);
  app->add_flag("--json", *as_json, "Print a JSON array in place of the table");
  app->footer(
      "A model folder's config.json names its model_type; a GGUF file's general.architecture stands for one of them.");
  return {app, [as_json] {
            const auto all = entries();
            if (!*as_json) return print_table(all), 0;
            auto array = json::array();
            for (const auto& entry : all) {
              array.push_back(
                  json::object({{"model_type", entry.model_type}, {"description", entry.about}, {"gguf", entry.gguf}}));
            }
            std::cout << array.dump(2) << "\n";
            return 0;
          }};
}

}  // namespace mlx_lm::cli
