// The file's arrays are named by their places in [state of each cache], its metadata by theirs in
// [the caller's, class of each cache, ["", [place, "scalar"] of each array that is a number]].
#include "mlx_lm/load/prompt_cache.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/cache/chunked.h"
#include "mlx_lm/cache/rotating.h"
#include "mlx_lm/cache/saved_cache.h"
#include "mlx_lm/cache/state.h"
#include "mlx_lm/load/safetensors.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;

const char* name_of(mx::Dtype dtype) {
  return dtype == mx::float32    ? "F32"
         : dtype == mx::float16  ? "F16"
         : dtype == mx::bfloat16 ? "BF16"
         : dtype == mx::uint32   ? "U32"
                                 : "I32";
}

// The key of the number of tokens, where no cache says it.
const std::string kTokens = "num_tokens";

struct Named {
  std::string name;
  mx::array array;
};

// The file's beginning: its length, then the names, padded so that data starts at a multiple of 64.
std::string header_of(const std::vector<Named>& arrays, const nlohmann::ordered_json& metadata) {
  nlohmann::ordered_json header;
  size_t at = 0;
  for (const auto& [name, array] : arrays) {
    header[name] = {{"dtype", name_of(array.dtype())},
                    {"shape", std::vector<int>(array.shape().begin(), array.shape().end())},
                    {"data_offsets", {at, at + array.nbytes()}}};
    at += array.nbytes();
  }
  header["__metadata__"] = metadata;
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');
  const uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + text;
}

void write_file(const fs::path& file, const std::string& header, const std::vector<Named>& arrays) {
  auto unfinished = file;
  unfinished += fmt::format(".{}.unfinished", ::getpid());
  std::error_code error;
  {
    std::ofstream out(unfinished, std::ios::binary | std::ios::trunc);
    out.write(header.data(), std::streamsize(header.size()));
    for (const auto& [name, array] : arrays) out.write(array.data<char>(), std::streamsize(array.nbytes()));
    out.close();
    if (!out) {
      const int why = errno;
      fs::remove(unfinished, error);
      fail<Error>("[prompt cache] {}: could not be written: {}", file.string(), std::strerror(why));
    }
  }
  fs::rename(unfinished, file, error);
  if (error) {
    const auto why = error.message();
    fs::remove(unfinished, error);
    fail<Error>("[prompt cache] {}: could not be written: {}", file.string(), why);
  }
}

// The number that text is, all of it.
std::optional<int> whole_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

class Reader {
 public:
  explicit Reader(const fs::path& path) : where_(path.string()), file_(MappedFile::open(path)) {}

  PromptCache read() {
    const auto tensors = read_safetensors_header(file_->bytes(), where_, &metadata_);
    // Until 0.32.1 the lists stood in another order, with the classes last.
    const auto third = metadata_.find("2.0");
    if (third == metadata_.end()) foreign("the classes of its caches");
    const bool old = !third->second.empty();
    const std::string user = old ? "1." : "0.", classes = old ? "2." : "1.";
    PromptCache result;
    for (const auto& [key, value] : metadata_) {
      if (key.starts_with(user)) result.metadata.emplace(key.substr(2), value);
    }
    std::vector<cache::SavedCache> layers;
    for (auto found = metadata_.find(classes + "0"); found != metadata_.end();
         found = metadata_.find(classes + std::to_string(layers.size()))) {
      layers.push_back({.kind = found->second, .arrays = {}, .numbers = {}});
    }
    for (int i = 1;; ++i) {
      const auto name = metadata_.find(fmt::format("2.{}.0", i)), type = metadata_.find(fmt::format("2.{}.1", i));
      if (old || name == metadata_.end() || type == metadata_.end()) break;
      types_.emplace(name->second, type->second);
    }
    if (layers.empty()) foreign("the classes of its caches");
    for (const auto& info : tensors) place(info, layers);
    for (size_t i = 0; i < layers.size(); ++i) {
      if (old) add_old_numbers(layers[i], i);
      result.caches.push_back(cache::restored(layers[i], fmt::format("{}: layer {}", where_, i)));
    }
    place_states(result);
    for (size_t i = 0; i < layers.size(); ++i) {
      if (result.caches[i]->offset() != result.caches[0]->offset()) {
        fail<WeightError>("[prompt cache] {}: layer {}: expected {} tokens, as layer 0 has, found {}", where_, i,
                          result.caches[0]->offset(), result.caches[i]->offset());
      }
    }
    return result;
  }

 private:
  [[noreturn]] void foreign(const std::string& expected) const {
    fail<WeightError>("[prompt cache] {}: expected {}, found none (is it a prompt-cache file?)", where_, expected);
  }

