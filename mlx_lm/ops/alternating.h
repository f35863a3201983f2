// Alternating updates (AltUp): several residual streams, of which a layer computes one and guesses the others.
// Source: https://arxiv.org/abs/2301.13310, as mlx-lm's models/gemma3n.py has it.
#pragma once

#include <vector>

#include <mlx/mlx.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

using Streams = std::vector<mx::array>;  // N of (B, L, E)

// Stream j becomes itself plus the sum over i of mixing[..., j * N + i] * stream i. Shapes: mixing (B, L, N * N).
Streams predict_streams(const Streams& streams, const mx::array& mixing);
// Stream j becomes itself plus (1 + correction[..., j]) * (computed - stream `active`), `computed` being what that
// stream was to be. Shapes: computed (B, L, E), correction (B, L, N).
Streams correct_streams(const Streams& streams, const mx::array& computed, const mx::array& correction, int active);

}  // namespace mlx_lm::ops
