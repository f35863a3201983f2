// What a request says about how its text is to be generated; the same fields in every API.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_lm/generate/batch_generator.h"
#include "mlx_lm/hub/grammar.h"
#include "mlx_lm/sample/logits_processors.h"
#include "mlx_lm/sample/sampler.h"
#include "mlx_lm/serve/fields.h"
#include "mlx_lm/serve/served_model.h"

namespace mlx_lm::serve {

// What holds where a request says nothing; the command line's flags of the same names.
struct GenerationDefaults {
  float temp = 0, top_p = 1, min_p = 0;
  int top_k = 0;
  int max_tokens = 512;  // -1: as many as the context has room for
  Json chat_template_args = Json::object();

  // Errors: RequestError that names the option.
  void validate() const;
};

struct GenerationRequest {
  sample::SamplerOptions sampler;
  sample::PenaltyOptions penalties;
  int max_tokens = 512;
  std::optional<int> num_draft_tokens;  // 0: none; none: the model's
  int n = 1;                            // answers
  std::vector<std::string> stop;        // texts that end the answer
  std::optional<int> logprobs;          // likeliest tokens to report beside each one; none: no log-probabilities
  bool stream = false;
  bool include_usage = false;  // a last chunk with the counts of tokens

  static constexpr int kMaxAnswers = 16, kMaxStops = 16, kMaxLogprobs = 20;
};

// The fields of OpenAI's APIs and mlx-lm's own: temperature, top_p, top_k, min_p, xtc_*, seed, *_penalty,
// *_context_size, logit_bias, max_tokens, n, stop, stream, stream_options. Errors: ApiError.
GenerationRequest read_generation(const Fields& fields, const GenerationDefaults& defaults, int vocab_size);

// response_format: text, json_object, json_schema; and the fields json_schema, regex, grammar (Lark), choice of other
// servers. None: the answer may be anything. Errors: ApiError.
std::optional<GrammarOptions> read_response_format(const Fields& fields);
// response_format alone: {"type", "json_schema": {"schema"}}, or {"type", "schema"} of other APIs. key: which of them
// an error names.
std::optional<GrammarOptions> read_format(const Fields& format, const std::string& key = "schema");

// Errors: ApiError that names the field.
Grammar make_grammar(const ServedModel& model, const GrammarOptions& options, const std::string& field);

// A sequence with the request's samplers and processors, for answer number i of the n.
SequenceOptions sequence_options(const GenerationRequest& request, const ServedModel& model, int i);

}  // namespace mlx_lm::serve
