#include "mlx_lm/cache/saved_cache.h"

#include <algorithm>
#include <limits>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/cache/chunked.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/cache/state.h"

namespace mlx_lm::cache {
namespace {

mx::array rows_between(const mx::array& array, int begin, int end) {
  auto stop = array.shape();
  stop[2] = end;
  return mx::slice(array, {0, 0, begin, 0}, stop);
}

mx::array first_rows(const mx::array& array, int n) { return rows_between(array, 0, n); }

// At least so many rows: zeros after those there are.
mx::array filled_up(const mx::array& array, int n) {
  if (array.shape(2) >= n) return array;
  auto missing = array.shape();
  missing[2] = n - array.shape(2);
  return mx::concatenate({array, mx::zeros(missing, array.dtype())}, 2);
}

void put(SavedCache& saved, int place, const ops::KVBuffer& rows) {
  const auto arrays = rows.arrays();
  for (size_t i = 0; i < arrays.size(); ++i) {
    saved.arrays.emplace(arrays.size() == 1 ? fmt::format("{}", place) : fmt::format("{}.{}", place, i), arrays[i]);
  }
}

[[noreturn]] void wrong_part(const std::string& where, const std::string& what, const std::string& expected,
                             const std::string& found) {
  fail<WeightError>("[prompt cache] {}: {}: expected {}, found {}", where, what, expected, found);
}

bool is_float(const mx::array& x) {
  return x.dtype() == mx::float32 || x.dtype() == mx::float16 || x.dtype() == mx::bfloat16;
}

size_t entries(const SavedCache& saved) {
  return saved.arrays.size() + saved.numbers.size() + saved.texts.size() + saved.nothing.size();
}

std::unique_ptr<Cache> restored_states(const SavedCache& saved, const std::string& where) {
  std::vector<std::optional<mx::array>> states;
  for (;;) {
    const auto place = fmt::format("0.{}", states.size());
    const auto found = saved.arrays.find(place);
    if (found != saved.arrays.end()) {
      if (!is_float(found->second) || found->second.ndim() < 2 || found->second.size() == 0) {
        wrong_part(where, "state " + place, "floating-point numbers (batch, ...)", "another array");
      }
      states.push_back(found->second);
    } else if (saved.nothing.contains(place)) {
      states.push_back(std::nullopt);
    } else {
      break;
    }
  }
  if (saved.arrays.empty()) wrong_part(where, "state", "arrays", "none");
  // mlx-lm's paddings of a batch would be more.
  if (entries(saved) != states.size() + saved.nothing.contains("1") + saved.nothing.contains("2")) {
    wrong_part(where, "state", "the arrays of one text and nothing else", "more");
  }
  return std::make_unique<StateCache>(std::move(states));
}

// What stands below a place.
SavedCache below(const SavedCache& saved, const std::string& place, std::string kind) {
  SavedCache part{.kind = std::move(kind), .arrays = {}, .numbers = {}};
  const auto take = [&](const auto& from, auto& to) {
    for (const auto& [name, value] : from) {
      if (name.starts_with(place)) to.emplace(name.substr(place.size()), value);
    }
  };
  take(saved.arrays, part.arrays);
  take(saved.numbers, part.numbers);
  take(saved.texts, part.texts);
  for (const auto& name : saved.nothing) {
    if (name.starts_with(place)) part.nothing.insert(name.substr(place.size()));
  }
  return part;
}

std::unique_ptr<Cache> restored_list(const SavedCache& saved, const std::string& where) {
  KVCaches caches;
  size_t used = 0;
  for (;;) {
    const auto kind = saved.texts.find(fmt::format("{}.1", caches.size()));
    if (kind == saved.texts.end()) break;
    if (kind->second == "CacheList") wrong_part(where, kind->first, "a cache", "a list within a list");
    const auto part = below(saved, fmt::format("{}.0.", caches.size()), kind->second);
    used += entries(part) + 1;
    caches.push_back(restored(part, fmt::format("{}: cache {}", where, caches.size())));
  }
  if (caches.empty() || used != entries(saved)) {
    wrong_part(where, "state", "the caches of a list, each with its kind", caches.empty() ? "none" : "more");
  }
  return std::make_unique<CacheList>(std::move(caches));
}

class Restorer {
 public:
  Restorer(const SavedCache& saved, const std::string& where) : saved_(saved), where_(where) {
    quantized_ = saved.kind.starts_with("Quantized");
    rotating_ = saved.kind.ends_with("RotatingKVCache");
    chunked_ = saved.kind.ends_with("ChunkedKVCache");
  }

