#include "mlx_lm/nn/weights.h"

#include <algorithm>
#include <cassert>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/nn/weights_store.h"
#include "mlx_lm/ops/backend.h"

namespace mlx_lm::nn {

namespace {

mx::Dtype computing_type(const std::map<std::string, StoredTensor>& tensors) {
  auto any = [&](mx::Dtype dtype) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const auto& t) { return t.second.dtype == dtype; });
  };
  return any(mx::bfloat16) ? mx::bfloat16 : any(mx::float16) ? mx::float16 : mx::float32;
}

WeightTotals::Matrices& matrices_of(WeightTotals& totals, MatrixUse use) {
  return use == MatrixUse::layer ? totals.layers : use == MatrixUse::output ? totals.output : totals.tables;
}

void count(WeightTotals& totals, const ops::Matrix& matrix, MatrixUse use) {
  auto& matrices = matrices_of(totals, use);
  matrices.bytes += double(matrix.nbytes());
  (matrix.rounds_activations() ? matrices.rounded : matrices.floating) += double(matrix.rows()) * matrix.cols();
}

}  // namespace

Weights::Weights(std::map<std::string, StoredTensor> tensors, QuantizationConfig quantization, std::string where,
                 std::optional<mx::Dtype> dtype)
    : store_(std::make_shared<Store>()) {
  store_->dtype = dtype ? *dtype : computing_type(tensors);
  store_->tensors = {std::make_move_iterator(tensors.begin()), std::make_move_iterator(tensors.end())};
  store_->quantization = std::move(quantization);
  store_->where = std::move(where);
}

