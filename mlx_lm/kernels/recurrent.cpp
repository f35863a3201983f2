#include "mlx_lm/kernels/recurrent.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

// Numbers that a task works with between two calls; one per thread.
float* scratch(size_t n) {
  thread_local std::vector<float> numbers;
  if (numbers.size() < n) numbers.resize(n);
  return numbers.data();
}

double tokens_of(std::span<const Sequence> texts) {
  double sum = 0;
  for (const auto& text : texts) sum += text.tokens;
  return sum;
}

// Neighbouring channels, few enough that the rows of a task stay in the first-level cache.
struct ChannelPiece {
  const Columns* x;
  int column;   // of x
  int channel;  // of the result
  int count;
};
constexpr int kChannels = 256;

std::vector<ChannelPiece> channel_pieces(std::span<const Columns> parts) {
  std::vector<ChannelPiece> pieces;
  int channel = 0;
  for (const auto& part : parts) {
    for (int column = 0; column < part.count;) {
      const int count = std::min({kChannels, part.piece - column % part.piece, part.count - column});
      pieces.push_back({&part, column, channel, count});
      column += count, channel += count;
    }
  }
  return pieces;
}

void convolve(const ConvolutionArgs& args, const Sequence& text, const ChannelPiece& piece) {
  const StateLoops& loops = *table().states;
  const size_t channels = args.channels;
  const int kept = args.taps - 1, n = piece.count;
  // Token t's input is at slot t % taps where it is a product.
  float* const zeros = scratch(static_cast<size_t>(args.taps + 1) * kChannels);
  float* const products = zeros + kChannels;
  std::fill_n(zeros, n, 0.f);
  const auto input = [&](int t) -> const float* {
    if (t < 0) {
      return text.before == nullptr ? zeros : text.before + (t + kept) * channels + piece.channel;
    }
    if (args.gate_in != nullptr) return products + static_cast<size_t>(t % args.taps) * kChannels;
    return piece.x->at(text.row + t, piece.column);
  };
  std::vector<const float*> rows(args.taps);
  for (int t = 0; t < text.tokens; ++t) {
    if (args.gate_in != nullptr) {
      const float* x = piece.x->at(text.row + t, piece.column);
      const float* gate = args.gate_in->at(text.row + t, piece.channel);
      float* product = products + static_cast<size_t>(t % args.taps) * kChannels;
      for (int c = 0; c < n; ++c) product[c] = x[c] * gate[c];
    }
    for (int k = 0; k < args.taps; ++k) rows[k] = input(t - kept + k);
    float* out = args.out + (text.row + t) * channels + piece.channel;
    loops.convolve(rows.data(), args.weight + piece.channel, channels, args.taps,
                   args.bias == nullptr ? nullptr : args.bias + piece.channel, n, args.silu, out);
    if (args.gate_out != nullptr) {
      const float* gate = args.gate_out->at(text.row + t, piece.channel);
      for (int c = 0; c < n; ++c) out[c] *= gate[c];
    }
  }
  for (int j = 0; j < kept; ++j) {
    std::copy_n(input(text.tokens - kept + j), n, text.after + j * channels + piece.channel);
  }
}

// Tokens of linear attention whose keys and queries are prepared at once, and rows of a state that then see them all
// while they are in the first-level cache.
constexpr int kTokens = 16, kRows = 4;

struct Token {
  float *key, *decayed_key, *decayed_query;  // key_dim numbers each
  float key_query;
};

// A token's key and query, normalized, and times its decay.
void prepare(const LinearAttentionArgs& args, size_t row, int head, Token& token) {
  const StateLoops& loops = *table().states;
  const int dim = args.key_dim, key_head = head / (args.value_heads / args.key_heads);
  const float *q = args.q.at(row, key_head * dim), *k = args.k.at(row, key_head * dim);
  float by_q = 1, by_k = 1;
  if (args.normalize > 0) {
    by_q = 1 / std::sqrt((loops.dot(q, q, dim) + args.normalize) * static_cast<float>(dim));
    by_k = 1 / std::sqrt(loops.dot(k, k, dim) + args.normalize);
  }
  token.key_query = loops.dot(q, k, dim) * by_q * by_k;
  const size_t at = row * args.value_heads + head;
  if (args.decay_each) {
    const float* decay = args.decay + at * dim;
    for (int i = 0; i < dim; ++i) {
      token.key[i] = k[i] * by_k;
      token.decayed_key[i] = token.key[i] * decay[i];
      token.decayed_query[i] = q[i] * by_q * decay[i];
    }
    return;
  }
  const float decay = args.decay[at], decayed_q = by_q * decay, decayed_k = by_k * decay;
  for (int i = 0; i < dim; ++i) {
    token.key[i] = k[i] * by_k;
    token.decayed_key[i] = k[i] * decayed_k;
    token.decayed_query[i] = q[i] * decayed_q;
  }
}