  std::unique_ptr<Cache> restore() {
    if (saved_.kind != fmt::format("{}{}KVCache", quantized_ ? "Quantized" : "",
                                   rotating_  ? "Rotating"
                                   : chunked_ ? "Chunked"
                                              : "")) {
      wrong("kind", "KVCache, RotatingKVCache or ChunkedKVCache, any of them Quantized, ArraysCache or CacheList",
            fmt::format("'{}'", saved_.kind.substr(0, 60)));
    }
    const int formats = rotating_ ? 6 : chunked_ ? 5 : 3;
    if (quantized_) {
      format_ = {number(formats + 1, "bits"), number(formats, "group_size")};
      if (format_.bits == 0) wrong("bits", "2, 3, 4, 5, 6 or 8", 0);
      try {
        format_.validate();
      } catch (const RequestError& error) {
        fail<WeightError>("[prompt cache] {}: {}", where_, error.what());
      }
    }
    check_places(formats + (quantized_ ? 2 : 0));
    auto keys = rows(0, "keys"), values = rows(1, "values");
    for (int axis : {0, 1, 2}) {
      if (keys.data.shape(axis) != values.data.shape(axis)) {
        wrong("values", fmt::format("the rows of keys, {}", fmt::join(keys.data.shape(), " x ")),
              fmt::format("{}", fmt::join(values.data.shape(), " x ")));
      }
    }
    if (chunked_) return chunked(std::move(keys), std::move(values));
    const int offset = number(2, "offset"), held = keys.rows();
    if (!rotating_) {
      if (offset < 1 || offset > held) wrong("offset", fmt::format("1 to {}, the rows that it holds", held), offset);
      const auto used = [&](const mx::array& array) { return offset == held ? array : first_rows(array, offset); };
      return std::make_unique<GrowingKVCache>(keys.with(used), values.with(used), offset);
    }
    const int keep = number(3, "keep"), max_size = number(4, "max_size"), index = number(5, "index");
    if (max_size < 1 || max_size > std::numeric_limits<int>::max() / 2) {
      wrong("max_size", "a number of tokens", max_size);
    }
    if (keep < 0 || keep >= max_size) wrong("keep", fmt::format("0 to {}", max_size - 1), keep);
    if (offset < 1) wrong("offset", "at least 1", offset);
    // Not full: in the order of the text. Full: a ring, or, after a longer step, the newest rows in that order.
    const bool full = offset >= max_size;
    const auto [least, most] = std::minmax(offset, max_size);
    if (held < least || held > most) wrong("rows", fmt::format("{} to {}", least, most), held);
    const int first = !full ? offset : held > max_size ? held : std::max(keep, 1), last = full ? held : offset;
    if (index < first || index > last) wrong("index", fmt::format("{} to {}", first, last), index);
    return std::make_unique<RotatingKVCache>(std::move(keys), std::move(values), offset, max_size, keep, index);
  }

 private:
  template <class T>
  [[noreturn]] void wrong(const char* what, const std::string& expected, const T& found) const {
    fail<WeightError>("[prompt cache] {}: {}: expected {}, found {}", where_, what, expected, found);
  }

  // mlx-lm's holds rows of the chunk before as well, and none too few unless it was trimmed too far.
  std::unique_ptr<Cache> chunked(ops::KVBuffer keys, ops::KVBuffer values) const {
    const int offset = number(2, "offset"), size = number(3, "chunk_size"), first = number(4, "start_position");
    if (offset < 1) wrong("offset", "at least 1", offset);
    if (size < 1) wrong("chunk_size", "a number of tokens", size);
    const int start = (offset - 1) / size * size, held = keys.rows();
    // Ours may be empty, where it was trimmed to its beginning.
    const int most = first == offset && offset % size == 0 ? offset : start;
    if (first < 0 || first > most) wrong("start_position", fmt::format("0 to {}", most), first);
    const int from = first == offset ? offset : start;
    if (offset - first > held) wrong("rows", fmt::format("at least {}", offset - first), held);
    const auto used = [&](const mx::array& array) {
      return rows_between(array, from - first, std::max(offset, from + 1) - first);
    };
    return std::make_unique<ChunkedKVCache>(keys.with(used), values.with(used), offset, size, from);
  }

  int number(int place, const char* name) const {
    const auto found = saved_.numbers.find(fmt::format("{}", place));
    if (found == saved_.numbers.end()) wrong(name, "a whole number", "none");
    return found->second;
  }

  const mx::array& array(const std::string& place, const char* name) const {
    const auto found = saved_.arrays.find(place);
    if (found == saved_.arrays.end()) wrong(name, "an array", "none");
    const auto& shape = found->second.shape();
    if (shape.size() != 4 || found->second.size() == 0) {
      wrong(name, "(batch, heads, rows, size)", fmt::format("({})", fmt::join(shape, ", ")));
    }
    return found->second;
  }

  // Nothing that the kind does not have.
  void check_places(int numbers) const {
    const size_t arrays = quantized_ ? 6 : 2;
    if (saved_.arrays.size() > arrays) wrong("state", fmt::format("{} arrays", arrays), saved_.arrays.size());
    const size_t count = size_t(numbers) - 2;
    if (saved_.numbers.size() > count) wrong("state", fmt::format("{} numbers", count), saved_.numbers.size());
    if (!saved_.texts.empty() || !saved_.nothing.empty()) wrong("state", "arrays and numbers", "something else");
  }