  void place(const TensorInfo& info, std::vector<cache::SavedCache>& layers) const {
    const auto dot = info.name.find('.');
    const auto layer = whole_number(std::string_view(info.name).substr(0, dot));
    if (dot == std::string::npos || !layer || *layer < 0 || size_t(*layer) >= layers.size()) {
      fail<WeightError>("[prompt cache] {}: expected arrays of {} layers, found '{}'", where_, layers.size(),
                        info.name.substr(0, 60));
    }
    auto name = info.name.substr(dot + 1);
    auto& saved = layers[size_t(*layer)];
    const auto found = types_.find(info.name);
    const std::string type = found == types_.end() ? "" : found->second;
    if (type == "none") {
      saved.nothing.insert(std::move(name));
      return;
    }
    if (type == "string") {
      saved.texts.emplace(std::move(name), text_of(info));
      return;
    }
    if (!info.shape.empty()) {
      saved.arrays.emplace(std::move(name), stored_tensor(file_, info).read());
      return;
    }
    if (info.dtype != "I32") {
      fail<WeightError>("[prompt cache] {}: {}: expected a whole number, I32, found {}", where_, info.name, info.dtype);
    }
    int32_t value;
    std::memcpy(&value, file_->bytes().data() + info.begin, sizeof(value));
    saved.numbers.emplace(std::move(name), value);
  }

  // A text is an array of its characters' numbers: here the name of a kind.
  std::string text_of(const TensorInfo& info) const {
    const size_t length = (info.end - info.begin) / sizeof(int32_t);
    if (info.dtype != "I32" || info.shape.size() != 1 || length > 60) {
      fail<WeightError>("[prompt cache] {}: {}: expected the name of a kind of cache, found another array", where_,
                        info.name);
    }
    std::vector<int32_t> codes(length);
    std::memcpy(codes.data(), file_->bytes().data() + info.begin, length * sizeof(int32_t));
    std::string text;
    for (int32_t code : codes) text += code > 31 && code < 127 ? char(code) : '?';
    return text;
  }

  // Caches of states do not say how many tokens they have seen: the others do, or, where there are none, a number that
  // was saved beside the caller's metadata.
  void place_states(PromptCache& result) const {
    int offset = 0;
    for (const auto& cache : result.caches) offset = std::max(offset, cache->offset());
    const auto own = result.metadata.extract(kTokens);
    if (offset == 0 && own) offset = std::max(0, whole_number(own.mapped()).value_or(0));
    for (auto& cache : result.caches) cache->assume_offset(offset);
  }

  // Of a file where the numbers were texts in the metadata: an offset that is the rows', of a full ring and a quantized
  // cache one of its own, in another order than now.
  void add_old_numbers(cache::SavedCache& saved, size_t layer) const {
    const auto number = [&](int i) {
      const auto key = fmt::format("0.{}.{}", layer, i);
      const auto found = metadata_.find(key);
      const auto value = found == metadata_.end() ? std::nullopt : whole_number(found->second);
      if (!value) {
        fail<WeightError>("[prompt cache] {}: layer {}: expected a whole number as '{}', found {}", where_, layer, key,
                          found == metadata_.end() ? "nothing" : "'" + found->second.substr(0, 60) + "'");
      }
      return *value;
    };
    if (!saved.numbers.empty()) {
      fail<WeightError>("[prompt cache] {}: layer {}: expected no numbers among its arrays", where_, layer);
    }
    if (saved.kind == "KVCache") {
      const auto keys = saved.arrays.find("0");
      if (keys != saved.arrays.end() && keys->second.ndim() == 4) saved.numbers = {{"2", keys->second.shape(2)}};
    } else if (saved.kind == "QuantizedKVCache") {
      saved.numbers = {{"2", number(0)}, {"3", number(1)}, {"4", number(2)}};
    } else if (saved.kind == "RotatingKVCache") {
      saved.numbers = {{"2", number(2)}, {"3", number(0)}, {"4", number(1)}, {"5", number(3)}};
    }
  }

  std::string where_;
  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::string> types_;  // of arrays that are none, by name
};

}  // namespace

void save_prompt_cache(const fs::path& file, const cache::KVCaches& caches, const PromptCacheMetadata& metadata) {
  nlohmann::ordered_json strings;
  for (const auto& [key, value] : metadata) {
    if (key.empty() || key.find('.') != key.npos) {
      fail<RequestError>("[prompt cache] metadata: expected a key without a dot, found '{}'", key);
    }
    strings["0." + key] = value;
  }
  strings["2.0"] = "";
  std::vector<Named> arrays;
  int others = 0;
  bool any_number = false;
  for (size_t i = 0; i < caches.size(); ++i) {
    const auto saved = cache::saved(*caches[i]);
    strings[fmt::format("1.{}", i)] = saved.kind;
    for (const auto& [place, array] : saved.arrays) {
      arrays.push_back({fmt::format("{}.{}", i, place), mx::contiguous(array)});
    }
    const auto put = [&](const std::string& place, mx::array array, const char* type) {
      const auto name = fmt::format("{}.{}", i, place);
      arrays.push_back({name, std::move(array)});
      others += 1;
      strings[fmt::format("2.{}.0", others)] = name;
      strings[fmt::format("2.{}.1", others)] = type;
    };
    for (const auto& [place, number] : saved.numbers) put(place, mx::array(number), "scalar");
    for (const auto& [place, text] : saved.texts) {
      const std::vector<int> codes(text.begin(), text.end());
      put(place, mx::array(codes.data(), {int(codes.size())}, mx::int32), "string");
    }
    for (const auto& place : saved.nothing) put(place, mx::zeros(mx::Shape{0}), "none");
    any_number |= !saved.numbers.empty();
  }
  if (arrays.empty()) fail<RequestError>("[prompt cache] expected the caches of a model, found none");
  if (!any_number) strings["0." + kTokens] = std::to_string(caches[0]->offset());
  // By size of their numbers, so that all are aligned without gaps, which the format does not allow.
  std::ranges::stable_sort(arrays, std::greater(), [](const Named& n) { return n.array.itemsize(); });
  std::vector<mx::array> all;
  for (const auto& named : arrays) all.push_back(named.array);
  mx::eval(std::move(all));
  write_file(file, header_of(arrays, strings), arrays);
}

