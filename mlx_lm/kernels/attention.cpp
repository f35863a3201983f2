// Softmax attention with online softmax: keys pass by in blocks, and what has been summed so far is scaled down
// whenever a larger score turns up.
//
// A task is a block of queries of one kv head (with all the query heads that share it) and, where there are few such
// blocks, a stretch of the keys; the stretches are merged in order afterwards.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "mlx_lm/kernels/affine.h"
#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kKeys = AffineBlock::kRows;  // keys at a time
constexpr int kRows = 48;                  // query rows (queries times heads) of a task, about
constexpr int kTasks = 24;                 // about as many stretches of keys, where there are fewer blocks of queries
constexpr int kFewRows = 16;               // query rows up to which turning keys into panels does not pay

constexpr float kNothing = -std::numeric_limits<float>::infinity();  // the largest score of none

struct Range {
  int begin, end;
  bool empty() const { return begin >= end; }
};

Range visible(const AttentionArgs& a, int query) {
  const int last = a.start + query;
  return {a.window == 0 ? 0 : std::max(0, last - a.window + 1), std::min(a.length, last + 1)};
}

// The running softmax of some query rows. Sums are padded to whole vectors.
struct State {
  float* high;    // (rows)
  float* weight;  // (rows): sum of exp(score - high)
  float* sums;    // (rows, padded): sum of exp(score - high) * value
};

class Attention {
 public:
  explicit Attention(const AttentionArgs& a) : a_(a) {
    block_ = std::clamp(kRows / shared_, 1, std::max(1, a.queries));
    const int blocks = a.kv_heads * ((a.queries + block_ - 1) / block_);
    blocks_ = a.batch * blocks;
    all_ = {visible(a, 0).begin, visible(a, a.queries - 1).end};
    // Neither the batch nor the number of threads has a say, so that no result depends on them.
    const int count = std::max(0, all_.end - all_.begin);
    stretch_ = (static_cast<int64_t>(count) * blocks / kTasks + kKeys - 1) / kKeys * kKeys;
    stretch_ = std::max(stretch_, kKeys);
    stretches_ = blocks < kTasks ? std::max(1, (count + stretch_ - 1) / stretch_) : 1;
  }

  int tasks() const { return blocks_ * stretches_; }
  // Half of the scores of a long prompt are masked, but that is all the same to how work is shared out.
  double operations() const { return 2. * a_.batch * a_.queries * a_.heads * a_.head_dim * a_.length; }
  // Numbers that the tasks leave behind for merge().
  size_t partial_size() const { return stretches_ == 1 ? 0 : tasks() * state_size(); }
  int merges() const { return stretches_ == 1 ? 0 : blocks_; }

  void run(int task, float* partial) const {
    const Block block = block_at(task / stretches_);
    if (stretches_ == 1) return attend(block);
    const int begin = all_.begin + task % stretches_ * stretch_;
    const State state = state_at(partial + task * state_size());
    start(block, state, /*with_sinks=*/task % stretches_ == 0);
    sum(block, {begin, std::min(all_.end, begin + stretch_)}, state);
  }

  // Merges the stretches of a block.
  void merge(int i, float* partial) const { merge(block_at(i), partial + i * stretches_ * state_size()); }

 private:
  struct Block {
    int batch, kv_head, first, queries;  // queries first, first + 1, ...
  };

  Block block_at(int i) const {
    const int per_head = (a_.queries + block_ - 1) / block_;
    const int first = i % per_head * block_;
    return {i / per_head / a_.kv_heads, i / per_head % a_.kv_heads, first, std::min(block_, a_.queries - first)};
  }

  size_t state_size() const { return static_cast<size_t>(block_) * shared_ * (padded_ + 2); }
  State state_at(float* memory) const {
    const size_t rows = static_cast<size_t>(block_) * shared_;
    return {memory, memory + rows, memory + 2 * rows};
  }

  // Row r of a block is query r / shared, head r % shared of those that share the kv head.
  size_t row_of(const Block& b, int r) const {
    const size_t query = static_cast<size_t>(b.batch) * a_.queries + b.first + r / shared_;
    return query * a_.heads + b.kv_head * shared_ + r % shared_;
  }

