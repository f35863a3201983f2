// The sampling kernels against sorted rows in float64.
#include "mlx_lm/kernels/sampling.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "tests/kernels/reference.h"

namespace mlx_lm::kernels {
namespace {

constexpr float kInf = INFINITY;

// Which tokens the filters keep, from the likeliest down: the definition, on a sorted row. `margin`: how near the
// narrowest decision was, as a share; such near ones hang on rounding.
std::vector<uint32_t> expected_kept(std::vector<float> x, const Filters& f, bool xtc, double& margin) {
  for (float& v : x) v = std::isnan(v) ? -kInf : std::min(v, std::numeric_limits<float>::max());
  std::vector<uint32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return x[a] > x[b]; });
  const double most = x[order[0]];
  const auto p = [&](uint32_t i) { return std::exp(x[i] - most); };
  const auto near = [&](double a, double b) { margin = std::min(margin, std::fabs(a - b) / std::max(b, 1e-30)); };
  std::erase_if(order, [&](uint32_t i) { return x[i] == -kInf; });
  if (f.top_p > 0 && f.top_p < 1) {
    double total = 0, above = 0;
    for (uint32_t i : order) total += p(i);
    size_t n = 0;
    while (n < order.size()) {
      double group = 0;
      size_t end = n;
      for (; end < order.size() && x[order[end]] == x[order[n]]; ++end) group += p(order[end]);
      near(above, f.top_p * total);
      if (above >= f.top_p * total) break;
      above += group, n = end;
    }
    order.resize(n);
  }
  if (f.min_p > 0) {
    const float floor = static_cast<float>(most) + static_cast<float>(std::log(f.min_p));
    size_t n = 0;
    while (n < order.size() && (x[order[n]] >= floor || n < static_cast<size_t>(f.min_tokens_to_keep))) ++n;
    order.resize(n);
  }
  if (xtc) {
    double total = 0;
    for (uint32_t i : order) total += p(i);
    float ceiling = kInf;
    for (uint32_t i : order) {
      near(p(i), f.xtc_threshold * total);
      if (p(i) > f.xtc_threshold * total) ceiling = x[i];
    }
    std::erase_if(order, [&](uint32_t i) {
      return x[i] > ceiling && std::find(f.xtc_spared.begin(), f.xtc_spared.end(), i) == f.xtc_spared.end();
    });
  }
  if (f.top_k > 0 && static_cast<size_t>(f.top_k) < std::min(order.size(), x.size())) order.resize(f.top_k);
  return order;
}

std::vector<Filters> all_filters() {
  std::vector<Filters> all = {{}};
  for (float p : {1e-6f, 0.3f, 0.9f, 0.999f}) all.push_back({.top_p = p});
  for (float p : {1e-4f, 0.05f, 0.9f, 1.f}) {
    for (int keep : {1, 3, 500}) all.push_back({.min_p = p, .min_tokens_to_keep = keep});
  }
  for (int k : {1, 5, 40, 3000}) all.push_back({.top_k = k});
  for (float t : {0.001f, 0.1f, 0.5f}) {
    all.push_back({.xtc_threshold = t});
    all.push_back({.xtc_threshold = t, .xtc_spared = {-4, 0, 2, 17, 1 << 30}, .top_k = 7});
    all.push_back({.top_p = 0.8f, .min_p = 0.01f, .xtc_threshold = t, .xtc_spared = {1, 5}, .top_k = 20});
    all.push_back({.top_p = 0.95f, .min_p = 0.5f, .min_tokens_to_keep = 30, .xtc_threshold = t});
  }
  all.push_back({.top_p = 0.7f, .top_k = 100});
  return all;
}

// Like a model's logits: a few likely tokens, and the others far behind; and flat ones, and ones with many ties.
std::vector<float> row_like(int kind, int size, int seed) {
  auto x = random_numbers(size, seed, kind == 1 ? 0.5f : 2);
  if (kind == 0) {
    const auto bonus = random_numbers(std::max(1, size / 50), seed + 1, 4);
    for (size_t i = 0; i < bonus.size(); ++i) x[i * 37 % size] += std::fabs(bonus[i]);
  }
  if (kind == 2) {
    for (float& v : x) v = std::round(v);
  }
  return x;
}