PromptCache load_prompt_cache(const fs::path& file) { return Reader(file).read(); }

namespace {

void check_cache(const cache::Cache& wanted, const cache::Cache& found, const std::string& where);

void check_rows(const cache::KVCache& wanted, const cache::KVCache& found, const std::string& where) {
  const auto shape = [](const cache::KVCache& cache) {
    return fmt::format("{} text of {} heads of {} and {}", cache.keys()->data.shape(0), cache.keys()->data.shape(1),
                       cache.keys()->dim(), cache.values()->dim());
  };
  if (shape(wanted) != shape(found)) {
    fail<WeightError>("[prompt cache] {}: expected {}, as this model has, found {}", where, shape(wanted),
                      shape(found));
  }
  // A layer that slides sees what its ring holds, so that has to be its window.
  const auto* ring = dynamic_cast<const cache::RotatingKVCache*>(&wanted);
  const auto* other = dynamic_cast<const cache::RotatingKVCache*>(&found);
  if (ring && (!other || other->max_size() != ring->max_size() || other->keep() != ring->keep())) {
    fail<WeightError>("[prompt cache] {}: expected a RotatingKVCache of {} tokens, found another", where,
                      ring->max_size());
  }
  const auto* chunk = dynamic_cast<const cache::ChunkedKVCache*>(&wanted);
  const auto* same = dynamic_cast<const cache::ChunkedKVCache*>(&found);
  if (bool(chunk) != bool(same) || (chunk && chunk->chunk_size() != same->chunk_size())) {
    fail<WeightError>(
        "[prompt cache] {}: expected {}, found another", where,
        chunk ? fmt::format("a ChunkedKVCache of {} tokens", chunk->chunk_size()) : "a cache that is not in chunks");
  }
}

void check_states(const cache::StateCache& wanted, const cache::StateCache& found, const std::string& where) {
  const auto shapes = [](const cache::StateCache& cache) {
    std::string all;
    for (const auto& state : cache.states()) {
      all += state ? fmt::format("({})", fmt::join(state->shape(), ", ")) : "nothing";
    }
    return all;
  };
  if (shapes(wanted) != shapes(found)) {
    fail<WeightError>("[prompt cache] {}: expected states of {}, as this model has, found {}", where, shapes(wanted),
                      shapes(found).substr(0, 200));
  }
}

// wanted: of one token.
void check_cache(const cache::Cache& wanted, const cache::Cache& found, const std::string& where) {
  const auto both = [&]<class C>(auto check) {
    const auto *a = dynamic_cast<const C*>(&wanted), *b = dynamic_cast<const C*>(&found);
    if (a && b) check(*a, *b);
    return a && b;
  };
  const bool same_kind = both.operator()<cache::KVCache>([&](const auto& a, const auto& b) {
    if (a.keys() && b.keys()) check_rows(a, b, where);
  }) || both.operator()<cache::StateCache>([&](const auto& a, const auto& b) {
    check_states(a, b, where);
  }) || both.operator()<cache::CacheList>([&](const auto& a, const auto& b) {
    if (a.caches().size() != b.caches().size()) {
      fail<WeightError>("[prompt cache] {}: expected {} caches, found {}", where, a.caches().size(), b.caches().size());
    }
    for (size_t i = 0; i < a.caches().size(); ++i) {
      check_cache(*a.caches()[i], *b.caches()[i], fmt::format("{}: cache {}", where, i));
    }
  });
  if (!same_kind) {
    fail<WeightError>("[prompt cache] {}: expected this model's kind of cache, found another", where);
  }
}

}  // namespace

void check_prompt_cache(const cache::KVCaches& caches, const models::LanguageModel& model, const std::string& where) {
  auto own = model.make_cache();
  if (caches.size() != own.size()) {
    fail<WeightError>("[prompt cache] {}: expected the {} layers of this model, found {}", where, own.size(),
                      caches.size());
  }
  // What one token would leave behind, by its shapes; nothing is computed.
  const int token = 0;
  model(mx::array(&token, {1, 1}, mx::int32), own);
  for (size_t i = 0; i < own.size(); ++i) check_cache(*own[i], *caches[i], fmt::format("{}: layer {}", where, i));
}

}  // namespace mlx_lm
