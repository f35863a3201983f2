#include "mlx_lm/load/gguf_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace mlx_lm {
namespace {

// Every type that a file may name, so that an unsupported one is reported by its name and not as damage.
constexpr GgufTypeInfo kTypes[] = {
    {GgufType::f32, "F32", 1, 4},           {GgufType::f16, "F16", 1, 2},       {GgufType::q4_0, "Q4_0", 32, 18},
    {GgufType::q4_1, "Q4_1", 32, 20},       {GgufType::q5_0, "Q5_0", 32, 22},   {GgufType::q5_1, "Q5_1", 32, 24},
    {GgufType::q8_0, "Q8_0", 32, 34},       {GgufType(9), "Q8_1", 32, 36},      {GgufType::q2_k, "Q2_K", 256, 84},
    {GgufType::q3_k, "Q3_K", 256, 110},     {GgufType::q4_k, "Q4_K", 256, 144}, {GgufType::q5_k, "Q5_K", 256, 176},
    {GgufType::q6_k, "Q6_K", 256, 210},     {GgufType(15), "Q8_K", 256, 292},   {GgufType(16), "IQ2_XXS", 256, 66},
    {GgufType(17), "IQ2_XS", 256, 74},      {GgufType(18), "IQ3_XXS", 256, 98}, {GgufType(19), "IQ1_S", 256, 50},
    {GgufType::iq4_nl, "IQ4_NL", 32, 18},   {GgufType(21), "IQ3_S", 256, 110},  {GgufType(22), "IQ2_S", 256, 82},
    {GgufType::iq4_xs, "IQ4_XS", 256, 136}, {GgufType::i8, "I8", 1, 1},         {GgufType::i16, "I16", 1, 2},
    {GgufType::i32, "I32", 1, 4},           {GgufType::i64, "I64", 1, 8},       {GgufType::f64, "F64", 1, 8},
    {GgufType(29), "IQ1_M", 256, 56},       {GgufType::bf16, "BF16", 1, 2},     {GgufType(34), "TQ1_0", 256, 54},
    {GgufType(35), "TQ2_0", 256, 66},       {GgufType(39), "MXFP4", 32, 17},    {GgufType(40), "NVFP4", 64, 36},
};

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxKey = 65535;  // the format's own limit
constexpr int kMaxDepth = 4;         // of arrays in arrays; none is known to use more than 2

template <class T>
T load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

// Where the bytes that follow a place in a file are read: what walks over validated strings again.
std::string_view string_at(const std::byte*& data) {
  auto size = size_t(load<uint64_t>(data));
  std::string_view text(reinterpret_cast<const char*>(data) + sizeof(uint64_t), size);
  data += sizeof(uint64_t) + size;
  return text;
}

}  // namespace

std::string shown(std::string_view text) {
  constexpr size_t kMost = 64;
  std::string out(text.substr(0, kMost));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return text.size() > kMost ? out + "..." : out;
}

// Reads front to back; `at_` never passes the end of the file, and nothing is allocated on the word of a count that
// the remaining bytes could not hold.
class GgufFile::Parser {
 public:
  explicit Parser(GgufFile& file) : file_(file), bytes_(file.mapping_->bytes()) {}

  void parse() {
    if (read<uint32_t>("the magic") != kMagic) damaged("expected a GGUF file, found another kind");
    auto version = read<uint32_t>("the version");
    if (version != 2 && version != 3) {
      bool swapped = (version & 0xffff) == 0 && version != 0;
      damaged("version: expected 2 or 3, found {}{}", version, swapped ? " (a big-endian file?)" : "");
    }
    auto tensors = read<uint64_t>("the tensor count");
    auto keys = read<uint64_t>("the metadata count");
    // The least that an entry takes: key size, one byte, type, value; name size, one byte, dimensions, type, offset.
    check_count(keys, 8 + 1 + 4 + 1, "metadata count");
    for (uint64_t i = 0; i < keys; ++i) parse_pair();
    check_count(tensors, 8 + 1 + 4 + 8 + 4 + 8, "tensor count");
    parse_tensors(tensors);
  }

  // Bytes of a fixed-size value; 0 for strings and arrays.
  static uint64_t kind_size(Kind kind) {
    switch (kind) {
      case Kind::u8:
      case Kind::i8:
      case Kind::boolean:
        return 1;
      case Kind::u16:
      case Kind::i16:
        return 2;
      case Kind::u32:
      case Kind::i32:
      case Kind::f32:
        return 4;
      case Kind::u64:
      case Kind::i64:
      case Kind::f64:
        return 8;
      default:
        return 0;
    }
  }

 private:
  template <class... Args>
  [[noreturn]] void damaged(fmt::format_string<Args...> text, Args&&... args) const {
    fail<WeightError>("[gguf] {}: {}", file_.where(), fmt::format(text, std::forward<Args>(args)...));
  }

  uint64_t left() const { return bytes_.size() - at_; }

  const std::byte* take(uint64_t size, const char* what) {
    if (size > left()) damaged("{}: expected {} more bytes at byte {}, found the end of the file", what, size, at_);
    const std::byte* data = bytes_.data() + at_;
    at_ += size_t(size);
    return data;
  }