void attend_head(const LinearAttentionArgs& args, const Sequence& text, int head) {
  const StateLoops& loops = *table().states;
  const int dim = args.key_dim, values = args.value_dim, chunk = std::min(kTokens, text.tokens);
  const size_t size = static_cast<size_t>(values) * dim;
  float* const after = text.after + head * size;
  const float* before = text.before == nullptr ? nullptr : text.before + head * size;
  if (before == nullptr) {
    std::fill_n(after, size, 0.f);
    before = after;
  }
  float* const numbers = scratch(3 * static_cast<size_t>(chunk) * dim);
  Token tokens[kTokens];
  for (int i = 0; i < chunk; ++i) {
    float* const of = numbers + 3 * static_cast<size_t>(i) * dim;
    tokens[i] = {of, of + dim, of + 2 * dim, 0};
  }
  for (int first = 0; first < text.tokens; first += chunk, before = after) {
    const int count = std::min(chunk, text.tokens - first);
    for (int i = 0; i < count; ++i) prepare(args, text.row + first + i, head, tokens[i]);
    for (int r = 0; r < values; r += kRows) {
      const size_t of_state = static_cast<size_t>(r) * dim;
      for (int i = 0; i < count; ++i) {
        const size_t row = text.row + first + i, at = row * args.value_heads + head;
        const Token& token = tokens[i];
        loops.update({.before = (i == 0 ? before : after) + of_state,
                      .after = after + of_state,
                      .decay = args.decay + (args.decay_each ? at * dim : at),
                      .key = token.key,
                      .decayed_key = token.decayed_key,
                      .decayed_query = token.decayed_query,
                      .values = args.v.at(row, head * values + r),
                      .out = args.out + at * values + r,
                      .key_query = token.key_query,
                      .write = args.write[at],
                      .rows = std::min(kRows, values - r),
                      .cols = dim},
                     args.decay_each, args.correct);
      }
    }
    if (args.skip == nullptr) continue;
    for (int i = 0; i < count; ++i) {
      const size_t row = text.row + first + i;
      const float* v = args.v.at(row, head * values);
      float* out = args.out + (row * args.value_heads + head) * values;
      for (int r = 0; r < values; ++r) out[r] += args.skip[head] * v[r];
    }
  }
}

}  // namespace

void convolution(const ConvolutionArgs& args, std::span<const Sequence> texts) {
  const auto pieces = channel_pieces(args.x);
  const int count = static_cast<int>(pieces.size());
  parallel(count * static_cast<int>(texts.size()), tokens_of(texts) * args.channels * (args.taps + 4),
           [&](int task) { convolve(args, texts[task / count], pieces[task % count]); });
}

void decays(const DecayArgs& args) {
  const StateLoops& loops = *table().states;
  const int n = args.a.count, heads = n / args.shared;
  parallel_pieces(static_cast<int>(args.rows), 8, 40. * args.rows * n, [&](int first, int last) {
    float* const step = scratch(n);
    for (size_t row = first; row < static_cast<size_t>(last); ++row) {
      for (int i = 0; i < n; ++i) step[i] = *args.a.at(row, i) + args.bias[i];
      loops.softplus(step, n, step);
      float *decay = args.decay + row * n, *write = args.write + row * heads;
      for (int i = 0; i < n; ++i) {
        step[i] = std::min(std::max(step[i], args.low), args.high);
        decay[i] = std::exp(-args.rate[i / args.shared] * step[i]);
      }
      if (args.b == nullptr) {
        std::copy_n(step, heads, write);
      } else {
        for (int i = 0; i < heads; ++i) write[i] = 1 / (1 + std::exp(-*args.b->at(row, i)));
      }
    }
  });
}