TEST(Sampling, KeepsWhatTheDefinitionKeeps) {
  int compared = 0;
  for (int size : {1, 2, 3, 7, 64, 127, 128, 129, 1000, 8193, 49152}) {
    for (int kind : {0, 1, 2}) {
      const int n = size < 1000 ? 3 : 1;
      std::vector<float> x;
      for (int i = 0; i < n; ++i) {
        const auto row = row_like(kind, size, 10 * size + i);
        x.insert(x.end(), row.begin(), row.end());
      }
      for (const Filters& f : all_filters()) {
        for (bool xtc : {false, true}) {
          std::vector<std::vector<uint32_t>> expected;
          double margin = 1;
          for (int i = 0; i < n; ++i) {
            expected.push_back(expected_kept({x.begin() + i * size, x.begin() + (i + 1) * size}, f, xtc, margin));
            std::sort(expected.back().begin(), expected.back().end());
          }
          if (margin < 1e-5) continue;
          ++compared;
          under_every_set([&] {
            std::vector<float> out(x.size());
            filter(x.data(), n, size, f, xtc, out.data());
            for (int i = 0; i < n; ++i) {
              std::vector<uint32_t> kept;
              for (int k = 0; k < size; ++k) {
                const float v = out[i * size + k];
                if (v == -kInf) continue;
                kept.push_back(k);
                ASSERT_EQ(v, x[i * size + k]);
              }
              ASSERT_EQ(kept, expected[i])
                  << "size " << size << " kind " << kind << " top_p " << f.top_p << " min_p " << f.min_p << " keep "
                  << f.min_tokens_to_keep << " k " << f.top_k << " xtc " << xtc << ' ' << f.xtc_threshold;
            }
          });
        }
      }
    }
  }
  EXPECT_GE(compared, 1200);
}

// The draws at evenly spaced points come as often as the exact probabilities say.
TEST(Sampling, DrawsByProbability) {
  for (int size : {1, 5, 129, 1000}) {
    for (const Filters& f : all_filters()) {
      for (float temp : {0.3f, 1.f, 2.f}) {
        for (bool xtc : {false, true}) {
          const auto x = row_like(1, size, size);
          double margin = 1;
          const auto kept = expected_kept(x, f, xtc, margin);
          if (margin < 1e-5) continue;
          std::vector<double> p(size);
          double total = 0;
          const double most = x[kept[0]];
          for (uint32_t i : kept) total += p[i] = std::exp((x[i] - most) / temp);
          constexpr int kDraws = 500;
          std::vector<float> rows;
          std::vector<Draw> draws;
          for (int i = 0; i < kDraws; ++i) {
            rows.insert(rows.end(), x.begin(), x.end());
            draws.push_back({(i + 0.5) / kDraws, xtc});
          }
          std::vector<uint32_t> tokens(kDraws);
          sample(rows.data(), kDraws, size, f, temp, draws.data(), tokens.data());
          std::vector<double> times(size);
          for (uint32_t token : tokens) times[token] += 1;
          for (int i = 0; i < size; ++i) {
            ASSERT_NEAR(times[i], kDraws * p[i] / total, 1.001) << size << ' ' << i;
            ASSERT_TRUE(p[i] > 0 || times[i] == 0) << size << ' ' << i;
          }
        }
      }
    }
  }
}

TEST(Sampling, TheSameByEverySet) {
  for (int size : {130, 9001, 256000, 300000}) {
    const auto x = row_like(0, size, 3);
    for (const Filters& f : all_filters()) {
      const std::vector<Draw> draws = {{0.11, false}, {0.77, true}, {0.5, false}};
      std::vector<float> rows;
      for (size_t i = 0; i < draws.size(); ++i) rows.insert(rows.end(), x.begin(), x.end());
      std::vector<uint32_t> expected(3);
      use_table(&kScalar);
      sample(rows.data(), 3, size, f, 0.8f, draws.data(), expected.data());
      under_every_set([&] {
        std::vector<uint32_t> found(3);
        sample(rows.data(), 3, size, f, 0.8f, draws.data(), found.data());
        EXPECT_EQ(found, expected) << size;
      });
    }
  }
}

TEST(Sampling, ARowDoesNotDependOnOthers) {
  const int size = 5000;
  const auto x = row_like(1, 4 * size, 8);
  const std::vector<Draw> draws = {{0.9, true}, {0.2, false}, {0.6, true}, {0.01, false}};
  for (const Filters& f : all_filters()) {
    std::vector<uint32_t> together(4);
    sample(x.data(), 4, size, f, 1, draws.data(), together.data());
    for (int i = 0; i < 4; ++i) {
      uint32_t alone = 0;
      sample(x.data() + i * size, 1, size, f, 1, &draws[i], &alone);
      EXPECT_EQ(alone, together[i]);
    }
  }
}

