// What the kernel tests share: random numbers, storage in every type at odd addresses, and runs under every
// instruction set of this machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "mlx_lm/kernels/convert.h"
#include "mlx_lm/kernels/parallel.h"
#include "mlx_lm/kernels/table.h"

namespace mlx_lm::kernels {

inline std::vector<float> random_numbers(size_t n, int seed, float spread = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(n);
  for (auto& value : values) value = normal(engine);
  return values;
}

// Numbers in a storage type, one byte (float32) or two (the others) off the natural alignment of a vector.
class Stored {
 public:
  Stored(const std::vector<float>& values, Type type) : type_(type), bytes_(values.size() * size_of(type) + 2) {
    for (size_t i = 0; i < values.size(); ++i) store_number(values[i], type, data(), i);
  }
  char* data() { return bytes_.data() + 2; }
  const char* data() const { return bytes_.data() + 2; }
  float operator[](size_t i) const { return load_number(type_, data(), i); }
  Type type() const { return type_; }

 private:
  Type type_;
  std::vector<char> bytes_;
};

constexpr Type kTypes[] = {Type::f32, Type::f16, Type::bf16};
inline std::string name_of(Type type) { return type == Type::f32 ? "f32" : type == Type::f16 ? "f16" : "bf16"; }

// All that there are, on each processor the best last.
constexpr const char* kSets[] = {"scalar", "avx2", "avx512", "neon", "dotprod", "i8mm"};

// Calls test() with each table that this processor can run in use.
template <class F>
void under_every_set(F test) {
  for (const char* name : kSets) {
    const Table* set = table_for(name);
    if (set == nullptr) continue;
    SCOPED_TRACE(name);
    use_table(set);
    test();
  }
  use_table(nullptr);
}

// Runs compute(), which returns numbers, with pools of 1, 2 and 5 threads; all must give the same bits.
template <class F>
void expect_same_for_any_threads(F compute) {
  ThreadPool one(1), two(2), five(5);
  use_pool(&one);
  const std::vector<float> expected = compute();
  for (ThreadPool* other : {&two, &five}) {
    use_pool(other);
    const std::vector<float> found = compute();
    EXPECT_EQ(std::memcmp(expected.data(), found.data(), expected.size() * sizeof(float)), 0);
  }
  use_pool(nullptr);
}

// |found - expected| <= tolerance everywhere; reports the worst place.
inline void expect_near(const std::vector<float>& found, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  size_t worst = 0;
  double most = -1;
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::fabs(found[i] - expected[i]);
    if (!(error <= most)) most = error, worst = i;
    if (std::isnan(error)) break;
  }
  if (!found.empty()) {
    EXPECT_LE(most, tolerance) << "at " << worst << ": " << found[worst] << ", expected " << expected[worst];
  }
}

}  // namespace mlx_lm::kernels