  void attend(const Block& block) const {
    thread_local std::vector<float> memory;
    if (memory.size() < state_size()) memory.resize(state_size());
    const State state = state_at(memory.data());
    start(block, state, /*with_sinks=*/true);
    sum(block, {0, a_.length}, state);
    finish(block, state);
  }

  void finish(const Block& b, const State& s) const {
    for (int r = 0; r < b.queries * shared_; ++r) {
      float* to = a_.out + row_of(b, r) * value_dim_;
      const float factor = s.weight[r] > 0 ? 1 / s.weight[r] : 0;  // 0: a query that sees nothing
      for (int d = 0; d < value_dim_; ++d) to[d] = s.sums[r * padded_ + d] * factor;
    }
  }

  // The states of a block's stretches follow each other.
  void merge(const Block& b, float* states) const {
    thread_local std::vector<float> memory;
    if (memory.size() < static_cast<size_t>(stretches_)) memory.resize(stretches_);
    float* const factors = memory.data();
    const State first = state_at(states);
    for (int r = 0; r < b.queries * shared_; ++r) {
      float* to = a_.out + row_of(b, r) * value_dim_;
      std::fill_n(to, value_dim_, 0.f);
      for (int i = 0; i < stretches_; ++i) factors[i] = first.high[i * state_size() + r];
      const float high = t_.max(factors, stretches_);
      if (high == kNothing) continue;
      t_.exp_sum(factors, stretches_, high);
      float weight = 0;
      for (int i = 0; i < stretches_; ++i) weight += factors[i] * first.weight[i * state_size() + r];
      for (int i = 0; i < stretches_; ++i) factors[i] /= weight;
      const Rows sums{first.sums + static_cast<size_t>(r) * padded_, Type::f32, state_size()};
      t_.weighted_sums(sums, stretches_, value_dim_, factors, 0, 1, to, 0);
    }
  }

  // A sink is a score that has been seen already, with a value of 0.
  void start(const Block& b, const State& s, bool with_sinks) const {
    const int rows = b.queries * shared_;
    std::fill_n(s.high, rows, kNothing);
    std::fill_n(s.weight, rows, 0.f);
    std::fill_n(s.sums, static_cast<size_t>(rows) * padded_, 0.f);
    for (int r = 0; with_sinks && a_.sinks != nullptr && r < rows; ++r) {
      s.high[r] = a_.sinks[b.kv_head * shared_ + r % shared_];
      s.weight[r] = s.high[r] == kNothing ? 0.f : 1.f;
    }
  }

  // Adds the keys in `range` to the running softmax of a block.
  void sum(const Block& b, Range range, const State& s) const {
    const int rows = b.queries * shared_;
    // Later queries see later keys, at both ends.
    range.begin = std::max(range.begin, visible(a_, b.first).begin);
    range.end = std::min(range.end, visible(a_, b.first + b.queries - 1).end);
    if (range.empty()) return;

    const size_t dim = a_.head_dim;
    thread_local std::vector<float> memory;
    const size_t tail = a_.tail_dim, panel = std::max(dim, tail);
    const size_t groups = affine() ? dim / a_.affine_keys->group_size : 0, numbers = affine() ? kKeys * panel : 0;
    const size_t more_scores = latent() && rows <= kFewRows ? rows * kKeys : 0;
    const size_t size =
        rows * (dim + tail + kKeys + groups) + more_scores + 2 * kBlock * panel + padded_ * kKeys + numbers;
    if (memory.size() < size) memory.resize(size);
    thread_local AffineBlock block;
    Work work{block};
    float* next = memory.data();
    const auto take = [&](size_t n) { return std::exchange(next, next + n); };
    work.q = take(rows * dim);
    work.q_tail = take(rows * tail);
    work.scores = take(rows * kKeys);
    work.more_scores = take(more_scores);
    work.panels = take(2 * kBlock * panel);
    work.values = take(padded_ * kKeys);
    work.q_sums = take(rows * groups);
    work.keys = take(numbers);
    for (int r = 0; r < rows; ++r) {
      const float* from = a_.q + row_of(b, r) * dim;
      for (size_t d = 0; d < dim; ++d) work.q[r * dim + d] = from[d] * a_.scale;
      const float* more = latent() ? a_.q_tail + row_of(b, r) * tail : nullptr;
      for (size_t d = 0; d < tail; ++d) work.q_tail[r * tail + d] = more[d] * a_.scale;
    }
    if (affine()) group_sums(work.q, rows, dim, a_.affine_keys->group_size, work.q_sums);
    const size_t head = (static_cast<size_t>(b.batch) * a_.kv_heads + b.kv_head) * a_.capacity;
    for (int key = range.begin; key < range.end; key += kKeys) {
      const int n = std::min(kKeys, range.end - key);
      score(head + key, rows, n, work);
      if (a_.softcap != 0) {
        for (int r = 0; r < rows; ++r) t_.soft_cap(work.scores + r * kKeys, n, a_.softcap);
      }
      for (int r = 0; r < rows; ++r) {
        const Range seen = visible(a_, b.first + r / shared_);
        soften(work.scores + r * kKeys, n, {std::max(0, seen.begin - key), std::min(n, seen.end - key)}, r, s);
      }
      add_values(head + key, rows, n, work, s);
    }
  }