  template <class T>
  T read(const char* what) {
    return load<T>(take(sizeof(T), what));
  }

  std::string_view read_string(const char* what) {
    auto size = read<uint64_t>(what);
    return {reinterpret_cast<const char*>(take(size, what)), size_t(size)};
  }

  void check_count(uint64_t count, uint64_t least, const char* what) const {
    if (count > left() / least) damaged("{}: {} cannot fit into the {} bytes that follow", what, count, left());
  }

  Kind read_kind(std::string_view key) {
    auto kind = read<uint32_t>("a value's type");
    if (kind > uint32_t(Kind::f64)) damaged("{}: expected a value type below 13, found {}", shown(key), kind);
    return Kind(kind);
  }

  void skip_values(Kind kind, uint64_t count, std::string_view key, int depth) {
    if (uint64_t size = kind_size(kind)) {
      check_count(count, size, "array length");
      const std::byte* data = take(count * size, "a value");
      if (kind != Kind::boolean) return;
      for (uint64_t i = 0; i < count; ++i) {
        if (data[i] > std::byte(1)) damaged("{}: expected a boolean of 0 or 1, found {}", shown(key), int(data[i]));
      }
    } else if (kind == Kind::string) {
      check_count(count, sizeof(uint64_t), "array length");
      for (uint64_t i = 0; i < count; ++i) read_string("a string");
    } else {
      if (depth == kMaxDepth) damaged("{}: arrays are nested deeper than {}", shown(key), kMaxDepth);
      check_count(count, sizeof(uint32_t) + sizeof(uint64_t), "array length");
      for (uint64_t i = 0; i < count; ++i) {
        Kind inner = read_kind(key);
        skip_values(inner, read<uint64_t>("an array's length"), key, depth + 1);
      }
    }
  }

  void parse_pair() {
    std::string_view key = read_string("a metadata key");
    if (key.empty() || key.size() > kMaxKey)
      damaged("metadata key: expected 1 to {} bytes, found {}", kMaxKey, key.size());
    Value value{read_kind(key), false, 1, nullptr};
    if (value.kind == Kind::array) {
      value = {read_kind(key), true, read<uint64_t>("an array's length"), nullptr};
    }
    value.data = bytes_.data() + at_;
    skip_values(value.kind, value.count, key, 1);
    if (!file_.metadata_.emplace(key, value).second) damaged("{}: the key appears twice", shown(key));
  }

  GgufTensor parse_tensor() {
    GgufTensor tensor;
    tensor.name = read_string("a tensor's name");
    std::string name = shown(tensor.name);
    if (tensor.name.empty() || tensor.name.size() > kMaxKey) {
      damaged("tensor name: expected 1 to {} bytes, found {}", kMaxKey, tensor.name.size());
    }
    auto dimensions = read<uint32_t>("a tensor's dimensions");
    if (dimensions < 1 || dimensions > kMaxDimensions) {
      damaged("{}: expected 1 to {} dimensions, found {}", name, kMaxDimensions, dimensions);
    }
    uint64_t numbers = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      auto n = read<uint64_t>("a tensor's shape");
      if (n < 1 || n > uint64_t(std::numeric_limits<int32_t>::max())) {
        damaged("{}: expected dimensions of 1 to 2^31 - 1, found {}", name, n);
      }
      if (__builtin_mul_overflow(numbers, n, &numbers)) damaged("{}: the product of the dimensions overflows", name);
      tensor.shape.insert(tensor.shape.begin(), int32_t(n));
    }
    auto type = read<uint32_t>("a tensor's type");
    auto known = std::ranges::find(kTypes, GgufType(type), &GgufTypeInfo::type);
    if (known == std::end(kTypes)) damaged("{}: unknown tensor type {}", name, type);
    tensor.type = &*known;
    if (tensor.shape.back() % known->block != 0) {
      damaged("{}: expected rows of a multiple of {} for {}, found {}", name, known->block, known->name,
              tensor.shape.back());
    }
    uint64_t size;
    if (__builtin_mul_overflow(numbers / known->block, uint64_t(known->bytes), &size)) {
      damaged("{}: the size overflows", name);
    }
    tensor.offset = size_t(read<uint64_t>("a tensor's offset"));
    tensor.bytes = size_t(size);
    return tensor;
  }

  uint64_t alignment() const {
    auto value = file_.find_int("general.alignment").value_or(32);
    // Below 8 a tensor of 64-bit numbers could not be mapped in place; the format asks for a multiple of 8 too.
    if (value < 8 || value > 65536 || !std::has_single_bit(uint64_t(value))) {
      damaged("general.alignment: expected a power of two from 8 to 65536, found {}", value);
    }
    return uint64_t(value);
  }

  void parse_tensors(uint64_t count) {
    auto& tensors = file_.tensors_;
    tensors.reserve(size_t(count));
    for (uint64_t i = 0; i < count; ++i) {
      tensors.push_back(parse_tensor());
      if (!file_.tensor_index_.emplace(tensors.back().name, tensors.size() - 1).second) {
        damaged("{}: the tensor appears twice", shown(tensors.back().name));
      }
    }
    uint64_t align = alignment();
    uint64_t start = (at_ + align - 1) / align * align;
    std::vector<const GgufTensor*> by_offset;
    by_offset.reserve(tensors.size());
    for (auto& tensor : tensors) {
      uint64_t offset = tensor.offset;
      if (offset % align != 0) {
        damaged("{}: expected an offset that is a multiple of {}, found {}", shown(tensor.name), align, offset);
      }
      uint64_t room = start < bytes_.size() ? bytes_.size() - start : 0;
      if (offset > room || tensor.bytes > room - offset) {
        damaged("{}: expected {} bytes at offset {}, found the end of the file", shown(tensor.name), tensor.bytes,
                offset);
      }
      tensor.offset = size_t(start + offset);
      by_offset.push_back(&tensor);
    }
    std::ranges::sort(by_offset, {}, &GgufTensor::offset);
    for (size_t i = 1; i < by_offset.size(); ++i) {
      const auto &a = *by_offset[i - 1], &b = *by_offset[i];
      if (a.offset + a.bytes > b.offset) damaged("{} and {} overlap", shown(a.name), shown(b.name));
    }
  }

  GgufFile& file_;
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

