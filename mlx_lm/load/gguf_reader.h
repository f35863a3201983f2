// A bounds-checked reader of GGUF files (versions 2 and 3): metadata and the places of the tensors.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/base/mapped_file.h"

namespace mlx_lm {

// The tensor types that are converted here; the numbers are the file's.
enum class GgufType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  bf16 = 30,
};

// How a tensor type stores its numbers.
struct GgufTypeInfo {
  GgufType type;
  std::string_view name;  // "Q4_K"
  int block;              // numbers in a block
  int bytes;              // of a block
};

// A tensor's place. Everything in it has been checked against the file.
struct GgufTensor {
  std::string_view name;
  const GgufTypeInfo* type;
  std::vector<int32_t> shape;  // outermost first, as MLX has it (the file stores the reverse); 1 to 4 dimensions
  size_t offset;               // from the start of the file
  size_t bytes;
};

// An open GGUF file. Strings and arrays are views into the mapping, so they live as long as this object.
// Errors: WeightError "[gguf] <file>: ..." for anything in the file that is not as it must be.
// Threads: safe to use from several.
class GgufFile {
 public:
  static std::shared_ptr<const GgufFile> open(const std::filesystem::path& path);

  // Metadata by key: nullopt if the key is absent. Errors: WeightError if it is there with another type.
  bool has(std::string_view key) const { return metadata_.contains(key); }
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<int64_t> find_int(std::string_view key) const;   // of any width
  std::optional<double> find_float(std::string_view key) const;  // of any width, or an integer
  std::optional<std::string_view> find_string(std::string_view key) const;
  // Arrays; an array of the wrong element type is an error, a lone number counts as an array of one.
  std::optional<std::vector<int64_t>> find_ints(std::string_view key) const;
  std::optional<std::vector<float>> find_floats(std::string_view key) const;
  std::optional<std::vector<std::string_view>> find_strings(std::string_view key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;

  const std::shared_ptr<const MappedFile>& mapping() const { return mapping_; }
  std::string where() const { return mapping_->path().string(); }

 private:
  enum class Kind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
  struct Value {
    Kind kind;  // of the value, or of an array's elements
    bool is_array;
    uint64_t count;         // elements; 1 for a lone value
    const std::byte* data;  // the first element
  };
  class Parser;

  GgufFile() = default;
  const Value* find(std::string_view key) const;
  [[noreturn]] void wrong(std::string_view key, const char* expected) const;
  static std::optional<int64_t> as_int(Kind kind, const std::byte* data);
  static std::optional<double> as_float(Kind kind, const std::byte* data);

  std::shared_ptr<const MappedFile> mapping_;
  std::map<std::string_view, Value> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, size_t> tensor_index_;
};

// A name from a file as an error may show it: printable, and cut to a sensible length.
std::string shown(std::string_view text);

}  // namespace mlx_lm
