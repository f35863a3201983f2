#include "mlx_lm/load/gguf_tensors.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>

#include "mlx_lm/base/thread_pool.h"
#include "mlx_lm/load/gguf_blocks.h"
#include "mlx_lm/load/gguf_names.h"
#include "mlx_lm/load/mapped_array.h"

namespace mlx_lm {
namespace {

namespace mx = mlx::core;
using Tensors = std::map<std::string, nn::StoredTensor>;

// Runs work(begin, end) over [0, rows), on several threads when there is enough to do.
template <class Work>
void split_rows(size_t rows, size_t bytes, const Work& work) {
  constexpr size_t kPiece = 64 << 10;  // bytes: about 30 us
  const int pieces = int(std::max<size_t>(1, std::min({bytes / kPiece, rows, size_t{1024}})));
  ThreadPool::global().run(pieces, [&](int i) { work(rows * i / pieces, rows * (i + 1) / pieces); });
}

// The order of a tensor's rows: as in the file, or with each head's interleaved halves taken apart.
struct RowOrder {
  size_t head_rows = 0;  // 0: as in the file

  size_t source(size_t row) const {
    if (head_rows == 0) return row;
    size_t in_head = row % head_rows, half = head_rows / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
  }
};

// One quantized tensor: converts itself when the first of its three arrays is asked for, or hands over its rows.
class AffineTensor : public std::enable_shared_from_this<AffineTensor> {
 public:
  enum Part { weight, scales, biases };

  AffineTensor(std::shared_ptr<const GgufFile> file, const GgufTensor& tensor, RowOrder order)
      : file_(std::move(file)), tensor_(tensor), order_(order), form_(*gguf_affine(tensor.type->type)) {}

  mx::Shape shape(Part part) const {
    mx::Shape shape(tensor_.shape.begin(), tensor_.shape.end());
    int64_t cols = tensor_.shape.back();
    shape.back() = int(part == weight ? cols * form_.bits / 32 : cols / kGgufGroup);
    return shape;
  }

  mx::Dtype dtype(Part part) const {
    if (part == weight) return mx::uint32;
    return form_.wide_scales ? mx::float32 : mx::float16;
  }

  mx::array read(Part part) {
    std::lock_guard lock(mutex_);
    if (!parts_[part] && !convert(form_.wide_scales)) convert(true);
    mx::array out = *parts_[part];
    parts_[part].reset();
    return out;
  }

  kernels::RowSource rows() {
    const int cols = tensor_.shape.back();
    const size_t blocks = size_t(cols / tensor_.type->block), in_row = blocks * size_t(tensor_.type->bytes);
    // The file's pages are given back when the last copy of the function is gone.
    auto pages = std::shared_ptr<const std::byte>(
        file_->mapping()->bytes().data() + tensor_.offset, [self = shared_from_this()](auto*) {
          self->file_->mapping()->release(self->tensor_.offset, self->tensor_.bytes);
        });
    return {.rows = int(tensor_.bytes / in_row),
            .cols = cols,
            .bits = form_.bits,
            .type = form_.wide_scales ? kernels::Type::f32 : kernels::Type::f16,
            .read = [pages = std::move(pages), type = tensor_.type->type, order = order_, blocks, in_row](
                        int row, kernels::Type scale_type, uint8_t* codes, void* scales, void* biases) {
              return read_gguf_blocks(type, pages.get() + order.source(size_t(row)) * in_row, blocks,
                                      scale_type == kernels::Type::f32, reinterpret_cast<std::byte*>(codes),
                                      static_cast<std::byte*>(scales), static_cast<std::byte*>(biases));
            }};
  }

 private:
  bool convert(bool wide) {
    mx::Dtype scale_type = wide ? mx::float32 : mx::float16;
    auto codes = new_array(shape(weight), mx::uint32);
    auto scale = new_array(shape(scales), scale_type);
    auto bias = new_array(shape(biases), scale_type);
    const auto& type = *tensor_.type;
    size_t cols = size_t(tensor_.shape.back()), blocks = cols / size_t(type.block),
           rows = tensor_.bytes / (blocks * size_t(type.bytes));
    size_t in_row = blocks * size_t(type.bytes), code_row = cols * size_t(form_.bits) / 8;
    size_t scale_row = cols / kGgufGroup * scale_type.size();
    const std::byte* in = file_->mapping()->bytes().data() + tensor_.offset;
    auto at = [](void* data, size_t offset) { return static_cast<std::byte*>(data) + offset; };
    std::atomic<bool> fits = true;
    split_rows(rows, tensor_.bytes, [&](size_t begin, size_t end) {
      bool all = true;
      for (size_t row = begin; row < end; ++row) {
        all &= convert_gguf_blocks(type, in + order_.source(row) * in_row, blocks, wide, at(codes.data, row * code_row),
                                   at(scale.data, row * scale_row), at(bias.data, row * scale_row));
      }
      if (!all) fits = false;
    });
    if (!fits) return false;
    file_->mapping()->release(tensor_.offset, tensor_.bytes);
    parts_[weight] = std::move(codes.array);
    parts_[scales] = std::move(scale.array);
    parts_[biases] = std::move(bias.array);
    return true;
  }