void linear_attention(const LinearAttentionArgs& args, std::span<const Sequence> texts) {
  const double operations = 3. * args.value_heads * args.value_dim * args.key_dim;
  parallel(args.value_heads * static_cast<int>(texts.size()), tokens_of(texts) * operations,
           [&](int task) { attend_head(args, texts[task / args.value_heads], task % args.value_heads); });
}

void selective_scan(const SelectiveScanArgs& args, std::span<const Sequence> texts) {
  constexpr int kPiece = 64;  // channels: their states, of 16 numbers as a rule, stay in the first-level cache
  const StateLoops& loops = *table().states;
  const int pieces = (args.channels + kPiece - 1) / kPiece;
  const double operations = 8. * args.channels * args.size;
  parallel(pieces * static_cast<int>(texts.size()), tokens_of(texts) * operations, [&](int task) {
    const Sequence& text = texts[task / pieces];
    const int first = task % pieces * kPiece, n = std::min(kPiece, args.channels - first);
    const size_t of_state = static_cast<size_t>(first) * args.size;
    float step[kPiece];
    float* const after = text.after + of_state;
    const float* before = text.before == nullptr ? nullptr : text.before + of_state;
    for (int t = 0; t < text.tokens; ++t, before = after) {
      const size_t row = text.row + t;
      loops.softplus(args.dt.at(row, first), n, step);
      loops.scan({.before = before,
                  .after = after,
                  .rate = args.rate + of_state,
                  .x = args.x.at(row, first),
                  .step = step,
                  .b = args.b.at(row, 0),
                  .c = args.c.at(row, 0),
                  .skip = args.skip + first,
                  .out = args.out + row * args.channels + first,
                  .n = n,
                  .size = args.size});
    }
  });
}

void gated_norm(const GatedNormArgs& args) {
  const Table& t = table();
  const int groups = args.gate.count / args.size;
  const int together = std::max(1, 512 / args.size);  // groups of a task
  const int tasks = (groups + together - 1) / together;
  parallel(static_cast<int>(args.rows) * tasks, 6. * args.rows * args.gate.count, [&](int task) {
    const size_t row = task / tasks;
    const int first = task % tasks * together, last = std::min(groups, first + together);
    for (int group = first; group < last; ++group) {
      const int column = group * args.size;
      const float* x = args.x + row * args.gate.count + column;
      const float* gate = args.gate.at(row, column);
      const float* weight = args.weight + (args.shared ? 0 : column);
      float* out = args.out + row * args.gate.count + column;
      if (args.gate_first) {
        t.swiglu(gate, x, args.size, out);
        t.rms_norm(out, weight, args.size, args.eps, out);
      } else {
        t.rms_norm(x, weight, args.size, args.eps, out);
        t.swiglu(gate, out, args.size, out);
      }
    }
  });
}

namespace {

// Calls work(row, column, count) for all columns, neighbours together.
template <class F>
void for_pieces(const Columns& columns, size_t rows, double operations, F work) {
  parallel_pieces(static_cast<int>(rows), 4, operations * rows * columns.count, [&](int first, int last) {
    for (size_t row = first; row < static_cast<size_t>(last); ++row) {
      for (int column = 0; column < columns.count; column += columns.piece) {
        work(row, column, std::min(columns.piece, columns.count - column));
      }
    }
  });
}

}  // namespace

void sigmoid_gate(const float* x, const Columns& gate, size_t rows, float* out) {
  const StateLoops& loops = *table().states;
  for_pieces(gate, rows, 4, [&](size_t row, int column, int n) {
    const size_t at = row * gate.count + column;
    loops.sigmoid_gate(x + at, gate.at(row, column), n, out + at);
  });
}

void take_columns(const Columns& columns, size_t rows, float* out) {
  for_pieces(columns, rows, 1, [&](size_t row, int column, int n) {
    std::copy_n(columns.at(row, column), n, out + row * columns.count + column);
  });
}

}  // namespace mlx_lm::kernels
