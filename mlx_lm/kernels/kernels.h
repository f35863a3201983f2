// The CPU's arithmetic, on raw pointers. Every function splits its work over ThreadPool::global(), in pieces that do
// not depend on the number of threads, so that results do not either. All activations are float32.
// Pointers need the alignment of their type only. Shape letters: docs/shapes.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace mlx_lm::kernels {

// How numbers are stored.
enum class Type : uint8_t { f32, f16, bf16, u8 };  // u8: the codes of affine rows, inside this folder only
constexpr size_t size_of(Type type) { return type == Type::f32 ? 4 : type == Type::u8 ? 1 : 2; }

// What the products with quantized weights make of their float32 activations. mxfp8, whose codes are no whole numbers
// of 16 bits, uses them as they are in any case, and nvfp4 rounds them to 16 bits where 8 are asked for.
enum class Activations {
  int8,     // rounded to 8 bits by groups of 32: fastest for long prompts, with an error below that of 8-bit weights
  int16,    // rounded to 16 bits by groups of 32: the error is that of float32 sums, for practical purposes
  float32,  // used as they are
};
// Set once, before the first product; int16 unless MLX_LM_ACTIVATIONS=int8|float32. Threads: not while a product runs.
void set_activations(Activations activations);
Activations activations();

// The instruction set in use, chosen at the first call: the best that the processor has, or MLX_LM_CPU=scalar, avx2,
// avx512 (x86-64), neon, dotprod, i8mm (arm64). Errors: RequestError for a name that is not known or that the processor
// cannot run.
std::string_view instruction_set();

// How a quantized matrix stores its weights.
enum class Format : uint8_t {
  affine,  // scale * code + bias
  mxfp4,   // e2m1 codes; one e8m0 scale for 32 columns
  mxfp8,   // e4m3 codes; one e8m0 scale for 32 columns
  nvfp4,   // e2m1 codes; one e4m3 scale for 16 columns
};

// An affine-quantized matrix (rows, cols) as MLX stores it: weight[r][c] = scales[r][c / group] * code + biases[...].
struct AffineSource {
  int rows = 0, cols = 0;
  int bits = 4;                      // 2, 3, 4, 5, 6 or 8
  int group_size = 64;               // 32, 64 or 128; divides cols
  const uint32_t* weight = nullptr;  // (rows, cols * bits / 32): codes packed from the lowest bit up, across words
  const void* scales = nullptr;      // (rows, cols / group_size)
  const void* biases = nullptr;      // the same
  Type type = Type::f16;             // of scales and biases
};

// A matrix (rows, cols) of small floats as MLX stores it: weight[r][c] = scales[r][c / group] * code. Any byte is taken
// for what it means: an e4m3 of 0x7f or 0xff is no number, an e8m0 of 255 is infinity, as in MLX's dequantize.
struct FloatSource {
  Format format = Format::mxfp4;     // not affine
  int rows = 0, cols = 0;            // cols: a multiple of 32
  const uint32_t* weight = nullptr;  // (rows, cols / 8), of mxfp8 (rows, cols / 4): codes from the lowest bit up
  const uint8_t* scales = nullptr;   // (rows, cols / 32), of nvfp4 (rows, cols / 16)
};

struct PackedView;  // table.h

// A quantized matrix in the layout of the kernels. Immutable.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  virtual const PackedView& view() const = 0;
  // y[i] = W x[i]. x: (n, cols), y: (n, rows).
  void matmul(const float* x, int n, float* y) const;
  // Dequantized rows. ids: n numbers in [0, rows); out: (n, cols).
  virtual void take_rows(const int32_t* ids, int n, float* out) const = 0;
  virtual size_t nbytes() const = 0;
};
// Repacks; the source may be let go afterwards. Errors: RequestError for a shape or format that is not known.
std::shared_ptr<const PackedMatrix> pack(const AffineSource& source);
std::shared_ptr<const PackedMatrix> pack(const FloatSource& source);

// A floating-point matrix (rows, cols), row-major, used where it lies.
struct DenseMatrix {
  int rows = 0, cols = 0;
  Type type = Type::f32;
  const void* data = nullptr;
};
// y[i] = W x[i], summed in float32. x: (n, cols), y: (n, rows).
void matmul(const float* x, int n, const DenseMatrix& w, float* y);
void take_rows(const DenseMatrix& w, const int32_t* ids, int n, float* out);

// The activations of one or more products: x (n, cols), or, with norm_weight (cols), the RMS norms of its rows.
struct ProductInput {
  const float* x = nullptr;
  int n = 0, cols = 0;
  const float* norm_weight = nullptr;
  float eps = 0;
};
// y[i] = W x[i] + bias + residual[i], for W packed or else dense.
struct Product {
  const PackedMatrix* packed = nullptr;
  DenseMatrix dense;
  const float* bias = nullptr;      // (rows)
  const float* residual = nullptr;  // (n, rows); not y
  float* y = nullptr;               // (n, rows)

