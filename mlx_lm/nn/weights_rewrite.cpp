// What brings other people's checkpoints into the model's form.
#include <mutex>
#include <utility>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/nn/weights.h"
#include "mlx_lm/nn/weights_store.h"

namespace mlx_lm::nn {
namespace {

// Reads once what several new tensors are made of.
class Sources {
 public:
  explicit Sources(std::vector<StoredTensor> tensors) : tensors_(std::move(tensors)) {}
  const std::vector<mx::array>& read() {
    std::call_once(once_, [&] {
      for (auto& tensor : tensors_) arrays_.push_back(tensor.read());
      tensors_.clear();
    });
    return arrays_;
  }

 private:
  std::once_flag once_;
  std::vector<StoredTensor> tensors_;
  std::vector<mx::array> arrays_;
};

// From each of the groups along the axis, those from begin to end.
mx::array slice_groups(const mx::array& array, int axis, int groups, int begin, int end) {
  auto grouped = array.shape(), joined = grouped;
  grouped[axis] /= groups;
  grouped.insert(grouped.begin() + axis, groups);
  auto start = mx::Shape(grouped.size(), 0), stop = grouped;
  start[axis + 1] = begin, stop[axis + 1] = end;
  joined[axis] = groups * (end - begin);
  return mx::reshape(mx::slice(mx::reshape(array, grouped), start, stop), joined);
}

// Which axis of a layer's tensor counts its outputs; -1: all parts share it.
int output_axis(std::string_view name) { return name == "lora_a" ? -1 : name == "lora_b" ? 1 : 0; }

}  // namespace

void Weights::rewrite(const std::vector<std::string>& from, std::vector<Part> parts) const {
  auto& tensors = store_->tensors;
  std::vector<StoredTensor> old;
  for (const auto& name : from) {
    const auto found = tensors.find(full(name));
    if (found == tensors.end()) {
      fail<WeightError>("[weights] {}: expected a tensor, found nothing, in {}", full(name), store_->where);
    }
    old.push_back(std::move(found->second));
    tensors.erase(found);
  }
  const auto dtype = old.empty() ? mx::float32 : old[0].dtype;
  const auto sources = std::make_shared<Sources>(std::move(old));
  for (auto& part : parts) {
    StoredTensor made{part.shape, part.dtype.value_or(dtype),
                      [sources, make = std::move(part.make)] { return make(sources->read()); }};
    if (!tensors.emplace(full(part.name), std::move(made)).second) {
      fail<WeightError>("[weights] {}: expected once, found in two forms, in {}", full(part.name), store_->where);
    }
  }
}

void Weights::rename(std::string_view from, std::string_view to) const {
  const auto move = [&](auto& map) {
    const auto old_name = full(from), below = old_name + ".";
    std::vector<std::string> names;
    for (auto it = map.lower_bound(old_name); it != map.end() && it->first.starts_with(old_name); ++it) {
      if (it->first == old_name || it->first.starts_with(below)) names.push_back(it->first);
    }
    for (const auto& name : names) {
      auto node = map.extract(name);
      node.key() = full(to) + name.substr(old_name.size());
      const auto inserted = map.insert(std::move(node));
      if (!inserted.inserted) {
        fail<WeightError>("[weights] {}: expected once, found in two forms, in {}", inserted.position->first,
                          store_->where);
      }
    }
  };
  move(store_->tensors);
  move(store_->quantization.overrides);
}

void Weights::split(std::string_view fused, const std::vector<std::pair<std::string, int>>& parts, int groups) const {
  const auto scope = *this / fused;
  int64_t total = 0;
  for (const auto& [name, rows] : parts) total += rows;
  bool any = false;
  for (const char* name : {"weight", "scales", "biases", "bias", "lora_a", "lora_b", "m"}) {
    const auto found = store_->tensors.find(scope.full(name));
    if (found == store_->tensors.end()) continue;
    any = true;
    const int axis = output_axis(name);
    auto tensor = std::move(found->second);
    store_->tensors.erase(found);
    if (axis >= int(tensor.shape.size()) || (axis >= 0 && tensor.shape[axis] != total)) {
      fail<WeightError>("[weights] {}: expected {} outputs on axis {}, found shape ({}), in {}", scope.full(name),
                        total, axis, fmt::join(tensor.shape, ", "), store_->where);
    }
    const auto rows_of = std::move(tensor.rows);
    const StoredTensor like{tensor.shape, tensor.dtype, {}, {}, tensor.adapter};
    const auto sources = std::make_shared<Sources>(std::vector{std::move(tensor)});
    int begin = 0;
    for (const auto& [part, all_rows] : parts) {
      const int rows = all_rows / groups, group = int(total / groups);
      auto piece = like;
      if (axis >= 0) piece.shape[axis] = all_rows;
      piece.read = [=, end = begin + rows] {
        const auto& whole = sources->read()[0];
        return axis < 0 ? whole : slice_groups(whole, axis, groups, begin, end);
      };
      if (rows_of) {
        piece.rows = [=, all_rows = all_rows] {
          auto source = rows_of();
          source.rows = all_rows;
          source.read = [=, read = std::move(source.read)](int row, auto... to) {
            return read(row / rows * group + begin + row % rows, to...);
          };
          return source;
        };
      }
      store_->tensors.insert_or_assign((*this / part).full(name), std::move(piece));
      begin += rows;
    }
  }
  auto& overrides = store_->quantization.overrides;
  if (const auto entry = overrides.find(scope.path_); any && entry != overrides.end()) {
    for (const auto& [part, rows] : parts) overrides.insert_or_assign((*this / part).path_, entry->second);
  }
}

}  // namespace mlx_lm::nn
