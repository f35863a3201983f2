// Writes GGUF files, also ones that lie: every count, offset, type and dimension can be set to anything.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

class GgufWriter {
 public:
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dimensions;  // innermost first, as the file has them
    uint32_t type = 0;
    std::string data;
    std::optional<uint64_t> offset;  // from the start of the data; absent: after the tensor before
    std::optional<uint32_t> dimension_count;
  };

  uint32_t magic = 0x46554747, version = 3;
  std::optional<uint64_t> tensor_count, key_count;
  uint64_t alignment = 32;
  std::vector<Tensor> tensors;

  template <class T>
  static std::string raw(T value) {
    std::string out(sizeof value, '\0');
    std::memcpy(out.data(), &value, sizeof value);
    return out;
  }
  static std::string text(std::string_view value) { return raw(uint64_t(value.size())).append(value); }

  // A pair with its value's type and bytes as given.
  GgufWriter& add_raw(std::string_view key, uint32_t type, const std::string& value) {
    metadata_ += text(key) + raw(type) + value;
    ++keys_;
    return *this;
  }
  GgufWriter& add(std::string_view key, std::string_view value) { return add_raw(key, 8, text(value)); }
  GgufWriter& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  GgufWriter& add(std::string_view key, uint32_t value) { return add_raw(key, 4, raw(value)); }
  GgufWriter& add(std::string_view key, float value) { return add_raw(key, 6, raw(value)); }
  GgufWriter& add(std::string_view key, bool value) { return add_raw(key, 7, raw(uint8_t(value))); }
  GgufWriter& add(std::string_view key, const std::vector<std::string>& values) {
    std::string all;
    for (const auto& value : values) all += text(value);
    return add_raw(key, 9, raw(uint32_t(8)) + raw(uint64_t(values.size())) + all);
  }
  template <class T>
  GgufWriter& add_array(std::string_view key, uint32_t type, const std::vector<T>& values) {
    std::string all;
    for (T value : values) all += raw(value);
    return add_raw(key, 9, raw(type) + raw(uint64_t(values.size())) + all);
  }

  GgufWriter& add_f32(std::string_view name, const std::vector<uint64_t>& dimensions,
                      const std::vector<float>& values) {
    std::string data(values.size() * sizeof(float), '\0');
    std::memcpy(data.data(), values.data(), data.size());
    tensors.push_back({std::string(name), dimensions, 0, data, {}, {}});
    return *this;
  }

  // Everything before the tensors' data.
  std::string header() const {
    std::string out =
        raw(magic) + raw(version) + raw(tensor_count.value_or(tensors.size())) + raw(key_count.value_or(keys_));
    out += metadata_;
    uint64_t next = 0;
    for (const auto& t : tensors) {
      out += text(t.name) + raw(t.dimension_count.value_or(uint32_t(t.dimensions.size())));
      for (uint64_t n : t.dimensions) out += raw(n);
      out += raw(t.type) + raw(t.offset.value_or(next));
      next = aligned(next + t.data.size());
    }
    return out;
  }

  std::string build() const {
    std::string out = header();
    for (const auto& t : tensors) {
      out.resize(aligned(out.size()));
      out += t.data;
    }
    return out;
  }

 private:
  uint64_t aligned(uint64_t n) const { return (n + alignment - 1) / alignment * alignment; }

  std::string metadata_;
  uint64_t keys_ = 0;
};
