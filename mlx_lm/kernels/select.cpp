// The largest numbers of a row, as a sampler wants them of a vocabulary's.
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kPiece = 8192;  // numbers that one thread looks through at a time

int pieces_of(int size) { return (size + kPiece - 1) / kPiece; }

struct Candidate {
  float value;
  uint32_t place;
};

// The order of the result, which leaves nothing to chance.
bool before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.place < b.place);
}

// The k best of a row, in order. k blocks have a largest number that is no less than the k-th of the blocks' largest,
// so no number below that one is among the k best: most blocks are passed over. most: of each block.
void best_of(const float* x, int size, int block, const float* most, int blocks, int k, float* values,
             uint32_t* places) {
  constexpr float kLeast = -std::numeric_limits<float>::infinity();
  float limit = kLeast;
  if (k <= blocks) {
    std::vector<float> sorted(most, most + blocks);
    std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
    limit = sorted[k - 1];
  }
  std::vector<Candidate> found;
  for (int b = 0; b < blocks; ++b) {
    if (most[b] < limit) continue;
    for (int i = b * block; i < std::min(size, (b + 1) * block); ++i) {
      const float value = std::isnan(x[i]) ? kLeast : x[i];
      if (value >= limit) found.push_back({value, static_cast<uint32_t>(i)});
    }
  }
  std::nth_element(found.begin(), found.begin() + (k - 1), found.end(), before);
  std::sort(found.begin(), found.begin() + k, before);
  for (int j = 0; j < k; ++j) values[j] = found[j].value, places[j] = found[j].place;
}

}  // namespace

void argmax(const float* x, int n, int size, uint32_t* places) {
  const Table& t = table();
  const int pieces = pieces_of(size);
  std::vector<float> most(static_cast<size_t>(n) * pieces);
  parallel(n * pieces, 1. * n * size, [&](int task) {
    const int begin = task % pieces * kPiece;
    most[task] = t.max(x + static_cast<size_t>(task / pieces) * size + begin, std::min(kPiece, size - begin));
  });
  for (int i = 0; i < n; ++i) {
    const float* row = x + static_cast<size_t>(i) * size;
    const float* of_row = most.data() + static_cast<size_t>(i) * pieces;
    const auto best = std::max_element(of_row, of_row + pieces);
    const float* begin = row + (best - of_row) * kPiece;
    const float* end = std::min(begin + kPiece, row + size);
    const float* found = std::find(begin, end, *best);
    places[i] = found == end ? 0 : static_cast<uint32_t>(found - row);  // NaNs only
  }
}

void top_k(const float* x, int n, int size, int k, float* values, uint32_t* places) {
  if (k == 0) return;
  const Table& t = table();
  // Several blocks for each number that is wanted, as far as a block still is worth a call.
  const int block = size / 64 >= 4 * k ? 64 : size / 32 >= 4 * k ? 32 : 16;
  const int blocks = (size + block - 1) / block;
  std::vector<float> most(static_cast<size_t>(n) * blocks);
  parallel_pieces(n * blocks, kPiece / block, 1. * n * size, [&](int first, int last) {
    for (int i = first; i < last; ++i) {
      const int begin = i % blocks * block;
      most[i] = t.max(x + static_cast<size_t>(i / blocks) * size + begin, std::min(block, size - begin));
    }
  });
  parallel(n, 1. * n * size, [&](int i) {
    const size_t row = i, to = row * k;
    best_of(x + row * size, size, block, &most[row * blocks], blocks, k, values + to, places + to);
  });
}

}  // namespace mlx_lm::kernels
