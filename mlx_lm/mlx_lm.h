// mlx-lm.cpp: everything that a program needs to load a model and generate text with it.
#pragma once

#include "mlx_lm/base/error.h"                // the errors that calls throw
#include "mlx_lm/cache/kv_cache.h"            // what a text has left in a model
#include "mlx_lm/generate/batch_generate.h"   // many prompts to their texts
#include "mlx_lm/generate/benchmark.h"        // how fast a model is
#include "mlx_lm/generate/chat_session.h"     // a conversation
#include "mlx_lm/generate/drafter.h"          // who guesses tokens, so that several are checked at once
#include "mlx_lm/generate/generate_step.h"    // tokens to tokens
#include "mlx_lm/generate/perplexity.h"       // how well it predicts a text
#include "mlx_lm/generate/prefix_cache.h"     // what texts begin with, computed once
#include "mlx_lm/generate/stream_generate.h"  // prompt to text
#include "mlx_lm/hub/grammar.h"               // what a text has to be
#include "mlx_lm/load/load.h"                 // path or repository to model and tokenizer
#include "mlx_lm/models/architecture.h"       // what a model is
#include "mlx_lm/sample/constraint.h"         // keeps a text inside a grammar
#include "mlx_lm/sample/logits_processors.h"  // what changes logits before that
#include "mlx_lm/sample/sampler.h"            // how the next token is chosen
#include "mlx_lm/text/answer_parser.h"        // text, reasoning and tool calls out of an answer
#include "mlx_lm/text/tokenizer_wrapper.h"    // text to tokens and chat templates
