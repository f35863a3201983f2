// Products that share their activations, with what comes before (RMS norm, rounding to whole numbers) and after (bias,
// residual, SwiGLU) done where the data is at hand. All of them together are one list of tasks for the threads.
#include <vector>

#include "mlx_lm/kernels/panels.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kFew = 4;  // activation rows up to which weights are streamed rather than unpacked first

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
QuantizedRows<Code> quantized(const PackedProducts<Code>& table, const ProductInput& x) {
  const size_t cols = x.cols;
  Code* const codes = scratch<Code>(x.n * cols);
  Factor* const factors = scratch<Factor>(x.n * cols / kGroup);
  const auto norm = kernels::table().rms_norm;
  parallel_pieces(x.n, 8, x.n * cols / 4., [&](int first, int last) {
    float* const row = x.norm_weight ? scratch<float, 1>(cols) : nullptr;
    for (size_t i = first; i < static_cast<size_t>(last); ++i) {
      const float* from = x.x + i * cols;
      if (row) {
        norm(from, x.norm_weight, x.cols, x.eps, row);
        from = row;
      }
      table.quantize(from, x.cols, codes + i * cols, factors + i * (cols / kGroup));
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
Cut cut(const PackedView& w, int n, size_t nbytes) {
  if (n <= kFew) {
    // Pieces long enough for the prefetcher, and many enough that the last one to finish is not waited for long.
    const size_t piece = std::clamp<size_t>(nbytes / 16, 16 << 10, 128 << 10);
    return {n, static_cast<int>(std::max<size_t>(1, piece / w.block_bytes())), w};
  }
  // Activation rows that stay in the second-level cache while blocks of weights pass by.
  const int fit = (256 << 10) / (w.cols * static_cast<int>(sizeof(Code)));
  return {std::clamp(fit, 32, 256) / 4 * 4, 8, w};
}

template <class Code>
void run(const PackedProducts<Code>& table, const Product& p, const QuantizedRows<Code>& x, bool few,
         const Part& part) {
  const PackedView& w = p.packed->view();
  float* y = p.y + static_cast<size_t>(part.i0) * w.rows;
  (few ? table.few : table.many)(w, part.first, part.last, x.from(part.i0), part.n, y);
  finish(p, part.i0, part.n, part.first * kBlock, std::min(w.rows, part.last * kBlock));
}

template <class Code>
void multiply_packed(const PackedProducts<Code>& table, const ProductInput& x, std::span<const Product> products) {
  const QuantizedRows<Code> rows = quantized(table, x);
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
    run(table, products[which], rows, few, cuts.part(which ? task - ends[which - 1] : task, x.n, w));
  });
}

template <class Code>
void multiply_packed_swiglu(const PackedProducts<Code>& table, const ProductInput& x, const Product& gate,
                            const Product& up) {
  const QuantizedRows<Code> rows = quantized(table, x);
  const bool few = x.n <= kFew;
  const PackedView& w = gate.packed->view();
  const Cut cuts = cut<Code>(w, x.n, gate.packed->nbytes() + up.packed->nbytes());
  parallel(cuts.parts(x.n), 2. * x.n * w.rows * w.cols, [&](int task) {
    const Part part = cuts.part(task, x.n, w);
    run(table, gate, rows, few, part);
    run(table, up, rows, few, part);
    combine(gate, up, part.i0, part.n, part.first * kBlock, std::min(w.rows, part.last * kBlock));
  });
}

// One product with activations in float32, which x holds.
void multiply_floats(const float* x, int n, const Product& p) {
  if (p.packed == nullptr) {
    matmul(x, n, p.dense, p.y);
  } else {
    const PackedView& w = p.packed->view();
    panel_matmul(w.rows, w.cols, x, n, p.y,
                 [&](int block, int begin, int end, float* panel) { table().dequantize(w, block, begin, end, panel); });
  }
  if (p.bias == nullptr && p.residual == nullptr) return;
  parallel_pieces(n, 8, 2. * n * p.rows(), [&](int first, int last) { finish(p, first, last - first, 0, p.rows()); });
}

// Whether all are packed, and activations are whole numbers.
bool in_whole_numbers(std::span<const Product> products) {
  return activations() != Activations::float32 &&
         std::all_of(products.begin(), products.end(), [](const Product& p) { return p.packed != nullptr; });
}

}  // namespace

int Product::rows() const { return packed ? packed->view().rows : dense.rows; }

void multiply(const ProductInput& x, std::span<const Product> products) {
  if (in_whole_numbers(products)) {
    return activations() == Activations::int8 ? multiply_packed(table().int8, x, products)
                                              : multiply_packed(table().int16, x, products);
  }
  const float* rows = normed(x);
  for (const Product& p : products) {
    if (const Product one[] = {p}; products.size() > 1 && in_whole_numbers(one)) {
      multiply({rows, x.n, x.cols}, one);
    } else {
      multiply_floats(rows, x.n, p);
    }
  }
}

void multiply_swiglu(const ProductInput& x, const Product& gate, const Product& up) {
  Product other = up;
  other.y = scratch<float, 3>(static_cast<size_t>(x.n) * up.rows());
  const Product both[] = {gate, other};
  if (in_whole_numbers(both)) {
    return activations() == Activations::int8 ? multiply_packed_swiglu(table().int8, x, gate, other)
                                              : multiply_packed_swiglu(table().int16, x, gate, other);
  }
  multiply(x, both);
  swiglu(gate.y, other.y, static_cast<size_t>(x.n) * gate.rows(), gate.y);
}

void PackedMatrix::matmul(const float* x, int n, float* y) const {
  const Product product[] = {{.packed = this, .y = y}};
  multiply({x, n, view().cols}, product);
}

}  // namespace mlx_lm::kernels
