#include "mlx_lm/kernels/experts.h"

#include <vector>

#include "mlx_lm/kernels/dense.h"
#include "mlx_lm/kernels/packed_floats.h"
#include "mlx_lm/kernels/panels.h"
#include "mlx_lm/kernels/pieces.h"

namespace mlx_lm::kernels {
namespace {

// Some products of one expert, for the rows of blocks [first, last). begin: in Plan's order.
struct Piece {
  int expert, begin, count, first, last;
};

// The products ordered by expert.
class Plan {
 public:
  Plan(const ExpertRows& rows, int experts, int out, float* y)
      : per_(rows.per), out_(out), y_(y), starts_(experts + 1), order_(rows.n) {
    const auto exists = [&](int t) { return rows.experts[t] >= 0 && rows.experts[t] < experts; };
    for (int t = 0; t < rows.n; ++t) {
      if (exists(t)) {
        ++starts_[rows.experts[t] + 1];
      } else {
        std::fill_n(y + static_cast<size_t>(t) * out, out, 0.f);
      }
    }
    for (int e = 0; e < experts; ++e) starts_[e + 1] += starts_[e];
    std::vector<int> next(starts_.begin(), starts_.end() - 1);
    for (int t = 0; t < rows.n; ++t) {
      if (exists(t)) order_[next[rows.experts[t]]++] = t;
    }
  }

  int experts() const { return static_cast<int>(starts_.size()) - 1; }
  int size() const { return starts_.back(); }
  int rows_of(int expert) const { return starts_[expert + 1] - starts_[expert]; }
  int used() const {
    int count = 0;
    for (int e = 0; e < experts(); ++e) count += rows_of(e) > 0;
    return count;
  }
  int most() const {
    int most = 0;
    for (int e = 0; e < experts(); ++e) most = std::max(most, rows_of(e));
    return most;
  }

  // The row of x of the i-th product in order.
  int input(int i) const { return order_[i] / per_; }
  float* output(int i) const { return y_ + static_cast<size_t>(order_[i]) * out_; }
  // Whether the outputs of a piece follow each other.
  bool straight(const Piece& p) const {
    for (int i = 1; i < p.count; ++i) {
      if (order_[p.begin + i] != order_[p.begin] + i) return false;
    }
    return true;
  }
  // from: (count, width), the rows of the piece's blocks.
  void scatter(const Piece& p, const float* from, int width) const {
    for (int i = 0; i < p.count; ++i) {
      std::copy_n(from + static_cast<size_t>(i) * width, width, output(p.begin + i) + p.first * kBlock);
    }
  }

  // Experts with up to `few` rows in pieces of few_blocks blocks, the others in pieces of `together` rows and
  // many_blocks.
  std::vector<Piece> cut(int few, int few_blocks, int together, int many_blocks) const {
    std::vector<Piece> pieces;
    const int blocks = (out_ + kBlock - 1) / kBlock;
    for (int e = 0; e < experts(); ++e) {
      const bool is_few = rows_of(e) <= few;
      const int step = is_few ? few_blocks : many_blocks, rows = is_few ? few : together;
      for (int begin = starts_[e]; begin < starts_[e + 1]; begin += rows) {
        const int count = std::min(rows, starts_[e + 1] - begin);
        for (int first = 0; first < blocks; first += step) {
          pieces.push_back({e, begin, count, first, std::min(blocks, first + step)});
        }
      }
    }
    return pieces;
  }