  std::shared_ptr<const GgufFile> file_;
  const GgufTensor& tensor_;
  RowOrder order_;
  GgufAffine form_;
  std::mutex mutex_;
  std::optional<mx::array> parts_[3];
};

std::optional<mx::Dtype> plain_dtype(GgufType type) {
  switch (type) {
    case GgufType::f32:
      return mx::float32;
    case GgufType::f16:
      return mx::float16;
    case GgufType::bf16:
      return mx::bfloat16;
    default:
      return std::nullopt;
  }
}

class Lister {
 public:
  explicit Lister(std::shared_ptr<const GgufFile> file)
      : file_(std::move(file)), architecture_(gguf_architecture(*file_)) {}

  Tensors list() {
    for (const auto& tensor : file_->tensors()) {
      if (tensor.name == kGgufRopeFactors) continue;
      std::string name = checkpoint_name(architecture_, tensor.name);
      RowOrder order = row_order(tensor, name);
      if (auto dtype = plain_dtype(tensor.type->type)) {
        add_plain(tensor, name, order, *dtype);
      } else if (gguf_affine(tensor.type->type)) {
        add_affine(tensor, name, order);
      } else {
        fail<UnsupportedModel>(
            "[gguf] {}: {}: expected F32, F16, BF16, Q2_K to Q6_K, Q4_0 to Q8_0, IQ4_NL or IQ4_XS, found {}",
            file_->where(), shown(tensor.name), tensor.type->name);
      }
    }
    return std::move(out_);
  }

 private:
  void add(const std::string& name, nn::StoredTensor tensor) {
    if (!out_.emplace(name, std::move(tensor)).second) {
      fail<WeightError>("[gguf] {}: {}: two tensors have this name in a checkpoint", file_->where(), shown(name));
    }
  }

  RowOrder row_order(const GgufTensor& tensor, std::string_view name) const {
    if (!architecture_.interleaved_rope || !name.starts_with("model.layers.")) return {};
    bool q = name.find(".self_attn.q_proj.") != name.npos, k = name.find(".self_attn.k_proj.") != name.npos;
    if (!q && !k) return {};
    std::string prefix(architecture_.name), key = prefix + ".attention.head_count";
    auto heads = file_->find_int(key);
    if (k && file_->has(key + "_kv")) heads = file_->find_int(key + "_kv");
    // The rows of a bias are its numbers.
    int64_t rows = tensor.shape.size() == 1 ? tensor.shape[0] : tensor.shape[tensor.shape.size() - 2];
    if (!heads || *heads < 1 || *heads > rows || rows % (2 * *heads) != 0) {
      fail<WeightError>("[gguf] {}: {}: expected rows for {} heads of an even size, found {}", file_->where(),
                        shown(tensor.name), heads.value_or(0), rows);
    }
    return {size_t(rows / *heads)};
  }

  void add_affine(const GgufTensor& tensor, const std::string& name, RowOrder order) {
    if (tensor.shape.size() == 1) order = {};  // one row; reordering its numbers would need the blocks taken apart
    auto shared = std::make_shared<AffineTensor>(file_, tensor, order);
    std::string stem = name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name;
    auto part = [&](AffineTensor::Part part) {
      return nn::StoredTensor{
          shared->shape(part), shared->dtype(part), [shared, part] { return shared->read(part); }, {}};
    };
    auto weight = part(AffineTensor::weight);
    if (weight.shape.size() == 2) weight.rows = [shared] { return shared->rows(); };
    add(name, std::move(weight));
    add(stem + ".scales", part(AffineTensor::scales));
    add(stem + ".biases", part(AffineTensor::biases));
  }

  void add_plain(const GgufTensor& tensor, const std::string& name, RowOrder order, mx::Dtype dtype) {
    mx::Shape shape(tensor.shape.begin(), tensor.shape.end());
    bool is_norm = architecture_.norm_plus_one && name.ends_with("norm.weight") && dtype == mx::float32;
    std::function<mx::array()> read;
    if (is_norm) {
      read = [file = file_, &tensor, shape] {
        auto [array, memory] = new_array(shape, mx::float32);
        auto* out = static_cast<float*>(memory);
        std::memcpy(out, file->mapping()->bytes().data() + tensor.offset, tensor.bytes);
        for (size_t i = 0; i < tensor.bytes / sizeof(float); ++i) out[i] -= 1;
        return array;
      };
    } else if (order.head_rows != 0) {
      read = [file = file_, &tensor, shape, dtype, order] {
        auto [array, memory] = new_array(shape, dtype);
        size_t row_bytes = (shape.size() == 1 ? 1 : size_t(shape.back())) * dtype.size(),
               rows = tensor.bytes / row_bytes;
        const std::byte* in = file->mapping()->bytes().data() + tensor.offset;
        auto* out = static_cast<std::byte*>(memory);
        for (size_t row = 0; row < rows; ++row)
          std::memcpy(out + row * row_bytes, in + order.source(row) * row_bytes, row_bytes);
        file->mapping()->release(tensor.offset, tensor.bytes);
        return array;
      };
    } else {
      read = [file = file_, &tensor, shape, dtype] {
        return mapped_array(file->mapping(), tensor.offset, shape, dtype);
      };
    }
    add(name, {std::move(shape), dtype, std::move(read)});
  }

  std::shared_ptr<const GgufFile> file_;
  const GgufArchitecture& architecture_;
  Tensors out_;
};

}  // namespace

std::map<std::string, nn::StoredTensor> gguf_tensors(std::shared_ptr<const GgufFile> file) {
  return Lister(std::move(file)).list();
}

}  // namespace mlx_lm