std::string Weights::full(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

Weights Weights::operator/(std::string_view name) const { return {store_, full(name)}; }
Weights Weights::operator/(int index) const { return *this / std::to_string(index); }
bool Weights::has(std::string_view name) const { return store_->tensors.contains(full(name)); }
mx::Dtype Weights::dtype() const { return store_->dtype; }
std::shared_ptr<const WeightTotals> Weights::totals() const { return store_->totals; }
void Weights::tie_output() const { store_->totals->tied = true; }

mx::array Weights::take(std::string_view name, const mx::Shape* expected) const {
  const auto path = full(name);
  auto found = store_->tensors.find(path);
  if (found == store_->tensors.end()) {
    fail<WeightError>("[weights] {}: expected a tensor, found nothing, in {}", path, store_->where);
  }
  if (expected && found->second.shape != *expected) {
    const auto& adapter = found->second.adapter;
    fail<WeightError>("[weights] {}: expected shape ({}), found ({}), in {}", path, fmt::join(*expected, ", "),
                      fmt::join(found->second.shape, ", "), adapter.empty() ? store_->where : adapter);
  }
  // Out of the store first, so that the file's pages are let go as soon as the caller is done with them.
  auto tensor = std::move(found->second);
  store_->tensors.erase(found);
  return tensor.read();
}

mx::array Weights::take_vector(std::string_view name, int size) const { return take_array(name, {size}); }

mx::array Weights::take_array(std::string_view name, const mx::Shape& shape) const {
  auto array = take(name, &shape);
  if (!mx::issubdtype(array.dtype(), mx::floating)) {
    fail<WeightError>("[weights] {}: expected floating-point numbers, found another type, in {}", full(name),
                      store_->where);
  }
  store_->totals->vectors += double(array.size());
  if (ops::backend() == ops::Backend::mlx) return array;
  // Copied even if it is float32 already: small, and no page of the file stays in use for it.
  auto copy = array.dtype() == mx::float32 ? mx::copy(array) : mx::astype(array, mx::float32);
  copy.eval();
  return copy;
}

std::optional<mx::Shape> Weights::shape_of(std::string_view name) const {
  const auto found = store_->tensors.find(full(name));
  return found == store_->tensors.end() ? std::nullopt : std::optional(found->second.shape);
}

std::optional<mx::Dtype> Weights::dtype_of(std::string_view name) const {
  const auto found = store_->tensors.find(full(name));
  return found == store_->tensors.end() ? std::nullopt : std::optional(found->second.dtype);
}

std::vector<std::string> Weights::names_ending_with(std::string_view suffix) const {
  const auto prefix = path_.empty() ? std::string() : path_ + ".";
  std::vector<std::string> names;
  for (const auto& [name, tensor] : store_->tensors) {
    if (!name.starts_with(prefix) || !name.ends_with(suffix) || name.size() < prefix.size() + suffix.size()) continue;
    names.push_back(name.substr(prefix.size(), name.size() - prefix.size() - suffix.size()));
  }
  return names;
}

std::optional<ops::Quantization> Weights::quantization(int cols) const {
  const auto& config = store_->quantization;
  auto entry = config.overrides.find(path_);
  if (entry != config.overrides.end()) return entry->second;
  const auto scales = store_->tensors.find(full("scales")), weight = store_->tensors.find(full("weight"));
  if (scales == store_->tensors.end()) return std::nullopt;
  if (!config.common) {
    fail<UnsupportedModel>(
        "[weights] {}: expected a `quantization` entry in config.json for its scales, found none, in {}", path_,
        store_->where);
  }
  // A path that the configuration does not name may still differ from the common entry: the shapes tell.
  if (weight == store_->tensors.end() || weight->second.shape.empty() || scales->second.shape.empty()) {
    return config.common;
  }
  const int64_t groups = scales->second.shape.back(), words = weight->second.shape.back();
  if (groups < 1 || cols % groups != 0 || words * 32 % cols != 0) return config.common;
  const int group_size = int(cols / groups), bits = int(words * 32 / cols);
  if (scales->second.dtype != mx::uint8) return ops::Quantization{group_size, bits, "affine"};
  if (bits == 4 && group_size == 16) return ops::Quantization{group_size, bits, "nvfp4"};
  if (group_size == 32 && (bits == 4 || bits == 8))
    return ops::Quantization{group_size, bits, bits == 4 ? "mxfp4" : "mxfp8"};
  return config.common;
}

// Of a quantized weight of the given shape, of which all but the last axis count rows. Nothing where MLX's form is
// needed, or where the tensors do not fit together: then the arrays tell what is wrong.
std::optional<kernels::RowSource> Weights::take_rows(mx::Shape shape, const ops::Quantization& q) const {
  const int cols = shape.back();
  shape.back() = int(int64_t(cols) * q.bits / 32);
  const auto weight = store_->tensors.find(full("weight"));
  if (weight == store_->tensors.end() || !weight->second.rows || ops::backend() != ops::Backend::kernels ||
      q.mode != "affine" || q.group_size != 32 || cols % 32 != 0 || !has("scales") || !has("biases") ||
      weight->second.shape != shape) {
    return std::nullopt;
  }
  const auto tensor = std::move(weight->second);
  store_->tensors.erase(weight);
  store_->tensors.erase(full("scales"));
  store_->tensors.erase(full("biases"));
  auto source = tensor.rows();
  assert(source.cols == cols && source.bits == q.bits);
  return source;
}

struct Weights::Parts {
  mx::array weight, scales;
  std::optional<mx::array> biases;
};

// Of a quantized weight of the given shape.
Weights::Parts Weights::take_parts(const mx::Shape& shape, const ops::Quantization& q) const {
  auto weight = take("weight", nullptr);
  auto scales = take("scales", nullptr);
  auto biases = has("biases") ? std::optional(take("biases", nullptr)) : std::nullopt;
  // Before any arithmetic on shapes: the packed columns must be those of this layer.
  const auto& found = weight.shape();
  const bool fits = found.size() == shape.size() && std::equal(found.begin(), found.end() - 1, shape.begin()) &&
                    int64_t(found.back()) * 32 == int64_t(shape.back()) * q.bits;
  if (!fits) {
    fail<WeightError>("expected shape ({}) packed in {} bits, found ({})", fmt::join(shape, ", "), q.bits,
                      fmt::join(found, ", "));
  }
  return {std::move(weight), std::move(scales), std::move(biases)};
}

// Errors of `make` that do not say yet which weight they are about do so.
template <class F>
auto Weights::named(const F& make) const {
  try {
    return make();
  } catch (const WeightError& error) {
    const std::string_view text = error.what();
    if (text.starts_with("[weights]")) throw;
    fail<WeightError>("[weights] {}.weight: {}, in {}", path_, text, store_->where);
  }
}

namespace {

mx::array floating(mx::array weight) {
  if (!mx::issubdtype(weight.dtype(), mx::floating)) {
    fail<WeightError>("expected floating-point numbers or a quantized weight with scales, found another type");
  }
  return weight;
}

}  // namespace

ops::Matrix Weights::matrix(int rows, int cols) const {
  return named([&] {
    const mx::Shape shape{rows, cols};
    const auto q = quantization(cols);
    if (!q) return ops::Matrix::dense(floating(take("weight", &shape)));
    if (auto source = take_rows(shape, *q)) return ops::Matrix::quantized(*source);
    auto parts = take_parts(shape, *q);
    return ops::Matrix::quantized(std::move(parts.weight), std::move(parts.scales), std::move(parts.biases), *q);
  });
}

ops::Matrix Weights::take_matrix(int rows, int cols, MatrixUse use) const {
  auto taken = matrix(rows, cols);
  count(*store_->totals, taken, use);
  return taken;
}

ops::ExpertMatrices Weights::take_experts(int experts, int rows, int cols, int active) const {
  const auto taken = named([&] {
    const mx::Shape shape{experts, rows, cols};
    const auto one_by_one = [&](const auto& make) {
      std::vector<ops::Matrix> matrices;
      for (int e = 0; e < experts; ++e) matrices.push_back(make(e));
      return ops::ExpertMatrices::stacked(matrices);
    };
    if (!has("weight") && has("0.weight")) return one_by_one([&](int e) { return (*this / e).matrix(rows, cols); });
    const auto q = quantization(cols);
    if (!q) return ops::ExpertMatrices::dense(floating(take("weight", &shape)));
    if (const auto all = take_rows(shape, *q)) {
      return one_by_one([&](int e) {
        auto source = *all;
        source.rows = rows;
        source.read = [read = all->read, begin = e * rows](int row, auto... to) { return read(begin + row, to...); };
        return ops::Matrix::quantized(source);
      });
    }
    auto parts = take_parts(shape, *q);
    return ops::ExpertMatrices::quantized(std::move(parts.weight), std::move(parts.scales), std::move(parts.biases),
                                          *q);
  });
  auto& totals = *store_->totals;
  const double share = double(active) / experts, numbers = double(experts) * rows * cols;
  totals.layers.bytes += share * double(taken.nbytes());
  (taken.rounds_activations() ? totals.layers.rounded : totals.layers.floating) += share * numbers;
  totals.idle += (1 - share) * numbers;
  return taken;
}

std::optional<LowRankTensors> Weights::take_low_rank(int in, int out, int magnitudes, MatrixUse use) const {
  const auto& tensors = store_->tensors;
  const auto a = tensors.find(full("lora_a"));
  if (a == tensors.end() || a->second.adapter.empty()) return std::nullopt;
  const auto& found = a->second.shape;
  if (found.size() != 2 || found[0] != in || found[1] < 1) {
    fail<WeightError>("[weights] {}: expected shape ({}, a rank of at least 1), found ({}), in {}", a->first, in,
                      fmt::join(found, ", "), a->second.adapter);
  }
  const mx::Shape a_shape = found, b_shape{found[1], out}, m_shape{magnitudes};
  LowRankTensors out_tensors{take("lora_a", &a_shape), take("lora_b", &b_shape), std::nullopt};
  if (has("m")) out_tensors.m = take("m", &m_shape);
  auto& matrices = matrices_of(*store_->totals, use);
  for (const auto* matrix : {&out_tensors.a, &out_tensors.b}) {
    matrices.bytes += double(matrix->nbytes());
    matrices.floating += double(matrix->size());
  }
  if (out_tensors.m) store_->totals->vectors += magnitudes;
  return out_tensors;
}

void Weights::ignore(std::string_view suffix) const {
  const auto prefix = path_.empty() ? std::string() : path_ + ".";
  std::erase_if(store_->tensors, [&](const auto& t) {
    return t.first.starts_with(prefix) && t.first.ends_with(suffix) && t.second.adapter.empty();
  });
}

void Weights::expect_all_taken() const {
  const auto& left = store_->tensors;
  if (left.empty()) return;
  std::vector<std::string_view> names;
  for (const auto& [name, tensor] : left) {
    if (!tensor.adapter.empty()) {
      fail<WeightError>("[weights] {}: expected a layer of the model that takes it, found none, in {}", name,
                        tensor.adapter);
    }
    if (names.size() < 5) names.push_back(name);
  }
  fail<WeightError>("[weights] {}: expected only the model's own tensors, found {} more: {}{}", store_->where,
                    left.size(), fmt::join(names, ", "), left.size() > names.size() ? ", ..." : "");
}

}  // namespace mlx_lm::nn