 private:
  int per_, out_;
  float* y_;
  std::vector<int> starts_;  // of each expert in order_
  std::vector<int> order_;
};

// Memory of this thread, which lasts until its next piece.
float* scratch(std::vector<float>& memory, size_t size) {
  if (memory.size() < size) memory.resize(size);
  return memory.data();
}

// product(view, first, last, count, y): into a piece's rows of y where they follow each other, else by way of a copy.
template <class Product>
void into_rows(const Plan& plan, const Piece& p, const PackedView& w, const Product& product) {
  if (plan.straight(p)) return product(w, p.first, p.last, p.count, plan.output(p.begin));
  PackedView part = w;  // the blocks of the piece alone
  part.data += p.first * w.block_bytes();
  part.rows = std::min(w.rows, p.last * kBlock) - p.first * kBlock;
  thread_local std::vector<float> memory;
  float* y = scratch(memory, static_cast<size_t>(p.count) * part.rows);
  product(part, 0, p.last - p.first, p.count, y);
  plan.scatter(p, y, part.rows);
}

template <class Row, class Fill>
void panels_into_rows(const Plan& plan, const Piece& p, int rows, int cols, const Row& row, const Fill& fill) {
  const int width = std::min(rows, p.last * kBlock) - p.first * kBlock;
  const bool straight = plan.straight(p);
  alignas(64) float copy[kPanelRows * kPanelBlocks * kBlock];
  float* y = straight ? plan.output(p.begin) + p.first * kBlock : copy;
  panel_piece(rows, cols, p.first, p.last, p.count, row, y, straight ? rows : width, fill);
  if (!straight) plan.scatter(p, copy, width);
}

using Stack = std::span<const std::shared_ptr<const PackedMatrix>>;

// Activations as whole numbers.
template <class Code>
void rounded_products(Stack w, const PackedProducts<Code>& products, const float* x, const Plan& plan) {
  const PackedView& shape = w[0]->view();
  const int cols = shape.cols, groups = cols / kGroup;
  // In the plan's order, so that the rows of an expert follow each other; where each has one, every row of x once.
  const bool shared = plan.most() <= 1;
  int inputs = plan.size();
  if (shared) {
    inputs = 0;
    for (int i = 0; i < plan.size(); ++i) inputs = std::max(inputs, plan.input(i) + 1);
  }
  thread_local std::vector<Code> memory;
  thread_local std::vector<Factor> factor_memory;
  if (memory.size() < static_cast<size_t>(inputs) * cols) memory.resize(static_cast<size_t>(inputs) * cols);
  if (factor_memory.size() < static_cast<size_t>(inputs) * groups) {
    factor_memory.resize(static_cast<size_t>(inputs) * groups);
  }
  Code* const codes = memory.data();  // not the thread_local names below: each thread has its own
  Factor* const factors = factor_memory.data();
  parallel_pieces(inputs, 8, 0.25 * inputs * cols, [&](int first, int last) {
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      const size_t row = shared ? i : plan.input(i);
      products.quantize(x + row * cols, cols, codes + i * cols, factors + i * groups);
    }
  });
  const QuantizedRows<Code> rounded{codes, factors, cols};
  const auto pieces =
      plan.cut(kFew, few_blocks(shape, plan.used() * shape.nbytes()), rows_together(cols, sizeof(Code)), kManyBlocks);
  parallel(pieces.size(), 1. * plan.size() * shape.rows * cols, [&](int i) {
    const Piece& p = pieces[i];
    const auto rows = rounded.from(shared ? plan.input(p.begin) : p.begin);
    const auto product = plan.rows_of(p.expert) <= kFew ? products.few : products.many;
    into_rows(plan, p, w[p.expert]->view(), [&](const PackedView& view, int first, int last, int n, float* y) {
      product(view, first, last, rows, n, y);
    });
  });
}

void float_products(Stack w, const float* x, const Plan& plan) {
  const PackedView& shape = w[0]->view();
  const size_t cols = shape.cols;
  const auto row_at = [&](int i) { return x + plan.input(i) * cols; };
  bool plain = true;
  for (const auto& matrix : w) plain &= matrix->view().plain;
  const Table& t = table_for(shape);
  // Sums in the order of the panels' products, which are the set's in use.
  const int few = plain && &t == &table() ? kFew : 0;
  const auto pieces = plan.cut(few, few_blocks(shape, plan.used() * shape.nbytes()), kPanelRows, kPanelBlocks);
  parallel(pieces.size(), 1. * plan.size() * shape.rows * shape.cols, [&](int i) {
    const Piece& p = pieces[i];
    const PackedView& view = w[p.expert]->view();
    if (plan.rows_of(p.expert) > few) {
      panels_into_rows(
          plan, p, view.rows, view.cols, [&](int k) { return row_at(p.begin + k); },
          [&](int block, int begin, int end, float* panel) { t.dequantize(view, block, begin, end, panel); });
      return;
    }
    const float* rows = row_at(p.begin);
    thread_local std::vector<float> memory;
    if (p.count > 1) {
      float* copy = scratch(memory, p.count * cols);
      for (int k = 0; k < p.count; ++k) std::copy_n(row_at(p.begin + k), cols, copy + k * cols);
      rows = copy;
    }
    into_rows(plan, p, view, [&](const PackedView& part, int first, int last, int n, float* y) {
      t.mxfp8_few(part, first, last, rows, n, y);
    });
  });
}

}  // namespace

void expert_matmul(Stack w, const float* x, const ExpertRows& rows, float* y) {
  const PackedView& shape = w[0]->view();
  const Plan plan(rows, static_cast<int>(w.size()), shape.rows, y);
  switch (activations_for(shape, activations())) {
    case Activations::int8:
      return rounded_products(w, table_for(shape).int8, x, plan);
    case Activations::int16:
      return rounded_products(w, table_for(shape).int16, x, plan);
    case Activations::float32:
      return float_products(w, x, plan);
  }
}

void expert_matmul(const DenseMatrix& w, int experts, const float* x, const ExpertRows& rows, float* y) {
  const int out = w.rows / experts;
  const size_t cols = w.cols;
  const Plan plan(rows, experts, out, y);
  const int blocks = dense_piece_rows(w) / kBlock;
  const auto pieces = plan.cut(kDenseRows, blocks, kDenseRows, blocks);
  parallel(pieces.size(), 1. * plan.size() * out * w.cols, [&](int i) {
    const Piece& p = pieces[i];
    const int first = p.first * kBlock, count = std::min(out, p.last * kBlock) - first;
    thread_local std::vector<float> memory;
    const bool straight = plan.straight(p);
    const size_t outputs = straight ? 0 : static_cast<size_t>(p.count) * count;
    float* const copies = scratch(memory, outputs + p.count * cols);
    for (int k = 0; k < p.count; ++k)
      std::copy_n(x + plan.input(p.begin + k) * cols, cols, copies + outputs + k * cols);
    float* const to = straight ? plan.output(p.begin) + first : copies;
    dense_piece(w, p.expert * out + first, count, copies + outputs, p.count, to, straight ? out : count);
    if (!straight) plan.scatter(p, copies, count);
  });
}

}  // namespace mlx_lm::kernels
