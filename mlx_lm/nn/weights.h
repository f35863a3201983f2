// The weight store: a model's constructor takes its tensors from it by checkpoint name.
//
// From that one idea follow, without a word in any model file: strict loading (a tensor that is missing, mis-shaped or
// that nobody took is an error with its full path), quantization (a scope that holds `scales` becomes a quantized
// matrix, with the bits that the configuration gives for its path), adapters (a scope that holds `lora_a` and `lora_b`
// becomes a LoRA layer), and the repacking of each weight for its device at
// the moment when it is taken, so that the file's copy and ours are never held together for long.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <mlx/mlx.h>

#include "mlx_lm/ops/experts.h"
#include "mlx_lm/ops/matrix.h"

namespace mlx_lm::nn {
namespace mx = mlx::core;

// A tensor that can be had: read() maps or converts it; it is called at most once.
struct StoredTensor {
  mx::Shape shape;
  mx::Dtype dtype;
  std::function<mx::array()> read;
  // Of a quantized weight whose file has another form than MLX's: itself, its scales and its biases row by row, for a
  // CPU that repacks them anyway. Called at most once, and then none of the three is read.
  std::function<kernels::RowSource()> rows = {};
  std::string adapter = {};  // the file of the adapter that it comes from; empty: the model's own
};

// The `quantization` entry of config.json.
struct QuantizationConfig {
  std::optional<ops::Quantization> common;                                         // for every scope with scales
  std::map<std::string, std::optional<ops::Quantization>, std::less<>> overrides;  // by path; nullopt: not quantized
};

// What an adapter adds to a matrix, in float32: LoRA's two narrow matrices, b with the scale multiplied in, and DoRA's
// magnitudes.
struct LowRankTensors {
  mx::array a, b;  // (in, r), (r, out)
  std::optional<mx::array> m;
};

// What a model does with a matrix, which only those who measure want to know.
enum class MatrixUse {
  layer,   // multiplied with for every token
  output,  // multiplied with for the tokens whose logits are wanted
  table,   // only rows are looked up
};

// What has been taken from a store. A product makes as many multiplications for each token as its matrix has numbers.
struct WeightTotals {
  struct Matrices {
    double bytes = 0;     // as they are multiplied
    double rounded = 0;   // numbers in those that round their activations (Matrix::rounds_activations)
    double floating = 0;  // numbers in the others
    double numbers() const { return rounded + floating; }
  };
  Matrices layers, output, tables;
  bool tied = false;   // a table is the output layer as well
  double vectors = 0;  // numbers in norms and biases
  double idle = 0;     // numbers in the experts that a token does not go to, of which layers has the others alone

  double parameters() const { return layers.numbers() + output.numbers() + tables.numbers() + vectors + idle; }
  // Matrices that are read once to compute the next token.
  double bytes_per_step() const { return layers.bytes + (tied ? tables : output).bytes; }
};

// A scope of the store: the root, or a path below it. Copies are cheap and share the store.
// Errors: WeightError for a tensor that is missing or has another shape; UnsupportedModel for a quantization that the
// configuration does not describe.
class Weights {
 public:
  // where: the folder or file, as errors should show it. dtype: the type that the model computes in; absent: bfloat16
  // or float16 if any tensor has it, else float32.
  Weights(std::map<std::string, StoredTensor> tensors, QuantizationConfig quantization, std::string where,
          std::optional<mx::Dtype> dtype = std::nullopt);

  Weights operator/(std::string_view name) const;
  Weights operator/(int index) const;

  bool has(std::string_view name) const;
  // The names below this scope that end so, without the suffix.
  std::vector<std::string> names_ending_with(std::string_view suffix) const;
  // Its shape in the checkpoint, for a model that tells two kinds of checkpoint apart by it. Absent: there is none.
  std::optional<mx::Shape> shape_of(std::string_view name) const;
  // The same of its type.
  std::optional<mx::Dtype> dtype_of(std::string_view name) const;
  // A vector (norm weight, bias) of the given size: float32 on the CPU, where all activations are, else as stored.
  mx::array take_vector(std::string_view name, int size) const;
  // The same for an array of any shape (convolutions, router weights, sinks).
  mx::array take_array(std::string_view name, const mx::Shape& shape) const;
  // This scope's `weight` (rows, cols), with `scales` and `biases` if it is quantized.
  ops::Matrix take_matrix(int rows, int cols, MatrixUse use = MatrixUse::layer) const;
  // The same for all experts of a layer: `weight` (experts, rows, cols), or one by one, `0.weight`, `1.weight` ...
  // active: how many of them a token goes to.
  ops::ExpertMatrices take_experts(int experts, int rows, int cols, int active) const;
  // This scope's `lora_a`, `lora_b` and perhaps `m`, where an adapter has them. Shapes: LowRankTensors, m (magnitudes).
  std::optional<LowRankTensors> take_low_rank(int in, int out, int magnitudes, MatrixUse use) const;
  // The table of tokens is the output layer as well.
  void tie_output() const;
  // Tensors that checkpoints carry and nobody needs: those below this scope whose path ends with `suffix`, but for an
  // adapter's.
  void ignore(std::string_view suffix) const;

  // What mlx-lm's `sanitize` does: brings checkpoints that name or shape their tensors otherwise into the model's form,
  // before they are taken. Names are below this scope. Nothing is read before a new tensor is.
  // A tensor that is made of others.
  struct Part {
    std::string name;
    mx::Shape shape;
    std::function<mx::array(const std::vector<mx::array>& from)> make;
    std::optional<mx::Dtype> dtype = std::nullopt;  // absent: that of the first it is made of
  };
  // Replaces the tensors `from` by `parts`. Errors: WeightError for one that is missing, or a part that is there
  // already.
  void rewrite(const std::vector<std::string>& from, std::vector<Part> parts) const;
  // Tensors named `from`, or below it, are named `to` from now on, and so are their quantization and adapters.
  void rename(std::string_view from, std::string_view to) const;
  // A fused layer becomes several: rows of its outputs, in order; or groups of rows, each of which has, in order, its
  // rows of every part. Does nothing if there is no such layer; quantized layers and adapters are split as well.
  // Errors: WeightError if the rows do not add up.
  void split(std::string_view fused, const std::vector<std::pair<std::string, int>>& parts, int groups = 1) const;
  // Throws unless every tensor was taken or ignored.
  void expect_all_taken() const;

  mx::Dtype dtype() const;
  // Grows as tensors are taken.
  std::shared_ptr<const WeightTotals> totals() const;

 private:
  struct Store;
  Weights(std::shared_ptr<Store> store, std::string path) : store_(std::move(store)), path_(std::move(path)) {}
  std::string full(std::string_view name) const;
  mx::array take(std::string_view name, const mx::Shape* expected) const;
  std::optional<ops::Quantization> quantization(int cols) const;
  std::optional<kernels::RowSource> take_rows(mx::Shape shape, const ops::Quantization& q) const;
  struct Parts;
  Parts take_parts(const mx::Shape& shape, const ops::Quantization& q) const;
  ops::Matrix matrix(int rows, int cols) const;
  template <class F>
  auto named(const F& make) const;

  std::shared_ptr<Store> store_;
  std::string path_;
};

}  // namespace mlx_lm::nn
