// The largest numbers of a row, as a sampler wants them of a vocabulary's.
#include <cmath>
#include <limits>
#include <vector>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kPiece = 8192;  // numbers that one thread looks through at a time
constexpr int kSkip = 64;     // numbers that are passed over together when none of them is large enough

int pieces_of(int size) { return (size + kPiece - 1) / kPiece; }

struct Candidate {
  float value;
  uint32_t place;
};

// The order of the result, which leaves nothing to chance.
bool before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.place < b.place);
}

// The min(k, end - begin) best of x[begin, end), as a heap whose top is the worst of them; returns how many.
int best_of(const float* x, int begin, int end, int k, Candidate* best) {
  const Table& t = table();
  const auto candidate = [&](int i) {
    return Candidate{std::isnan(x[i]) ? -std::numeric_limits<float>::infinity() : x[i], static_cast<uint32_t>(i)};
  };
  const int count = std::min(k, end - begin);
  for (int i = 0; i < count; ++i) best[i] = candidate(begin + i);
  std::make_heap(best, best + count, before);
  for (int from = begin + count; from < end; from += kSkip) {
    const int to = std::min(end, from + kSkip);
    if (!(t.max(x + from, to - from) > best[0].value)) continue;  // an equal one further back is not better
    for (int i = from; i < to; ++i) {
      if (!(x[i] > best[0].value)) continue;
      std::pop_heap(best, best + count, before);
      best[count - 1] = candidate(i);
      std::push_heap(best, best + count, before);
    }
  }
  return count;
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
  const int pieces = pieces_of(size), room = std::min(k, kPiece);
  std::vector<Candidate> best(static_cast<size_t>(n) * pieces * room);
  std::vector<int> counts(static_cast<size_t>(n) * pieces);
  parallel(n * pieces, 2. * n * size, [&](int task) {
    const int begin = task % pieces * kPiece;
    counts[task] = best_of(x + static_cast<size_t>(task / pieces) * size, begin, std::min(size, begin + kPiece), k,
                           &best[static_cast<size_t>(task) * room]);
  });
  for (int i = 0; i < n; ++i) {
    Candidate* const all = &best[static_cast<size_t>(i) * pieces * room];
    Candidate* end = all;
    for (int p = 0; p < pieces; ++p) {
      end = std::copy_n(all + static_cast<size_t>(p) * room, counts[static_cast<size_t>(i) * pieces + p], end);
    }
    std::partial_sort(all, all + k, end, before);
    for (int j = 0; j < k; ++j) {
      values[static_cast<size_t>(i) * k + j] = all[j].value;
      places[static_cast<size_t>(i) * k + j] = all[j].place;
    }
  }
}

}  // namespace mlx_lm::kernels
