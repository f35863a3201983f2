// Adapters as Hugging Face's PEFT writes them.
#pragma once

#include <filesystem>

#include "mlx_lm/base/config_reader.h"
#include "mlx_lm/load/adapters.h"

namespace mlx_lm {

// config: adapter_config.json. LoRA and DoRA of linear layers, LoRA of embeddings, modules_to_save; rank and scale by
// r, lora_alpha, use_rslora, rank_pattern and alpha_pattern, whose keys are names of modules or their ends.
// Errors: see open_adapters(); UnsupportedModel for what PEFT would compute otherwise than by these.
// Source: peft's tuners/lora, utils/save_and_load.py.
Adapters open_peft(const ConfigReader& config, const std::filesystem::path& folder);

}  // namespace mlx_lm
