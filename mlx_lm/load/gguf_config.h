// A GGUF file's metadata as the config.json that the same model would have on the Hugging Face Hub.
#pragma once

#include <nlohmann/json.hpp>

#include "mlx_lm/load/gguf_reader.h"

namespace mlx_lm {

// model_type, sizes, rotary embedding, token ids, `quantization` for the tensors as gguf_tensors() converts them, and
// `torch_dtype`; `pooling_type`, which is GGUF's own. Ranges are not judged here: the model's own Config does that, as
// for any config.json. Errors: UnsupportedModel for an architecture, a kind of rotary scaling or a mixture of experts
// that is not known here; WeightError for metadata that is missing or of another type.
nlohmann::json gguf_config(const GgufFile& file);

}  // namespace mlx_lm
