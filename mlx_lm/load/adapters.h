// What fine-tuning made of a model, kept in a folder of its own.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "mlx_lm/nn/weights.h"

namespace mlx_lm {

// The tensors of an adapter, by the names and in the shapes that mlx-lm gives them, none of them read yet.
struct Adapters {
  using Tensors = std::map<std::string, nn::StoredTensor>;

  std::string where;  // the file of the tensors
  // <layer>.lora_a (in, r), <layer>.lora_b (r, out), which comes with the scale multiplied in, and for DoRA <layer>.m;
  // of experts (experts, r, in) and (experts, out, r). Always float32.
  Tensors low_rank;
  Tensors replacing;  // tensors of the model itself, trained
  // Which layers it may have; mlx-lm's rule. Without keys: all of the blocks.
  std::optional<int> num_layers;              // of the last blocks; 0 or less: all; absent: no rule
  std::optional<std::set<std::string>> keys;  // paths inside a block, or whole ones
  // A tensor that adapts the table of tokens but not the output layer; empty if there is none.
  std::string lookup_only;

  // Puts them among a model's tensors. A quantized matrix that a floating-point one replaces is no longer quantized.
  // Errors: WeightError for a tensor that the model has no place for.
  void add_to(Tensors& tensors, nn::QuantizationConfig& quantization) const;
  // Errors: UnsupportedModel for lookup_only where the model ties table and output.
  void expect_right_for(const nn::WeightTotals& totals) const;
};

// mlx-lm's folders (adapter_config.json with fine_tune_type lora, dora or full; adapters.safetensors) and those of
// Hugging Face's PEFT (adapter_config.json with peft_type LORA; adapter_model.safetensors).
// Errors: Error for files that are not there; ConfigError for a field that is missing or makes no sense;
// UnsupportedModel for a kind that is not known here; WeightError for tensors that do not fit the configuration.
// Source: mlx-lm's tuner/utils.py; peft's tuners/lora and utils/save_and_load.py.
Adapters open_adapters(const std::filesystem::path& folder);

}  // namespace mlx_lm
