// Products that share their activations, with what comes before (RMS norm, rounding to whole numbers) and after (bias,
// residual, SwiGLU) done where the data is at hand. All of them together are one list of tasks for the threads.
#include <vector>

#include "mlx_lm/kernels/packed_floats.h"
#include "mlx_lm/kernels/panels.h"
#include "mlx_lm/kernels/pieces.h"

namespace mlx_lm::kernels {
namespace {

// Memory of this thread that lasts until its next product. tag: several in use at the same time are different.
template <class T, int tag = 0>
T* scratch(size_t size) {
  thread_local std::vector<T> memory;
  if (memory.size() < size) memory.resize(size);
  return memory.data();
}

const float* normed(const ProductInput& x) {
  if (x.norm_weight == nullptr) return x.x;
  float* out = scratch<float>(static_cast<size_t>(x.n) * x.cols);
  rms_norm(x.x, x.norm_weight, x.n, x.cols, x.eps, out);
  return out;
}

template <class Code>
const PackedProducts<Code>& products_of(const Table& table) {
  if constexpr (sizeof(Code) == 1)
    return table.int8;
  else
    return table.int16;
}

// As the table that multiplies them wants them: the order of codes is its own.
template <class Code>
QuantizedRows<Code> quantized(const ProductInput& x, const Table& table_of_products) {
  const auto quantize = products_of<Code>(table_of_products).quantize;
  const size_t cols = x.cols;
  Code* const codes = scratch<Code>(x.n * cols);
  Factor* const factors = scratch<Factor>(x.n * cols / kGroup);
  const auto norm = table().rms_norm;
  parallel_pieces(x.n, 8, x.n * cols / 4., [&](int first, int last) {
    float* const row = x.norm_weight ? scratch<float, 1>(cols) : nullptr;
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      const float* from = x.x + i * cols;
      if (row) {
        norm(from, x.norm_weight, x.cols, x.eps, row);
        from = row;
      }
      quantize(from, x.cols, codes + i * cols, factors + i * (cols / kGroup));
    }
  });
  return {codes, factors, x.cols};
}

void add(const float* from, int n, float* to) {
  for (int i = 0; i < n; ++i) to[i] += from[i];
}

// Bias and residual of activation rows [i0, i0 + n) and weight rows [begin, end).
void finish(const Product& p, int i0, int n, int begin, int end) {
  if (p.bias == nullptr && p.residual == nullptr) return;
  for (int i = i0; i < i0 + n; ++i) {
    const size_t at = static_cast<size_t>(i) * p.rows() + begin;
    if (p.bias) add(p.bias + begin, end - begin, p.y + at);
    if (p.residual) add(p.residual + at, end - begin, p.y + at);
  }
}

// gate = silu(gate) * up, for the same part of both.
void combine(const Product& gate, const Product& up, int i0, int n, int begin, int end) {
  const auto swiglu = table().swiglu;
  for (int i = i0; i < i0 + n; ++i) {
    const size_t at = static_cast<size_t>(i) * gate.rows() + begin;
    swiglu(gate.y + at, up.y + at, end - begin, gate.y + at);
  }
}

// A part of the work: products of blocks [first, last) of a matrix and activation rows [i0, i0 + n).
struct Part {
  int i0, n, first, last;
};

// How a matrix is cut into parts.
struct Cut {
  int together;  // activation rows
  int blocks;    // of the matrix
  int pieces;    // of `blocks` blocks each

  Cut(int rows, int blocks_each, const PackedView& w)
      : together(rows), blocks(blocks_each), pieces((w.blocks() + blocks_each - 1) / blocks_each) {}
  int parts(int n) const { return (n + together - 1) / together * pieces; }
  Part part(int i, int n, const PackedView& w) const {
    const int i0 = i / pieces * together, first = i % pieces * blocks;
    return {i0, std::min(together, n - i0), first, std::min(w.blocks(), first + blocks)};
  }
};

template <class Code>
Cut cut(const PackedView& w, int n, size_t bytes) {
  if (n <= kFew) return {n, few_blocks(w, bytes), w};
  return {rows_together(w.cols, sizeof(Code)), kManyBlocks, w};
}

template <class Code>
void run(const Product& p, const QuantizedRows<Code>& x, bool few, const Part& part) {
  const PackedView& w = p.packed->view();
  const auto& products = products_of<Code>(table_for(w));
  float* y = p.y + static_cast<size_t>(part.i0) * w.rows;
  (few ? products.few : products.many)(w, part.first, part.last, x.from(part.i0), part.n, y);
  finish(p, part.i0, part.n, part.first * kBlock, std::min(w.rows, part.last * kBlock));
}

template <class Code>
void multiply_packed(const ProductInput& x, std::span<const Product> products) {
  const QuantizedRows<Code> rows = quantized<Code>(x, table_for(products[0].packed->view()));
  const bool few = x.n <= kFew;
  size_t nbytes = 0;
  double operations = 0;
  for (const Product& p : products) {
    nbytes += p.packed->nbytes();
    operations += 1. * x.n * p.rows() * x.cols;
  }
  int* const ends = scratch<int>(products.size());
  int tasks = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    ends[i] = tasks += cut<Code>(products[i].packed->view(), x.n, nbytes).parts(x.n);
  }
  parallel(tasks, operations, [&](int task) {
    int which = 0;
    while (task >= ends[which]) ++which;
    const PackedView& w = products[which].packed->view();
    const Cut cuts = cut<Code>(w, x.n, nbytes);
    run(products[which], rows, few, cuts.part(which ? task - ends[which - 1] : task, x.n, w));
  });
}

