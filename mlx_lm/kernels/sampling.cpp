#include "mlx_lm/kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/sampling_row.h"

namespace mlx_lm::kernels {
namespace {

constexpr int kStretchesAtOnce = 64;  // for one thread

int stretches_of(int size) { return (size + kStretch - 1) / kStretch; }

// exp(x / temp) of all that was kept of a row, as shares of the largest.
class Weights {
 public:
  Weights(const Row& row, const Filters& filters, const Kept& kept, float temp)
      // A temperature near 0 leaves the largest alone, as it should.
      : row_(row), filters_(filters), kept_(kept), factor_(std::min(1 / temp, std::numeric_limits<float>::max())) {
    most_ = std::min(row.most(), kept.ceiling);
    if (row.most() <= kept.ceiling) return;
    for (int32_t id : filters.xtc_spared) {
      if (id < 0 || id >= row.size()) continue;
      if (const float value = cleaned(row.x()[id]); value >= kept.floor) most_ = std::max(most_, value);
    }
  }

  float most() const { return most_; }

  float of_stretch(int s, float* to) const {
    if (row_.most(s) < kept_.floor) return 0;
    const float* x = row_.x() + row_.begin(s);
    if (row_.most(s) <= kept_.ceiling) return weigh(x, row_.length(s), most_, factor_, kept_.floor, to);
    float some[kStretch];
    for (int i = 0; i < row_.length(s); ++i) {
      const bool keep = cleaned(x[i]) <= kept_.ceiling ||
                        std::binary_search(filters_.xtc_spared.begin(), filters_.xtc_spared.end(), row_.begin(s) + i);
      some[i] = keep ? x[i] : kNothing;
    }
    return weigh(some, row_.length(s), most_, factor_, kept_.floor, to);
  }

  // The token at `draw` of the sum, of which sums has each stretch's part.
  uint32_t choose(const float* sums, double draw) const {
    double total = 0;
    for (int s = 0; s < row_.stretches(); ++s) total += sums[s];
    double left = draw * total;
    int stretch = 0;  // rounding may leave as much as the sum: then the last that has a part
    for (int s = 0; s < row_.stretches(); ++s) {
      if (sums[s] == 0) continue;
      stretch = s;
      if (left < sums[s]) break;
      left -= sums[s];
    }
    float weights[kStretch];
    of_stretch(stretch, weights);
    int place = 0;
    for (int i = 0; i < row_.length(stretch); ++i) {
      if (weights[i] == 0) continue;
      place = i;
      if (left < weights[i]) break;
      left -= weights[i];
    }
    return static_cast<uint32_t>(row_.begin(stretch) + place);
  }

  uint32_t choose_listed(double draw) const {
    const auto& list = kept_.list;
    std::vector<float> weights;
    for (const auto& c : list) weights.push_back((c.value - list[0].value) * factor_);
    table().exp_sum(weights.data(), static_cast<int>(weights.size()), 0);
    double total = 0;
    for (float w : weights) total += w;
    double left = draw * total;
    for (size_t i = 0; i < list.size(); ++i) {
      if (left < weights[i]) return list[i].place;
      left -= weights[i];
    }
    return list[0].place;
  }

 private:
  const Row& row_;
  const Filters& filters_;
  const Kept& kept_;
  float factor_, most_;
};

// What the filters keep of each row, and what was computed on the way.
struct KeptRows {
  std::vector<float> most;  // (n, stretches)
  std::vector<Row> rows;
  std::vector<Kept> kept;

  // xtc(i): whether it acts on row i.
  template <class F>
  KeptRows(const float* x, int n, int size, const Filters& f, F xtc)
      : most(static_cast<size_t>(n) * stretches_of(size)), kept(n) {
    const Table& t = table();
    const int stretches = stretches_of(size);
    for_stretches(n, size, [&](int i, int s) {
      const int begin = s * kStretch;
      most[static_cast<size_t>(i) * stretches + s] =
          cleaned(t.max(x + static_cast<size_t>(i) * size + begin, std::min(kStretch, size - begin)));
    });
    for (int i = 0; i < n; ++i) {
      rows.emplace_back(x + static_cast<size_t>(i) * size, size, &most[static_cast<size_t>(i) * stretches]);
    }
    const bool top_p = f.top_p > 0 && f.top_p < 1;
    std::vector<float> sums;
    if (top_p || f.min_p == 0) {
      std::vector<char> wanted(n);
      for (int i = 0; i < n; ++i) wanted[i] = top_p || xtc(i);
      if (std::find(wanted.begin(), wanted.end(), 1) != wanted.end()) {
        sums.resize(most.size());
        for_stretches(n, size, [&](int i, int s) {
          float weights[kStretch];
          const Row& row = rows[i];
          if (wanted[i]) {
            sums[static_cast<size_t>(i) * stretches + s] =
                weigh(row.x() + row.begin(s), row.length(s), row.most(), 1, kNothing, weights);
          }
        });
      }
    }
    parallel(n, 1. * n * size, [&](int i) {
      double total = 0;
      for (int s = 0; s < stretches && !sums.empty(); ++s) total += sums[static_cast<size_t>(i) * stretches + s];
      kept[i] = rows[i].keep(f, xtc(i), total);
    });
  }