TEST(Sampling, AnyNumberOfThreads) {
  const auto x = row_like(1, 100000, 1);
  expect_same_for_any_threads([&] {
    std::vector<float> result;
    for (const Filters& f : all_filters()) {
      const std::vector<Draw> draws = {{0.3, true}};
      uint32_t token = 0;
      sample(x.data(), 1, 100000, f, 0.9f, draws.data(), &token);
      result.push_back(static_cast<float>(token));
      std::vector<float> out(x.size());
      filter(x.data(), 1, 100000, f, true, out.data());
      result.insert(result.end(), out.begin(), out.end());
    }
    return result;
  });
}

TEST(Sampling, NumbersThatAreNone) {
  const float most = std::numeric_limits<float>::max();
  const std::vector<std::pair<std::vector<float>, std::vector<uint32_t>>> rows = {
      {{NAN, NAN, NAN}, {0}},    {{-kInf, -kInf, NAN}, {0}}, {{NAN, -3, NAN}, {1}},           {{1, kInf, 2}, {1}},
      {{kInf, 5, kInf}, {0, 2}}, {{-kInf, NAN, kInf}, {2}},  {{-most, -kInf, -most}, {0, 2}}, {{most, 0, -most}, {0}},
  };
  under_every_set([&] {
    for (const auto& [x, possible] : rows) {
      for (const Filters& f : all_filters()) {
        for (float temp : {1e-45f, 1e-6f, 1.f, 3e38f}) {
          for (double u : {1e-16, 0.3, 0.7, 1 - 1e-16}) {
            for (bool xtc : {false, true}) {
              const Draw draw{u, xtc};
              uint32_t token = 1000;
              sample(x.data(), 1, 3, f, temp, &draw, &token);
              ASSERT_LT(token, 3u);
              // At 3e38 every finite number is about as likely.
              if (temp > 1e6f) {
                ASSERT_TRUE(x[token] > -kInf || possible[0] == 0) << x[0] << ' ' << x[1] << ' ' << x[2];
              } else if (f.xtc_spared.empty()) {
                ASSERT_NE(std::find(possible.begin(), possible.end(), token), possible.end())
                    << x[0] << ' ' << x[1] << ' ' << x[2] << " gave " << token;
              }
            }
          }
          std::vector<float> out(3);
          filter(x.data(), 1, 3, f, true, out.data());
          for (float v : out) ASSERT_FALSE(std::isnan(v));
        }
      }
    }
  });
}

TEST(Adjust, OneAfterAnother) {
  using Kind = Adjustment::Kind;
  const int size = 40000;
  const auto x = random_numbers(2 * size, 5, 3);
  const std::vector<int32_t> tokens = {7, 3, -1, 3, size, 1 << 30, 39999, 3, 0};
  const std::vector<Adjustment> all = {{.bias = {{3, 2.f}, {9, -kInf}, {-5, 1.f}, {size, 1.f}}},
                                       {.kind = Kind::repetition, .penalty = 1.5f, .context_size = 0},
                                       {.kind = Kind::presence, .penalty = 0.5f, .context_size = 5},
                                       {.kind = Kind::frequency, .penalty = 0.25f, .context_size = 100}};
  std::vector<float> out(2 * size);
  adjust(x.data(), 2, size, all, tokens, out.data());
  for (int row = 0; row < 2; ++row) {
    std::vector<float> expected(x.begin() + row * size, x.begin() + (row + 1) * size);
    expected[3] += 2, expected[9] = -kInf;
    for (int id : {0, 3, 7, 39999}) expected[id] = expected[id] < 0 ? expected[id] * 1.5f : expected[id] / 1.5f;
    for (int id : {0, 3, 39999}) expected[id] -= 0.5f;
    for (int id : {0, 3, 3, 3, 7, 39999}) expected[id] -= 0.25f;
    for (int i = 0; i < size; ++i) ASSERT_EQ(out[row * size + i], expected[i]) << row << ' ' << i;
  }
  adjust(x.data(), 2, size, std::span(all).subspan(1), {}, out.data());
  EXPECT_EQ(out, x) << "no tokens";
}

}  // namespace
}  // namespace mlx_lm::kernels