  struct Work {
    AffineBlock& affine;
    float* q = nullptr;            // (rows, D), scaled
    float* q_tail = nullptr;       // (rows, tail_dim), the same
    float* scores = nullptr;       // (rows, kKeys)
    float* more_scores = nullptr;  // the same, of tails
    float* panels = nullptr;       // two of (D, 8)
    float* values = nullptr;       // (kKeys, padded)
    // Of affine keys and values.
    float* q_sums = nullptr;  // (rows, groups)
    float* keys = nullptr;    // (kKeys, D)
  };

  bool affine() const { return a_.affine_keys.has_value(); }
  bool latent() const { return a_.q_tail != nullptr; }

  // n rows of one of the buffers, from the given one on; affine ones as floats, in memory that the next ones take.
  Rows rows_at(const void* numbers, const std::optional<AffineRows>& affine_rows, int dim, size_t row, int n,
               const Work& work) const {
    if (!affine()) return Rows{numbers, a_.type, static_cast<size_t>(dim)}.from(row, 0);
    work.affine.load(t_, *affine_rows, dim, row, n);
    work.affine.to_float(work.keys, dim);
    return {work.keys, Type::f32, static_cast<size_t>(dim)};
  }

  // Of n keys, the first of which is in that row of the buffer.
  void score(size_t row, int rows, int n, const Work& work) const {
    const int dim = a_.head_dim, tail = a_.tail_dim;
    const bool few = rows <= kFewRows;
    if (affine() && few) {
      work.affine.load(t_, *a_.affine_keys, dim, row, n);
      work.affine.dots(work.q, work.q_sums, rows, work.scores);
    } else {
      const Rows keys = rows_at(a_.keys, a_.affine_keys, dim, row, n, work);
      if (few) t_.dots(keys, n, dim, work.q, dim, rows, work.scores, kKeys);
      if (!few) score_by_panels(keys, n, dim, work.q, rows, work, /*add=*/false);
    }
    if (!latent()) return;
    const Rows tails = rows_at(a_.values, a_.affine_values, tail, row, n, work);
    if (!few) return score_by_panels(tails, n, tail, work.q_tail, rows, work, /*add=*/true);
    t_.dots(tails, n, tail, work.q_tail, tail, rows, work.more_scores, kKeys);
    for (int r = 0; r < rows; ++r) {
      for (int i = r * kKeys; i < r * kKeys + n; ++i) work.scores[i] += work.more_scores[i];
    }
  }

  void score_by_panels(const Rows& keys, int n, int dim, const float* q, int rows, const Work& work, bool add) const {
    const int apart = kBlock * dim;
    for (int j = 0; j < n; j += 2 * kBlock) {
      const int count = std::min(2 * kBlock, n - j);
      t_.panel(keys.from(j, 0), std::min(kBlock, count), dim, work.panels);
      if (count > kBlock) {
        t_.panel(keys.from(j + kBlock, 0), count - kBlock, dim, work.panels + apart);
        t_.panel_products(work.panels, apart, kBlock, dim, q, dim, rows, work.scores + j, kKeys, count, add);
      } else {
        t_.panel_product(work.panels, kBlock, dim, q, dim, rows, work.scores + j, kKeys, count, add);
      }
    }
  }

