// Models with adapters, from folders, against what Python mlx-lm computes with the same ones.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>

#include <gtest/gtest.h>

#include "mlx_lm/kernels/kernels.h"
#include "mlx_lm/load/load.h"
#include "mlx_lm/ops/backend.h"

#include "tests/load/temp_folder.h"
#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

using nlohmann::json;
using Arrays = std::unordered_map<std::string, mx::array>;

enum class Way {
  exact,  // our kernels, float32 activations
  fast,   // our kernels as they are used
  mlx,    // MLX's own operations
};

std::filesystem::path cases() { return std::filesystem::path(MLX_LM_TEST_DATA) / "golden" / "adapters"; }

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(cases())) names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

// The recipe is written down in tests/golden/dump_adapters.py.
Arrays model_tensors(const json& e) {
  Arrays out;
  for (const auto& [name, shape] : e.at("parameters").items()) {
    const auto w = golden::draw(name, shape.get<mx::Shape>(), golden::dtype_of(e.at("dtype")));
    const auto module = name.substr(0, name.rfind(".weight"));
    const auto& kinds = e.at("quantized");
    if (!name.ends_with(".weight") || !kinds.contains(module)) {
      out.emplace(name, w);
      continue;
    }
    const auto parts = mx::quantize(w, kinds[module]["group_size"].get<int>(), kinds[module]["bits"].get<int>(),
                                    kinds[module]["mode"].get<std::string>());
    out.emplace(name, parts[0]);
    out.emplace(module + ".scales", parts[1]);
    if (parts.size() > 2) out.emplace(module + ".biases", parts[2]);
  }
  return out;
}

Arrays adapter_tensors(const json& e) {
  Arrays out;
  for (const auto& [name, shape] : e.at("adapter").items()) {
    auto x = golden::draw("adapter." + name, shape.get<mx::Shape>(), mx::float32);
    if (name.ends_with(".m") || name.ends_with("lora_magnitude_vector")) x = x + mx::array(1.f);
    out.emplace(name, mx::astype(x, golden::dtype_of(e.at("adapter_dtype"))));
  }
  return out;
}

class GoldenAdapters : public testing::TestWithParam<std::tuple<std::string, Way>> {
 protected:
  void SetUp() override {
    const auto [name, way] = GetParam();
    ops::set_backend(way == Way::mlx ? ops::Backend::mlx : ops::Backend::kernels);
    kernels::set_activations(way == Way::fast ? kernels::Activations::int16 : kernels::Activations::float32);
    e_ = read_json(cases() / (name + ".json"));
    expected_ = way == Way::mlx && e_.contains("mlx") ? e_.at("mlx") : e_.at("exact");
    const auto dtype = e_.at("dtype").get<std::string>();
    const bool quantized = !e_.at("quantized").empty();
    // As in golden_test.cpp; the caches are in the model's type here.
    tolerance_ = dtype == "bfloat16"             ? (way == Way::mlx ? 0.25 : 0.15)  // mlx-lm itself is 0.24 off there
                 : dtype == "float16"            ? 0.02
                 : way == Way::fast && quantized ? 2e-3
                                                 : 2e-4;

    folder_.write("model/config.json", e_.at("config").dump());
    folder_.write("adapter/adapter_config.json", e_.at("adapter_config").dump());
    mx::save_safetensors((folder_.path() / "model/model.safetensors").string(), model_tensors(e_));
    const auto file = folder_.path() / "adapter" / e_.at("adapter_file").get<std::string>();
    mx::save_safetensors(file.string(), adapter_tensors(e_));
    const auto files = open_model(folder_.path() / "model");
    const auto adapters = open_adapters(folder_.path() / "adapter");
    model_ = load_model(files, load_config(files), &adapters);
    caches_ = model_->make_cache();
  }
  void TearDown() override {
    ops::set_backend(ops::Backend::kernels);
    kernels::set_activations(kernels::Activations::int16);
  }

  // The logits of the last of some tokens.
  std::vector<float> run(const std::vector<int>& tokens) {
    const int length = int(tokens.size());
    auto logits = (*model_)(mx::array(tokens.begin(), {1, length}, mx::int32), caches_);
    logits = mx::contiguous(mx::astype(mx::slice(logits, {0, length - 1, 0}, logits.shape()), mx::float32));
    logits.eval();
    return {logits.data<float>(), logits.data<float>() + logits.size()};
  }

  void expect_near(const std::vector<float>& found, const json& wanted, const char* what) {
    ASSERT_EQ(found.size(), wanted.size());
    for (size_t i = 0; i < found.size(); ++i) {
      worst_ = std::max(worst_, std::abs(double(found[i]) - wanted[i].get<double>()));
    }
    EXPECT_LE(worst_, tolerance_) << what;
  }

  json e_, expected_;
  TempFolder folder_;
  std::unique_ptr<models::LanguageModel> model_;
  cache::KVCaches caches_;
  double tolerance_ = 0, worst_ = 0;
};

TEST_P(GoldenAdapters, logits_and_greedy_text) {
  const auto prompt = e_.at("prompt").get<std::vector<int>>();
  expect_near(run(prompt), expected_.at("last"), "the whole prompt");
  caches_ = model_->make_cache();
  std::vector<float> found;
  for (int token : prompt) found = run({token});
  expect_near(found, expected_.at("steps"), "token by token");
  for (size_t i = 0; i < expected_.at("greedy").size(); ++i) {
    const int token = int(std::max_element(found.begin(), found.end()) - found.begin());
    if (token != expected_["greedy"][i]) {
      // Only where the two best are closer than the tolerance; then the texts part.
      EXPECT_LE(expected_["gaps"][i].get<double>(), 2 * tolerance_) << "greedy token " << i;
      break;
    }
    found = run({token});
  }
  std::cout << "difference of logits: at most " << worst_ << std::endl;
}

std::string way_name(Way way) { return way == Way::exact ? "exact" : way == Way::fast ? "fast" : "mlx"; }

INSTANTIATE_TEST_SUITE_P(Cases, GoldenAdapters,
                         testing::Combine(testing::ValuesIn(case_names()),
                                          testing::Values(Way::exact, Way::fast, Way::mlx)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + way_name(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace mlx_lm
