// Which GGUF architectures are known, and what sets each apart: names, orders, settings.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "mlx_lm/load/gguf_reader.h"

namespace mlx_lm {

struct GgufArchitecture {
  std::string_view name;          // general.architecture, and the prefix of its metadata keys
  std::string_view model_type;    // as config.json has it
  bool interleaved_rope = false;  // rows of q and k come in the order of GGUF's interleaved rotary embedding
  bool norm_plus_one = false;     // norms are stored with the 1 added that the checkpoint's model adds itself
  bool sandwich_norms = false;    // a norm before and one after each of attention and MLP
  bool experts = false;           // its MLPs are mixtures
  // Gemma's scale of scores, which no file says: 1 / sqrt(head size), but in the model with so many layers or more
  // 1 / sqrt(hidden size / heads). 0: another architecture.
  int narrow_scores_from = 0;
  const char* extra_config;  // JSON: what config.json says and no GGUF does
};

// Those that are known.
std::span<const GgufArchitecture> gguf_architectures();

// The file's architecture.
// Errors: UnsupportedModel for one that is not known here, listing those that are; WeightError if none is named.
const GgufArchitecture& gguf_architecture(const GgufFile& file);

// "blk.0.attn_q.weight" -> "model.layers.0.self_attn.q_proj.weight". A name that is not known stays as it is, so that
// strict loading reports it.
std::string checkpoint_name(const GgufArchitecture& architecture, std::string_view name);

// Holds no weights but the factors of a long-context rotary embedding: part of the configuration, not of the tensors.
inline constexpr std::string_view kGgufRopeFactors = "rope_freqs.weight";

}  // namespace mlx_lm
