// Every registered architecture against what Python mlx-lm computes: logits for the prompt at once, in pieces, token by
// token and in a batch, and the greedy continuation.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <set>

#include <gtest/gtest.h>

#include "mlx_lm/cache/batch.h"
#include "mlx_lm/cache/saved_cache.h"
#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/nn/hidden_states.h"
#include "mlx_lm/ops/backend.h"

#include "golden_case.h"

namespace mlx_lm {
namespace {

using nlohmann::json;

enum class Way {
  exact,  // our kernels, float32 activations and caches: what the arithmetic should give
  fast,   // our kernels as they are used: 16-bit activations for quantized weights, caches in the model's type
  int8,   // the same with 8-bit activations
  mlx,    // MLX's own operations, as on a GPU
};

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_cases()))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

class Golden : public testing::TestWithParam<std::tuple<std::string, Way>> {
 protected:
  void SetUp() override {
    const auto [name, way] = GetParam();
    way_ = way;
    ops::set_backend(way == Way::mlx ? ops::Backend::mlx : ops::Backend::kernels);
    kernels::set_activations(way == Way::fast   ? kernels::Activations::int16
                             : way == Way::int8 ? kernels::Activations::int8
                                                : kernels::Activations::float32);
    case_ = std::make_unique<GoldenCase>(name);
    const auto& e = case_->expected;
    expected_ = way == Way::mlx && e.contains("mlx") ? e.at("mlx") : e.at("exact");
    model_ = case_->make(way == Way::exact ? std::optional(mx::float32) : std::nullopt);
    const bool wide = e.at("dtype") == "float32";
    const bool quantized = !e.at("quantized").empty() || case_->config.contains("quantization_config");
    // The spread of the logits is about 1. Half-precision rounding differs with the order of summation; rounding the
    // activations to 8 bits is noise, which is bounded by its root mean square.
    const double fast = wide ? (quantized ? 1.5e-3 : 1e-4) : e.at("dtype") == "float16" ? 0.01 : 0.05;
    tolerance_ = way == Way::exact               ? 1e-4
                 : way == Way::mlx               ? (wide ? 2e-4 : 0.1)
                 : way == Way::int8 && quantized ? 0.35
                                                 : fast;
    rms_tolerance_ = way == Way::int8 && quantized ? 0.09 : tolerance_;
  }
  void TearDown() override {
    ops::set_backend(ops::Backend::kernels);
    kernels::set_activations(kernels::Activations::int16);
  }

  cache::KVCaches fresh() const { return model_->make_cache(case_->expected.value("max_kv_size", 0)); }

  // Logits of the rows' new tokens as floats. Shapes: rows of L ids -> (B, L, V).
  mx::array run(const std::vector<std::vector<int>>& rows, cache::KVCaches& caches) const {
    std::vector<int> flat;
    for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
    mx::array tokens(flat.begin(), {int(rows.size()), int(rows[0].size())}, mx::int32);
    const nn::HiddenStates states;
    auto logits = mx::contiguous(mx::astype((*model_)(tokens, caches), mx::float32));
    logits.eval();
    // What the output layer was given, whatever the architecture.
    EXPECT_EQ((*states).ndim(), 3);
    EXPECT_EQ((*states).shape(0), logits.shape(0));
    EXPECT_EQ((*states).shape(1), logits.shape(1));
    return logits;
  }

  std::vector<float> at(const mx::array& logits, int row, int position) const {
    const int length = logits.shape(1), vocabulary = logits.shape(2);
    const float* start = logits.data<float>() + (size_t(row) * length + position) * vocabulary;
    return {start, start + vocabulary};
  }

  void expect_near(const std::vector<float>& found, const json& wanted, const std::string& what) {
    double worst = 0, squares = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double difference = std::abs(double(found[i]) - wanted[i].get<double>());
      worst = std::max(worst, difference);
      squares += difference * difference;
    }
    const double rms = std::sqrt(squares / double(wanted.size()));
    worst_ = std::max(worst_, worst);
    worst_rms_ = std::max(worst_rms_, rms);
    EXPECT_LE(worst, tolerance_) << what;
    EXPECT_LE(rms, rms_tolerance_) << what;
  }

  Way way_;
  std::unique_ptr<GoldenCase> case_;
  std::unique_ptr<models::LanguageModel> model_;
  json expected_;
  double tolerance_ = 0, rms_tolerance_ = 0, worst_ = 0, worst_rms_ = 0;
};

