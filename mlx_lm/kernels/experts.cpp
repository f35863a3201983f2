#include "mlx_lm/kernels/experts.h"

#include <vector>

#include "mlx_lm/kernels/dense.h"
#include "mlx_lm/kernels/packed_floats.h"
#include "mlx_lm/kernels/panels.h"
#include "mlx_lm/kernels/pieces.h"

namespace mlx_lm::kernels {
namespace {

// Some products of one expert with the stack's own number, for the rows of blocks [first, last). begin: in Plan's
// order.
struct Piece {
  int stack, expert, begin, count, first, last;
};

// The products ordered by expert.
class Plan {
 public:
  Plan(const ExpertRows& rows, int experts) : per_(rows.per), starts_(experts + 1), order_(rows.n) {
    const auto exists = [&](int t) { return rows.experts[t] >= 0 && rows.experts[t] < experts; };
    for (int t = 0; t < rows.n; ++t) {
      if (exists(t)) {
        ++starts_[rows.experts[t] + 1];
      } else {
        nowhere_.push_back(t);
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
  // The product's place among all of them.
  size_t place(int i) const { return order_[i]; }
  // Those of experts that do not exist.
  void clear(float* y, int width) const {
    for (size_t t : nowhere_) std::fill_n(y + t * width, width, 0.f);
  }
  // Whether the outputs of a piece follow each other.
  bool straight(const Piece& p) const {
    for (int i = 1; i < p.count; ++i) {
      if (order_[p.begin + i] != order_[p.begin] + i) return false;
    }
    return true;
  }
  // from: (count, width), the rows of the piece's blocks; y: (products, out).
  void scatter(const Piece& p, const float* from, int width, float* y, int out) const {
    for (int i = 0; i < p.count; ++i) {
      std::copy_n(from + static_cast<size_t>(i) * width, width, y + place(p.begin + i) * out + p.first * kBlock);
    }
  }

  // Of a stack with `out` rows. Experts with up to `few` rows of x in pieces of few_blocks blocks, the others in pieces
  // of `together` rows and many_blocks.
  void cut(int stack, int out, int few, int few_blocks, int together, int many_blocks,
           std::vector<Piece>& pieces) const {
    const int blocks = (out + kBlock - 1) / kBlock;
    for (int e = 0; e < experts(); ++e) {
      const bool is_few = rows_of(e) <= few;
      const int step = is_few ? few_blocks : many_blocks, rows = is_few ? few : together;
      for (int begin = starts_[e]; begin < starts_[e + 1]; begin += rows) {
        const int count = std::min(rows, starts_[e + 1] - begin);
        for (int first = 0; first < blocks; first += step) {
          pieces.push_back({stack, e, begin, count, first, std::min(blocks, first + step)});
        }
      }
    }
  }

 private:
  int per_;
  std::vector<int> starts_;  // of each expert in order_
  std::vector<int> order_;
  std::vector<size_t> nowhere_;
};

// Memory of this thread, which lasts until its next piece.
float* scratch(std::vector<float>& memory, size_t size) {
  if (memory.size() < size) memory.resize(size);
  return memory.data();
}

// product(view, first, last, count, y): into a piece's rows of y where they follow each other, else by way of a copy.
template <class Product>
void into_rows(const Plan& plan, const Piece& p, const PackedView& w, float* y, const Product& product) {
  if (plan.straight(p)) return product(w, p.first, p.last, p.count, y + plan.place(p.begin) * w.rows);
  PackedView part = w;  // the blocks of the piece alone
  part.data += p.first * w.block_bytes();
  part.rows = std::min(w.rows, p.last * kBlock) - p.first * kBlock;
  thread_local std::vector<float> memory;
  float* copies = scratch(memory, static_cast<size_t>(p.count) * part.rows);
  product(part, 0, p.last - p.first, p.count, copies);
  plan.scatter(p, copies, part.rows, y, w.rows);
}

template <class Row, class Fill>
void panels_into_rows(const Plan& plan, const Piece& p, int rows, int cols, float* y, const Row& row,
                      const Fill& fill) {
  const int width = std::min(rows, p.last * kBlock) - p.first * kBlock;
  const bool straight = plan.straight(p);
  alignas(64) float copies[kPanelRows * kPanelBlocks * kBlock];
  float* to = straight ? y + plan.place(p.begin) * rows + p.first * kBlock : copies;
  panel_piece(rows, cols, p.first, p.last, p.count, row, to, straight ? rows : width, fill);
  if (!straight) plan.scatter(p, copies, width, y, rows);
}

using Products = std::span<const ExpertProduct>;

const PackedView& view_of(const ExpertProduct& p, int expert = 0) { return p.w.packed[expert]->view(); }

size_t bytes_in_use(Products products, const Plan& plan) {
  size_t bytes = 0;
  for (const auto& p : products) bytes += plan.used() * view_of(p).nbytes();
  return bytes;
}

double operations(Products products, const Plan& plan) {
  double sum = 0;
  for (const auto& p : products) sum += 1. * plan.size() * view_of(p).rows * view_of(p).cols;
  return sum;
}

// Activations as whole numbers, of which all stacks have the same kind.
template <class Code>
void rounded_products(Products stacks, const PackedProducts<Code>& products, const float* x, const Plan& plan) {
  const int cols = view_of(stacks[0]).cols, groups = cols / kGroup;
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
  const size_t bytes = bytes_in_use(stacks, plan);
  std::vector<Piece> pieces;
  for (size_t s = 0; s < stacks.size(); ++s) {
    const PackedView& shape = view_of(stacks[s]);
    plan.cut(static_cast<int>(s), shape.rows, kFew, few_blocks(shape, bytes), rows_together(cols, sizeof(Code)),
             kManyBlocks, pieces);
  }
  parallel(static_cast<int>(pieces.size()), operations(stacks, plan), [&](int i) {
    const Piece& p = pieces[i];
    const auto rows = rounded.from(shared ? plan.input(p.begin) : p.begin);
    const auto product = plan.rows_of(p.expert) <= kFew ? products.few : products.many;
    into_rows(
        plan, p, view_of(stacks[p.stack], p.expert), stacks[p.stack].y,
        [&](const PackedView& view, int first, int last, int n, float* y) { product(view, first, last, rows, n, y); });
  });
}

void float_products(Products stacks, const float* x, const Plan& plan) {
  const size_t cols = view_of(stacks[0]).cols;
  const auto row_at = [&](int i) { return x + plan.input(i) * cols; };
  bool plain = true;
  for (const auto& stack : stacks) {
    for (const auto& matrix : stack.w.packed) plain &= matrix->view().plain;
  }
  const Table& t = table_for(view_of(stacks[0]));
  // Sums in the order of the panels' products, which are the set's in use.
  const int few = plain && &t == &table() ? kFew : 0;
  const size_t bytes = bytes_in_use(stacks, plan);
  std::vector<Piece> pieces;
  for (size_t s = 0; s < stacks.size(); ++s) {
    const PackedView& shape = view_of(stacks[s]);
    plan.cut(static_cast<int>(s), shape.rows, few, few_blocks(shape, bytes), kPanelRows, kPanelBlocks, pieces);
  }
  parallel(static_cast<int>(pieces.size()), operations(stacks, plan), [&](int i) {
    const Piece& p = pieces[i];
    const PackedView& view = view_of(stacks[p.stack], p.expert);
    float* const y = stacks[p.stack].y;
    if (plan.rows_of(p.expert) > few) {
      panels_into_rows(
          plan, p, view.rows, view.cols, y, [&](int k) { return row_at(p.begin + k); },
          [&](int block, int begin, int end, float* panel) { t.dequantize(view, block, begin, end, panel); });
      return;
    }
    const float* rows = row_at(p.begin);
    thread_local std::vector<float> memory;
    if (p.count > 1) {
      float* copies = scratch(memory, p.count * cols);
      for (int k = 0; k < p.count; ++k) std::copy_n(row_at(p.begin + k), cols, copies + k * cols);
      rows = copies;
    }
    into_rows(plan, p, view, y, [&](const PackedView& part, int first, int last, int n, float* to) {
      t.mxfp8_few(part, first, last, rows, n, to);
    });
  });
}

void dense_products(Products stacks, const float* x, const Plan& plan) {
  const size_t cols = stacks[0].w.dense[0].cols;
  std::vector<Piece> pieces;
  double work = 0;
  for (size_t s = 0; s < stacks.size(); ++s) {
    const DenseMatrix& shape = stacks[s].w.dense[0];
    const int blocks = dense_piece_rows(shape) / kBlock;
    plan.cut(static_cast<int>(s), shape.rows, kDenseRows, blocks, kDenseRows, blocks, pieces);
    work += 1. * plan.size() * shape.rows * shape.cols;
  }
  parallel(static_cast<int>(pieces.size()), work, [&](int i) {
    const Piece& p = pieces[i];
    const DenseMatrix& w = stacks[p.stack].w.dense[p.expert];
    float* const y = stacks[p.stack].y;
    const int first = p.first * kBlock, count = std::min(w.rows, p.last * kBlock) - first;
    thread_local std::vector<float> memory;
    const bool straight = plan.straight(p);
    const size_t outputs = straight ? 0 : static_cast<size_t>(p.count) * count;
    float* const copies = scratch(memory, outputs + p.count * cols);
    for (int k = 0; k < p.count; ++k)
      std::copy_n(x + plan.input(p.begin + k) * cols, cols, copies + outputs + k * cols);
    float* const to = straight ? y + plan.place(p.begin) * w.rows + first : copies;
    dense_piece(w, first, count, copies + outputs, p.count, to, straight ? w.rows : count);
    if (!straight) plan.scatter(p, copies, count, y, w.rows);
  });
}

// Products that can share a parallel step: what they make of the activations is the same.
bool alike(const ExpertProduct& a, const ExpertProduct& b) {
  if (a.w.packed.empty() || b.w.packed.empty()) return a.w.packed.empty() == b.w.packed.empty();
  const auto mode = activations();
  return &table_for(view_of(a)) == &table_for(view_of(b)) &&
         activations_for(view_of(a), mode) == activations_for(view_of(b), mode);
}

void products_of_a_kind(Products stacks, const float* x, const Plan& plan) {
  if (stacks[0].w.packed.empty()) return dense_products(stacks, x, plan);
  const PackedView& shape = view_of(stacks[0]);
  switch (activations_for(shape, activations())) {
    case Activations::int8:
      return rounded_products(stacks, table_for(shape).int8, x, plan);
    case Activations::int16:
      return rounded_products(stacks, table_for(shape).int16, x, plan);
    case Activations::float32:
      return float_products(stacks, x, plan);
  }
}

}  // namespace

int ExpertStack::rows() const { return packed.empty() ? dense[0].rows : packed[0]->view().rows; }

void expert_matmul(Products products, const float* x, const ExpertRows& rows) {
  const Plan plan(rows, products[0].w.experts());
  for (const auto& p : products) plan.clear(p.y, p.w.rows());
  for (size_t begin = 0; begin < products.size();) {
    size_t end = begin + 1;
    while (end < products.size() && alike(products[begin], products[end])) ++end;
    products_of_a_kind(products.subspan(begin, end - begin), x, plan);
    begin = end;
  }
}

}  // namespace mlx_lm::kernels
