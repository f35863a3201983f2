// From a path or repository to a model that can generate.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/load/adapters.h"
#include "mlx_lm/load/get_model_path.h"
#include "mlx_lm/models/architecture.h"
#include "mlx_lm/text/tokenizer_wrapper.h"

namespace mlx_lm {

class GgufFile;

// A model's files: a folder as the Hugging Face Hub has it, or one GGUF file.
struct ModelFiles {
  std::filesystem::path path;            // of the folder or the file
  std::shared_ptr<const GgufFile> gguf;  // null for a folder
};

// Errors: WeightError for a damaged GGUF file.
ModelFiles open_model(const std::filesystem::path& path);

// config.json with the end tokens of generation_config.json, or what a GGUF file says in its place.
// Errors: ConfigError when it is missing or not JSON; those of gguf_config().
ConfigReader load_config(const ModelFiles& files);

// The architecture that the configuration's model_type names, with its weights mapped and, on the CPU, repacked.
// adapters: what is to be added to it, or null.
// Eval: forces the evaluation of the weights on the CPU.
// Errors: UnsupportedModel for an unknown model_type or quantization; ConfigError, WeightError by name and place.
std::unique_ptr<models::LanguageModel> load_model(const ModelFiles& files, const ConfigReader& config,
                                                  const Adapters* adapters = nullptr);

// tokenizer.json, tokenizer_config.json and chat_template.jinja, or a GGUF file's own.
// Errors: Error when there is no tokenizer.json; those of Tokenizer and TokenizerWrapper.
// chat_template: instead of that; empty: that.
text::TokenizerWrapper load_tokenizer(const ModelFiles& files, const ConfigReader& config,
                                      const std::string& chat_template = {});

struct Loaded {
  std::unique_ptr<models::LanguageModel> model;
  text::TokenizerWrapper tokenizer;
  ConfigReader config;
};

struct LoadOptions {
  PathOptions path = {};
  std::filesystem::path adapter_path = {};  // a folder that open_adapters() reads; empty: the model as it is
  std::string chat_template = {};           // instead of the model's own; empty: that
};

// All of the above. path_or_repo: see get_model_path().
Loaded load(const std::string& path_or_repo, const LoadOptions& options = {});

}  // namespace mlx_lm