template <class Code>
void multiply_packed_swiglu(const ProductInput& x, const Product& gate, const Product& up) {
  const QuantizedRows<Code> rows = quantized<Code>(x, table_for(gate.packed->view()));
  const bool few = x.n <= kFew;
  const PackedView& w = gate.packed->view();
  const Cut cuts = cut<Code>(w, x.n, gate.packed->nbytes() + up.packed->nbytes());
  parallel(cuts.parts(x.n), 2. * x.n * w.rows * w.cols, [&](int task) {
    const Part part = cuts.part(task, x.n, w);
    run(gate, rows, few, part);
    run(up, rows, few, part);
    combine(gate, up, part.i0, part.n, part.first * kBlock, std::min(w.rows, part.last * kBlock));
  });
}

// One product with activations in float32, which x holds.
void multiply_floats(const float* x, int n, const Product& p) {
  const double operations = 1. * n * p.rows() * (p.packed ? p.packed->view().cols : p.dense.cols);
  if (p.packed == nullptr) {
    matmul(x, n, p.dense, p.y);
  } else if (const PackedView& w = p.packed->view();  // sums in the order of the panels' products
             w.plain && n <= kFew && &table_for(w) == &table()) {
    parallel_pieces(w.blocks(), few_blocks(w, w.nbytes()), operations,
                    [&](int first, int last) { table_for(w).mxfp8_few(w, first, last, x, n, p.y); });
  } else {
    const Table& t = table_for(w);
    panel_matmul(w.rows, w.cols, x, n, p.y,
                 [&](int block, int begin, int end, float* panel) { t.dequantize(w, block, begin, end, panel); });
  }
  if (p.bias == nullptr && p.residual == nullptr) return;
  parallel_pieces(n, 8, 2. * n * p.rows(), [&](int first, int last) { finish(p, first, last - first, 0, p.rows()); });
}

Activations activations_for(const Product& p) {
  return p.packed ? activations_for(p.packed->view(), activations()) : Activations::float32;
}

// The activations of all; float32 if they, or the tables that multiply them, differ.
Activations activations_for(std::span<const Product> products) {
  const Activations first = activations_for(products[0]);
  for (const Product& p : products) {
    if (activations_for(p) != first) return Activations::float32;
    if (p.packed && &table_for(p.packed->view()) != &table_for(products[0].packed->view())) return Activations::float32;
  }
  return first;
}

}  // namespace

int Product::rows() const { return packed ? packed->view().rows : dense.rows; }

void multiply(const ProductInput& x, std::span<const Product> products) {
  switch (activations_for(products)) {
    case Activations::int8:
      return multiply_packed<int8_t>(x, products);
    case Activations::int16:
      return multiply_packed<int16_t>(x, products);
    case Activations::float32:
      break;
  }
  const float* rows = normed(x);
  for (const Product& p : products) {
    if (activations_for(p) == Activations::float32) {
      multiply_floats(rows, x.n, p);
    } else {
      multiply({rows, x.n, x.cols}, {&p, 1});
    }
  }
}

void multiply_swiglu(const ProductInput& x, const Product& gate, const Product& up) {
  Product other = up;
  other.y = scratch<float, 3>(static_cast<size_t>(x.n) * up.rows());
  const Product both[] = {gate, other};
  switch (activations_for(both)) {
    case Activations::int8:
      return multiply_packed_swiglu<int8_t>(x, gate, other);
    case Activations::int16:
      return multiply_packed_swiglu<int16_t>(x, gate, other);
    case Activations::float32:
      break;
  }
  multiply(x, both);
  swiglu(gate.y, other.y, static_cast<size_t>(x.n) * gate.rows(), gate.y);
}

void PackedMatrix::matmul(const float* x, int n, float* y) const {
  const Product product[] = {{.packed = this, .y = y}};
  multiply({x, n, view().cols}, product);
}

}  // namespace mlx_lm::kernels