  // work(row, stretch) for all of them.
  template <class F>
  static void for_stretches(int n, int size, F work) {
    const int stretches = stretches_of(size);
    parallel_pieces(n * stretches, kStretchesAtOnce, 1. * n * size, [&](int first, int last) {
      for (int k = first; k < last; ++k) work(k / stretches, k % stretches);
    });
  }
};

}  // namespace

void sample(const float* x, int n, int size, const Filters& filters, float temp, const Draw* draws, uint32_t* tokens) {
  const KeptRows all(x, n, size, filters, [&](int i) { return draws[i].xtc; });
  std::vector<Weights> weights;
  bool listed = true;
  for (int i = 0; i < n; ++i) {
    weights.emplace_back(all.rows[i], filters, all.kept[i], temp);
    listed = listed && all.kept[i].listed;
  }
  std::vector<float> sums;
  if (!listed) {
    sums.resize(all.most.size());
    KeptRows::for_stretches(n, size, [&](int i, int s) {
      float some[kStretch];
      if (!all.kept[i].listed) sums[static_cast<size_t>(i) * stretches_of(size) + s] = weights[i].of_stretch(s, some);
    });
  }
  for (int i = 0; i < n; ++i) {
    if (all.rows[i].most() == kNothing) {
      tokens[i] = 0;
    } else if (all.kept[i].listed) {
      tokens[i] = weights[i].choose_listed(draws[i].token);
    } else {
      tokens[i] = weights[i].choose(&sums[static_cast<size_t>(i) * stretches_of(size)], draws[i].token);
    }
  }
}

void filter(const float* x, int n, int size, const Filters& filters, bool xtc, float* out) {
  const KeptRows all(x, n, size, filters, [&](int) { return xtc; });
  parallel(n, 1. * n * size, [&](int i) {
    const Kept& kept = all.kept[i];
    const float* from = all.rows[i].x();
    float* to = out + static_cast<size_t>(i) * size;
    for (int k = 0; k < size; ++k) to[k] = !kept.listed && from[k] >= kept.floor ? from[k] : kNothing;
    for (const auto& c : kept.list) to[c.place] = from[c.place];
    if (kept.listed || all.rows[i].most() <= kept.ceiling) return;
    for (int k = 0; k < size; ++k) {
      if (cleaned(to[k]) > kept.ceiling) to[k] = kNothing;
    }
    for (int32_t id : filters.xtc_spared) {
      if (id >= 0 && id < size && from[id] >= kept.floor) to[id] = from[id];
    }
  });
}

void adjust(const float* x, int n, int size, std::span<const Adjustment> adjustments, std::span<const int32_t> tokens,
            float* out) {
  const size_t all = static_cast<size_t>(n) * size;
  constexpr size_t kPiece = 1 << 14;
  const int pieces = static_cast<int>((all + kPiece - 1) / kPiece);
  parallel(pieces, static_cast<double>(all), [&](int i) {
    const size_t begin = i * kPiece;
    std::memcpy(out + begin, x + begin, std::min(kPiece, all - begin) * sizeof(float));
  });
  const auto known = [&](int32_t id) { return id >= 0 && id < size; };
  std::vector<float> changed;
  for (int row = 0; row < n; ++row) {
    float* y = out + static_cast<size_t>(row) * size;
    for (const auto& a : adjustments) {
      for (const auto& [id, bias] : a.bias) {
        if (known(id)) y[id] += bias;
      }
      if (a.kind == Adjustment::Kind::bias) continue;
      const size_t context = a.context_size;
      const auto last = context == 0 || context >= tokens.size() ? tokens : tokens.last(context);
      if (a.kind == Adjustment::Kind::frequency) {
        for (int32_t id : last) {
          if (known(id)) y[id] -= a.penalty;
        }
        continue;
      }
      // All are read before any is written, so that a token that comes twice is changed once.
      changed.clear();
      for (int32_t id : last) {
        const float before = known(id) ? y[id] : 0;
        changed.push_back(a.kind == Adjustment::Kind::presence ? before - a.penalty
                          : before < 0                         ? before * a.penalty
                                                               : before / a.penalty);
      }
      for (size_t i = 0; i < last.size(); ++i) {
        if (known(last[i])) y[last[i]] = changed[i];
      }
    }
  }
}

}  // namespace mlx_lm::kernels