std::shared_ptr<const GgufFile> GgufFile::open(const std::filesystem::path& path) {
  static_assert(std::endian::native == std::endian::little, "GGUF files are read in place");
  std::shared_ptr<GgufFile> file(new GgufFile);
  file->mapping_ = MappedFile::open(path);
  Parser(*file).parse();
  return file;
}

const GgufFile::Value* GgufFile::find(std::string_view key) const {
  auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

void GgufFile::wrong(std::string_view key, const char* expected) const {
  fail<WeightError>("[gguf] {}: {}: expected {}, found another type", where(), shown(key), expected);
}

std::optional<int64_t> GgufFile::as_int(Kind kind, const std::byte* data) {
  switch (kind) {
    case Kind::u8:
      return load<uint8_t>(data);
    case Kind::i8:
      return load<int8_t>(data);
    case Kind::u16:
      return load<uint16_t>(data);
    case Kind::i16:
      return load<int16_t>(data);
    case Kind::u32:
      return load<uint32_t>(data);
    case Kind::i32:
      return load<int32_t>(data);
    case Kind::i64:
      return load<int64_t>(data);
    case Kind::u64: {
      auto value = load<uint64_t>(data);
      return value > uint64_t(std::numeric_limits<int64_t>::max()) ? std::nullopt : std::optional(int64_t(value));
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> GgufFile::as_float(Kind kind, const std::byte* data) {
  if (kind == Kind::f32) return load<float>(data);
  if (kind == Kind::f64) return load<double>(data);
  if (auto whole = as_int(kind, data)) return double(*whole);
  return std::nullopt;
}

std::optional<bool> GgufFile::find_bool(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (value->kind != Kind::boolean || value->is_array) wrong(key, "a boolean");
  return *value->data != std::byte(0);
}

std::optional<int64_t> GgufFile::find_int(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  auto number = value->is_array ? std::nullopt : as_int(value->kind, value->data);
  if (!number) wrong(key, "a whole number below 2^63");
  return number;
}

std::optional<double> GgufFile::find_float(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  auto number = value->is_array ? std::nullopt : as_float(value->kind, value->data);
  if (!number) wrong(key, "a number");
  return number;
}

std::optional<std::string_view> GgufFile::find_string(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (value->kind != Kind::string || value->is_array) wrong(key, "a string");
  const std::byte* data = value->data;
  return string_at(data);
}

std::optional<std::vector<int64_t>> GgufFile::find_ints(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  uint64_t step = Parser::kind_size(value->kind);
  if (step == 0) wrong(key, "whole numbers");
  std::vector<int64_t> out;
  out.reserve(size_t(value->count));
  for (uint64_t i = 0; i < value->count; ++i) {
    auto number = as_int(value->kind, value->data + i * step);
    if (!number) wrong(key, "whole numbers below 2^63");
    out.push_back(*number);
  }
  return out;
}

std::optional<std::vector<float>> GgufFile::find_floats(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  uint64_t step = Parser::kind_size(value->kind);
  if (step == 0) wrong(key, "numbers");
  std::vector<float> out;
  out.reserve(size_t(value->count));
  for (uint64_t i = 0; i < value->count; ++i) {
    auto number = as_float(value->kind, value->data + i * step);
    if (!number) wrong(key, "numbers");
    out.push_back(float(*number));
  }
  return out;
}

std::optional<std::vector<std::string_view>> GgufFile::find_strings(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (value->kind != Kind::string || !value->is_array) wrong(key, "an array of strings");
  std::vector<std::string_view> out;
  out.reserve(size_t(value->count));
  const std::byte* data = value->data;
  for (uint64_t i = 0; i < value->count; ++i) out.push_back(string_at(data));
  return out;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace mlx_lm