  int rows() const;
};
// All products of one input in one go: the input is prepared once, and quantized weights are shared out together.
void multiply(const ProductInput& x, std::span<const Product> products);
// gate.y = silu(gate) * up; up.y is not used, neither has a residual, and both have as many rows.
void multiply_swiglu(const ProductInput& x, const Product& gate, const Product& up);

// out[i] = x[i] / sqrt(mean(x[i]^2) + eps) * weight. x, out: (n, size); weight: (size), or null for ones.
void rms_norm(const float* x, const float* weight, int n, int size, float eps, float* out);

// out = gate / (1 + exp(-gate)) * up, elementwise over n numbers; out may be gate or up.
void swiglu(const float* gate, const float* up, size_t n, float* out);

struct RopeArgs {
  int batch = 1, length = 1, heads = 1, head_dim = 0;
  int dims = 0;                  // leading entries of each head that rotate; the others are copied
  bool traditional = false;      // pairs (0,1),(2,3).. rather than (0,dims/2),(1,dims/2+1)..
  const float* rates = nullptr;  // (dims / 2): angle of pair i at position p = p * rates[i]
  float magnitude = 1;           // multiplies the rotating entries
  int offset = 0;                // position of row 0
};
// x, out: (B, L, H, D); out may be x.
void rope(const float* x, const RopeArgs& args, float* out);

// Writes new_rows (B, L, K, D) into buffer (B, K, C, D) of the given type at rows [position, position + L).
void write_rows(const float* new_rows, int batch, int length, int heads, int head_dim, void* buffer, Type type,
                int capacity, int position);

// Rows of numbers as MLX's affine quantization stores them, in groups along a row: number = scale * code + bias.
struct AffineRows {
  int bits = 8;            // 2, 3, 4, 5, 6 or 8
  int group_size = 64;     // 32, 64 or 128; divides the rows
  Type type = Type::f16;   // of scales and biases
  void* codes = nullptr;   // (B, K, C, D * bits / 8) bytes: codes from the lowest bit up, across bytes
  void* scales = nullptr;  // (B, K, C, D / group_size)
  void* biases = nullptr;  // the same
};
// The same for an affine buffer and new rows of any type. Numbers are rounded to to.type first, and get the codes,
// scales and biases that MLX's quantize gives them, bit by bit.
void write_rows(const void* new_rows, Type new_type, int batch, int length, int heads, int head_dim,
                const AffineRows& to, int capacity, int position);

// Query l sees row j when j < length, j <= start + l and (window == 0 or j > start + l - window).
struct AttentionArgs {
  const float* q = nullptr;      // (B, L, H, D)
  const void* keys = nullptr;    // (B, K, C, D)
  const void* values = nullptr;  // (B, K, C, value_dim)
  float* out = nullptr;          // (B, L, H, value_dim)
  int batch = 1, queries = 1, heads = 1, kv_heads = 1, head_dim = 0;
  int capacity = 0;              // C: rows in each head's buffer
  int length = 0;                // rows in use
  int start = 0;                 // row of query 0
  int window = 0;                // 0: no limit
  float scale = 1;               // multiplies the scores
  Type type = Type::f16;         // of keys and values
  int value_dim = 0;             // of a value and of a result; 0: head_dim
  float softcap = 0;             // scores become softcap * tanh(score / softcap); 0: they stay as they are
  const float* sinks = nullptr;  // (H): a score for each head that takes part in the softmax and has no value; or null
  // What keys and values are instead, if there: both of the same bits, group size and type.
  std::optional<AffineRows> affine_keys, affine_values;
  // Latent attention, if not null: a query is a row of q and one of q_tail (B, L, H, tail_dim), a key is a row of keys
  // and one of what stands for values (B, K, C, tail_dim), and it is the rows of keys that are summed; value_dim is 0.
  const float* q_tail = nullptr;
  int tail_dim = 0;
};
// Softmax attention, grouped (query head h reads kv head h / (H / K)), in float32; a query that sees nothing gives 0.
// Several texts are shared out over the threads together; the result of each is what it would be alone.
void attention(std::span<const AttentionArgs> texts);

// out[i] = (x[i] - mean(x[i])) / sqrt(variance(x[i]) + eps) * weight + bias. x, out: (n, size); weight, bias: (size) or
// null.
void layer_norm(const float* x, const float* weight, const float* bias, int n, int size, float eps, float* out);

// gelu(x) = x * (1 + erf(x / sqrt(2))) / 2, or its approximation x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
enum class Gelu { erf, tanh };
// out = gelu(gate) * up, elementwise over n numbers; without up (null) gelu(gate). out may be gate or up.
void geglu(const float* gate, const float* up, size_t n, Gelu kind, float* out);

// The place of each row's largest number, the first of equal ones; a NaN is passed over. x: (n, size).
void argmax(const float* x, int n, int size, uint32_t* places);
// Each row's k <= size largest numbers and their places, from the largest down, of equal ones the first first; a NaN
// comes last, as -infinity. x: (n, size); values, places: (n, k).
void top_k(const float* x, int n, int size, int k, float* values, uint32_t* places);

}  // namespace mlx_lm::kernels