  // Turns n scores of row r, of which those in `seen` count, into weights.
  void soften(float* scores, int n, Range seen, int r, const State& s) const {
    if (seen.empty()) {
      std::fill_n(scores, n, 0.f);
      return;
    }
    const float high = std::max(s.high[r], t_.max(scores + seen.begin, seen.end - seen.begin));
    if (high > s.high[r]) {
      if (s.high[r] != kNothing) {
        const float factor = std::exp(s.high[r] - high);
        t_.scale(s.sums + static_cast<size_t>(r) * padded_, padded_, factor);
        s.weight[r] *= factor;
      }
      s.high[r] = high;
    }
    std::fill(scores, scores + seen.begin, 0.f);
    std::fill(scores + seen.end, scores + n, 0.f);
    s.weight[r] += t_.exp_sum(scores + seen.begin, seen.end - seen.begin, high);
  }

  void add_values(size_t row, int rows, int n, const Work& work, const State& s) const {
    const int dim = value_dim_;
    if (affine()) {
      work.affine.load(t_, latent() ? *a_.affine_keys : *a_.affine_values, dim, row, n);
      if (rows <= kFewRows) return work.affine.add_weighted(work.scores, rows, s.sums, padded_);
      work.affine.to_float(work.values, padded_);
    } else {
      const Rows values = Rows{latent() ? a_.keys : a_.values, a_.type, static_cast<size_t>(dim)}.from(row, 0);
      if (rows <= kFewRows) return t_.weighted_sums(values, n, dim, work.scores, kKeys, rows, s.sums, padded_);
      for (int j = 0; j < n; ++j) {
        float* to = work.values + j * padded_;
        t_.to_float(a_.type, values.from(j, 0).data, dim, to);
        std::fill(to + dim, to + padded_, 0.f);
      }
    }
    int d = 0;
    for (; d + 2 * kBlock <= padded_; d += 2 * kBlock) {
      t_.panel_products(work.values + d, kBlock, padded_, n, work.scores, kKeys, rows, s.sums + d, padded_, 2 * kBlock,
                        /*add=*/true);
    }
    if (d < padded_) {
      t_.panel_product(work.values + d, padded_, n, work.scores, kKeys, rows, s.sums + d, padded_, kBlock,
                       /*add=*/true);
    }
  }

  const AttentionArgs a_;
  const Table& t_ = table();
  const int shared_ = a_.heads / a_.kv_heads;
  const int value_dim_ = a_.value_dim != 0 ? a_.value_dim : a_.head_dim;
  const int padded_ = (value_dim_ + kBlock - 1) / kBlock * kBlock;
  Range all_;  // keys that any query sees
  int block_, blocks_, stretch_, stretches_;
};

}  // namespace

void attention(std::span<const AttentionArgs> args) {
  struct Text {
    Attention attention;
    int tasks, merges;  // before its first
    size_t partial;     // likewise
  };
  std::vector<Text> texts;
  texts.reserve(args.size());
  int tasks = 0, merges = 0;
  size_t size = 0;
  double operations = 0;
  for (const auto& a : args) {
    const Attention& added = texts.emplace_back(Text{Attention(a), tasks, merges, size}).attention;
    tasks += added.tasks();
    merges += added.merges();
    size += added.partial_size();
    operations += added.operations();
  }
  thread_local std::vector<float> memory;
  if (memory.size() < size) memory.resize(size);
  float* const partial = memory.data();  // not the thread_local name below: each thread has its own
  // The text that the i-th of all tasks or merges belongs to: the last that begins at or before it.
  const auto text_of = [&](int Text::*first, int i) -> const Text& {
    return *std::prev(
        std::upper_bound(texts.begin(), texts.end(), i, [&](int i, const Text& text) { return i < text.*first; }));
  };
  parallel(tasks, operations, [&](int i) {
    const Text& text = text_of(&Text::tasks, i);
    text.attention.run(i - text.tasks, partial + text.partial);
  });
  parallel(merges, 2. * size, [&](int i) {
    const Text& text = text_of(&Text::merges, i);
    text.attention.merge(i - text.merges, partial + text.partial);
  });
}

}  // namespace mlx_lm::kernels