  ops::KVBuffer rows(int place, const char* name) const {
    if (!quantized_) {
      const auto& numbers = array(fmt::format("{}", place), name);
      if (!is_float(numbers)) wrong(name, "floating-point numbers", "another type");
      return numbers;
    }
    const auto& codes = array(fmt::format("{}.0", place), name);
    const auto& scales = array(fmt::format("{}.1", place), name);
    const auto& biases = array(fmt::format("{}.2", place), name);
    if (codes.dtype() != mx::uint32) wrong(name, "codes in 32-bit words", "another type");
    if (!is_float(scales) || biases.dtype() != scales.dtype()) {
      wrong(name, "scales and biases of one floating-point type", "others");
    }
    auto expected = codes.shape();
    const int64_t bits = int64_t(expected.back()) * 32;
    const int64_t groups = bits / format_.bits / format_.group_size;
    if (groups * format_.group_size * format_.bits != bits) {
      wrong(name, fmt::format("whole groups of {} codes of {} bits", format_.group_size, format_.bits),
            fmt::format("{} bits", bits));
    }
    expected.back() = int(groups);
    for (const auto* factors : {&scales, &biases}) {
      if (factors->shape() != expected) {
        wrong(name, fmt::format("scales and biases ({})", fmt::join(expected, ", ")),
              fmt::format("({})", fmt::join(factors->shape(), ", ")));
      }
    }
    return {codes, scales, biases, format_};
  }

  const SavedCache& saved_;
  const std::string& where_;
  bool quantized_, rotating_, chunked_;
  ops::KVFormat format_;
};

}  // namespace

namespace {

SavedCache saved_states(const StateCache& cache) {
  SavedCache saved{.kind = "ArraysCache", .arrays = {}, .numbers = {}, .texts = {}, .nothing = {"1", "2"}};
  for (size_t i = 0; i < cache.states().size(); ++i) {
    const auto place = fmt::format("0.{}", i);
    if (cache.states()[i]) {
      saved.arrays.emplace(place, *cache.states()[i]);
    } else {
      saved.nothing.insert(place);
    }
  }
  if (saved.arrays.empty()) {
    fail<RequestError>("[prompt cache] expected a cache of at least one token, found an empty one");
  }
  return saved;
}

SavedCache saved_list(const CacheList& list) {
  SavedCache all{.kind = "CacheList", .arrays = {}, .numbers = {}};
  for (size_t i = 0; i < list.caches().size(); ++i) {
    const auto part = saved(*list.caches()[i]);
    const auto place = fmt::format("{}.0.", i);
    for (const auto& [name, array] : part.arrays) all.arrays.emplace(place + name, array);
    for (const auto& [name, number] : part.numbers) all.numbers.emplace(place + name, number);
    for (const auto& name : part.nothing) all.nothing.insert(place + name);
    all.texts.emplace(fmt::format("{}.1", i), part.kind);
  }
  return all;
}

}  // namespace

SavedCache saved(const Cache& cache) {
  if (const auto* states = dynamic_cast<const StateCache*>(&cache)) return saved_states(*states);
  if (const auto* list = dynamic_cast<const CacheList*>(&cache)) return saved_list(*list);
  const auto* kv = dynamic_cast<const KVCache*>(&cache);
  const auto* growing = dynamic_cast<const GrowingKVCache*>(&cache);
  const auto* rotating = dynamic_cast<const RotatingKVCache*>(&cache);
  const auto* chunked = dynamic_cast<const ChunkedKVCache*>(&cache);
  if (!growing && !rotating && !chunked)
    fail<RequestError>("[prompt cache] expected a kind of cache that files know, found another");
  if (!kv->keys() || kv->offset() == 0) {
    fail<RequestError>("[prompt cache] expected a cache of at least one token, found an empty one");
  }
  const int offset = kv->offset();
  const bool quantized = kv->format().quantized();
  SavedCache saved{.kind = quantized ? "Quantized" : "", .arrays = {}, .numbers = {{"2", offset}}};
  std::vector<int> numbers;
  const auto rows = [&](const mx::array& array) {
    // One at least, as arrays must not be empty.
    if (chunked) return first_rows(array, std::max(1, offset - chunked->start()));
    if (growing || offset < rotating->max_size()) return first_rows(array, offset);
    // A longer step that was taken back may leave one row less than mlx-lm expects; the next token goes there.
    return filled_up(array, rotating->max_size());
  };
  put(saved, 0, kv->keys()->with(rows));
  put(saved, 1, kv->values()->with(rows));
  saved.kind += growing ? "KVCache" : rotating ? "RotatingKVCache" : "ChunkedKVCache";
  if (chunked) numbers = {chunked->chunk_size(), chunked->start()};
  if (rotating) numbers = {rotating->keep(), rotating->max_size(), rotating->next()};
  if (quantized) numbers.insert(numbers.end(), {kv->format().group_size, kv->format().bits});
  for (size_t i = 0; i < numbers.size(); ++i) saved.numbers.emplace(fmt::format("{}", i + 3), numbers[i]);
  return saved;
}

std::unique_ptr<Cache> restored(const SavedCache& saved, const std::string& where) {
  if (saved.kind == "ArraysCache") return restored_states(saved, where);
  if (saved.kind == "CacheList") return restored_list(saved, where);
  return Restorer(saved, where).restore();
}

}  // namespace mlx_lm::cache
