// What the filters of sampling.h keep of one row, found without sorting it.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "mlx_lm/kernels/sampling.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNothing = -kInfinity;
// Numbers that are looked through, or passed over, together.
constexpr int kStretch = 128;

inline float cleaned(float x) { return x > kNothing ? std::min(x, std::numeric_limits<float>::max()) : kNothing; }

// to = exp((x - most) * factor) for numbers from the floor up, 0 for others; returns their sum. n <= kStretch.
float weigh(const float* x, int n, float most, float factor, float floor, float* to);

struct Candidate {
  float value;
  uint32_t place;
};

// All from the floor to the ceiling, and those above the ceiling that XTC spares; or, when listed, those in the list
// alone, of which the first is the largest.
struct Kept {
  float floor = kNothing, ceiling = kInfinity;
  bool listed = false;
  std::vector<Candidate> list;
};

class Row {
 public:
  // most: the largest of each stretch, cleaned.
  Row(const float* x, int size, const float* most);

  const float* x() const { return x_; }
  int size() const { return size_; }
  int stretches() const { return (size_ + kStretch - 1) / kStretch; }
  int begin(int stretch) const { return stretch * kStretch; }
  int length(int stretch) const { return std::min(kStretch, size_ - begin(stretch)); }
  float most(int stretch) const { return most_[stretch]; }
  float most() const { return all_most_; }

  // total: the sum of exp(x - most()), of which only top_p and xtc need to know.
  Kept keep(const Filters& filters, bool xtc, double total) const;

 private:
  std::vector<Candidate> collect(float floor, float ceiling = kInfinity) const;
  std::vector<Candidate> largest(int n) const;
  std::vector<Candidate> from_above(int n) const;
  float nucleus(double mass, float least) const;
  float nucleus_by_buckets(double mass) const;
  double mass_from(float floor) const;
  std::vector<float> weights(const std::vector<Candidate>& list) const;
  float min_p_floor(const Filters& filters) const;
  void apply_min_p(const Filters& filters, Kept& kept) const;
  int apply_xtc(const Filters& filters, double total, Kept& kept) const;

  const float* x_;
  int size_;
  const float* most_;
  float all_most_;
};

}  // namespace mlx_lm::kernels