TEST_P(Golden, logits_and_greedy_text) {
  const auto prompt = case_->expected["prompt"].get<std::vector<int>>();
  const auto other = case_->expected["other"].get<std::vector<int>>();
  const int last = int(prompt.size()) - 1;

  auto caches = fresh();
  const auto whole = run({prompt}, caches);
  expect_near(at(whole, 0, last), expected_["last"], "the whole prompt");
  for (const auto& [position, logits] : expected_["inner"].items()) {
    expect_near(at(whole, 0, std::stoi(position)), logits, "inner position " + position);
  }

  for (const auto& [key, size] : {std::pair("chunks", 7), std::pair("steps", 1)}) {
    caches = fresh();
    std::vector<float> found;
    for (int start = 0; start <= last; start += size) {
      const int end = std::min(start + size, last + 1);
      const auto logits = run({{prompt.begin() + start, prompt.begin() + end}}, caches);
      found = at(logits, 0, end - start - 1);
    }
    expect_near(found, expected_[key], key);
  }

  caches = fresh();
  const auto both = run({prompt, other}, caches);
  const auto after = run({{prompt[0]}, {other[0]}}, caches);
  for (int row : {0, 1}) {
    expect_near(at(both, row, last), expected_["batch"][0][row], "batch, prompt, row " + std::to_string(row));
    expect_near(at(after, row, 0), expected_["batch"][1][row], "batch, next token, row " + std::to_string(row));
  }

  // As generate_step feeds it: all but the last token of the prompt, then one at a time.
  caches = fresh();
  run({{prompt.begin(), prompt.end() - 1}}, caches);
  int token = prompt[last];
  for (size_t i = 0; i < expected_["greedy"].size(); ++i) {
    const auto logits = at(run({{token}}, caches), 0, 0);
    token = int(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (token != expected_["greedy"][i]) {
      // Only where the two best are closer than the tolerance; then the texts part.
      EXPECT_LE(expected_["gaps"][i].get<double>(), 2 * tolerance_) << "greedy token " << i;
      break;
    }
  }
  std::cout << "difference of logits: at most " << worst_ << ", root mean square at most " << worst_rms_ << std::endl;
}

// A text in a batch of others of other lengths has the logits that it has alone.
TEST_P(Golden, ragged_batch) {
  const auto prompt = case_->expected["prompt"].get<std::vector<int>>();
  const auto other = case_->expected["other"].get<std::vector<int>>();
  const std::vector<std::vector<int>> texts = {
      {prompt.begin(), prompt.end() - 3}, {other.begin(), other.begin() + 11}, {prompt[5]}};
  std::vector<std::vector<float>> alone, alone_after;
  for (const auto& text : texts) {
    auto caches = fresh();
    alone.push_back(at(run({text}, caches), 0, int(text.size()) - 1));
    alone_after.push_back(at(run({{other[20]}}, caches), 0, 0));
  }
  std::vector<cache::KVCaches> caches;
  for (size_t i = 0; i < texts.size(); ++i) caches.push_back(fresh());
  std::vector<int> joined, ends;
  std::vector<cache::BatchMember> members, singles;
  for (size_t i = 0; i < texts.size(); ++i) {
    joined.insert(joined.end(), texts[i].begin(), texts[i].end());
    ends.push_back(int(joined.size()) - 1);
    members.push_back({&caches[i], int(texts[i].size())});
    singles.push_back({&caches[i], 1});
  }
  auto batch = cache::batched(members);
  const auto together = run({joined}, batch);
  batch = cache::batched(singles);
  const auto after = run({std::vector<int>(texts.size(), other[20])}, batch);
  for (size_t i = 0; i < texts.size(); ++i) {
    expect_near(at(together, 0, ends[i]), alone[i], "text " + std::to_string(i));
    expect_near(at(after, 0, int(i)), alone_after[i], "text " + std::to_string(i) + ", next token");
  }
}

// Caches that were saved and restored, or copied, go on as those that they were made from.
TEST_P(Golden, saved_caches) {
  const auto prompt = case_->expected["prompt"].get<std::vector<int>>();
  auto caches = fresh();
  run({{prompt.begin(), prompt.end() - 5}}, caches);
  auto copies = cache::copy(caches);
  cache::KVCaches restored;
  for (const auto& cache : caches) restored.push_back(cache::restored(cache::saved(*cache), "a golden case"));
  for (size_t i = prompt.size() - 5; i < prompt.size(); ++i) {
    const auto wanted = at(run({{prompt[i]}}, caches), 0, 0);
    EXPECT_EQ(at(run({{prompt[i]}}, copies), 0, 0), wanted);
    EXPECT_EQ(at(run({{prompt[i]}}, restored), 0, 0), wanted);
  }
}

std::string way_name(Way way) {
  return way == Way::exact ? "exact" : way == Way::fast ? "fast" : way == Way::int8 ? "int8" : "mlx";
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden,
                         testing::Combine(testing::ValuesIn(case_names()),
                                          testing::Values(Way::exact, Way::fast, Way::int8, Way::mlx)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + way_name(std::get<1>(info.param));
                         });

TEST(GoldenCases, cover_every_registered_model_type) {
  std::set<std::string> covered;
  for (const auto& name : case_names())
    covered.insert(read_json(golden_cases() / name / "config.json").at("model_type"));
  for (const auto* architecture : models::architectures()) {
    for (auto type : architecture->types)
      EXPECT_TRUE(covered.contains(std::string(type))) << type << " has no golden case";
  }
}

}  // namespace
}  // namespace mlx_lm
