#include "mlx_lm/load/load.h"

#include <future>
#include <set>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/foreign_weights.h"
#include "mlx_lm/load/gguf_config.h"
#include "mlx_lm/load/gguf_reader.h"
#include "mlx_lm/load/gguf_tensors.h"
#include "mlx_lm/load/gguf_tokenizer.h"
#include "mlx_lm/load/json_file.h"
#include "mlx_lm/load/quantization.h"
#include "mlx_lm/load/safetensors.h"

namespace mlx_lm {
namespace {

namespace mx = mlx::core;
using nlohmann::json;

constexpr size_t kMaxTemplateBytes = 4 << 20;

// eos_token_id is a number or a list of numbers; anything else in it is an error.
std::set<int> end_tokens(const ConfigReader& config) {
  if (!config.has("eos_token_id")) return {};
  if (!config.json().at("eos_token_id").is_array()) return {config.get<int>("eos_token_id")};
  const auto ids = config.get<std::vector<int>>("eos_token_id");
  return {ids.begin(), ids.end()};
}

// Null if the file says nothing. One that is not JSON says nothing either, as in mlx-lm: a model does not need it.
json generation_end_tokens(const std::filesystem::path& folder) try {
  const auto generation = read_json(folder, "generation_config.json").value_or(json());
  return generation.is_object() ? generation.value("eos_token_id", json()) : json();
} catch (const ConfigError&) {
  return {};
}

text::TokenizerWrapper::Parts tokenizer_of_folder(const std::filesystem::path& folder) {
  const auto text = read_text(folder, "tokenizer.json", 512 << 20);
  if (!text) {
    fail<Error>("[load] {}: expected tokenizer.json, found nothing", folder.string());
  }
  return {.tokenizer = Tokenizer::from_json(*text, (folder / "tokenizer.json").string()),
          .config = read_json(folder, "tokenizer_config.json").value_or(json::object()),
          .chat_template = read_text(folder, "chat_template.jinja", kMaxTemplateBytes).value_or(""),
          .eos_token_ids = {},
          .where = folder.string()};
}

text::TokenizerWrapper::Parts tokenizer_of_gguf(const GgufFile& file) {
  auto parts = gguf_tokenizer(file);
  return {.tokenizer = Tokenizer::from_byte_pairs(parts.byte_pairs, file.where()),
          .config = std::move(parts.tokenizer_config),
          .chat_template = {},
          .eos_token_ids = {},
          .where = file.where()};
}

}  // namespace

ModelFiles open_model(const std::filesystem::path& path) {
  const bool is_gguf = path.extension() == ".gguf" && !std::filesystem::is_directory(path);
  return {path, is_gguf ? GgufFile::open(path) : nullptr};
}

ConfigReader load_config(const ModelFiles& files) {
  if (files.gguf) return ConfigReader(gguf_config(*files.gguf), files.path.string());
  const auto where = (files.path / "config.json").string();
  auto config = read_json(files.path, "config.json");
  if (!config) fail<ConfigError>("[config] {}: expected a file, found nothing", where);
  ConfigReader reader(std::move(*config), where);
  // generation_config.json has the last word on the end tokens.
  auto eos = generation_end_tokens(files.path);
  if (eos.empty()) return reader;
  auto merged = reader.json();
  merged["eos_token_id"] = std::move(eos);
  return ConfigReader(std::move(merged), where);
}

std::unique_ptr<models::LanguageModel> load_model(const ModelFiles& files, const ConfigReader& config,
                                                  const Adapters* adapters) {
  const auto& architecture = models::find_architecture(config.get<std::string>("model_type"));
  auto quantization = read_quantization(config);
  auto tensors = files.gguf ? gguf_tensors(files.gguf) : safetensors_tensors(files.path);
  if (adapters) adapters->add_to(tensors, quantization);
  const nn::Weights weights(std::move(tensors), std::move(quantization), files.path.string(),
                            files.gguf ? std::optional(mx::float16) : std::nullopt);
  adopt_foreign_weights(weights, config);
  auto model = architecture.make(config, weights);
  weights.expect_all_taken();
  if (adapters) adapters->expect_right_for(model->totals());
  mx::clear_cache();
  return model;
}

text::TokenizerWrapper load_tokenizer(const ModelFiles& files, const ConfigReader& config,
                                      const std::string& chat_template) {
  auto parts = files.gguf ? tokenizer_of_gguf(*files.gguf) : tokenizer_of_folder(files.path);
  parts.eos_token_ids = end_tokens(config);
  if (!chat_template.empty()) parts.chat_template = chat_template;
  return text::TokenizerWrapper(std::move(parts));
}

Loaded load(const std::string& path_or_repo, const LoadOptions& options) {
  // What is wrong with an adapter is told before a model is downloaded.
  const auto adapters =
      options.adapter_path.empty() ? std::nullopt : std::optional(open_adapters(options.adapter_path));
  const auto files = open_model(get_model_path(path_or_repo, options.path));
  const auto config = load_config(files);
  // The tokenizer takes about as long as the weights of a small model, and neither needs the other.
  auto tokenizer = std::async(std::launch::async, [&] { return load_tokenizer(files, config, options.chat_template); });
  auto model = load_model(files, config, adapters ? &*adapters : nullptr);
  return {std::move(model), tokenizer.get(), config};
}

}  // namespace mlx_lm
