// From a row of logits to a token: penalties, mlx-lm's filters, and a draw. Logits need not be normalized. A NaN counts
// as -infinity, +infinity as the largest float.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace mlx_lm::kernels {

// They act in this order, on the probabilities before any temperature.
struct Filters {
  float top_p = 0;                       // off unless 0 < p < 1
  float min_p = 0;                       // 0: off
  int min_tokens_to_keep = 1;            // that min_p may not drop
  float xtc_threshold = 0.1f;            // acts only where a row's draw says so
  std::vector<int32_t> xtc_spared = {};  // ascending: tokens that xtc may not drop
  int top_k = 0;                         // off unless 0 < k < size
};

// What chance decides of a row.
struct Draw {
  double token = 0.5;  // in (0, 1): where in the sum of all probabilities the token lies
  bool xtc = false;
};

// One token of each row, by its probability among those that the filters keep, at a temperature > 0; the first if there
// is nothing but -infinity. x: (n, size); draws, tokens: (n).
void sample(const float* x, int n, int size, const Filters& filters, float temp, const Draw* draws, uint32_t* tokens);

// What the filters drop becomes -infinity. Of equal numbers that k tokens (top_k, min_tokens_to_keep) divide the first
// ones stay. x, out: (n, size).
void filter(const float* x, int n, int size, const Filters& filters, bool xtc, float* out);

// A change of some logits, by the tokens that came before.
struct Adjustment {
  enum class Kind : uint8_t {
    bias,        // x += bias
    repetition,  // x of every token in the context: x * penalty if it is negative, else x / penalty
    presence,    // x -= penalty for every token in the context
    frequency,   // x -= penalty as often as it is in the context
  };
  Kind kind = Kind::bias;
  float penalty = 0;
  int context_size = 0;                              // the last tokens, so many; 0: all
  std::vector<std::pair<int32_t, float>> bias = {};  // token, what is added
};
// Applies them one after another. Tokens outside of the vocabulary are passed over. x, out: (n, size), of which all
// rows came after the same tokens.
void adjust(const float* x, int n, int size, std::span<const Adjustment> adjustments, std::span<const int32_t> tokens,
            float* out);

}  // namespace mlx_lm::kernels
