#include "mlx_lm/load/foreign_weights.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/mapped_array.h"
#include "mlx_lm/load/unpack.h"
#include "mlx_lm/ops/matrix_form.h"

namespace mlx_lm {
namespace {

namespace mx = mlx::core;
using Arrays = std::vector<mx::array>;
using nn::Weights;
using ops::laid_out;

std::optional<ConfigReader> foreign_entry(const ConfigReader& config) {
  if (config.has("quantization")) return std::nullopt;
  if (config.has("quantization_config")) {
    auto entry = config.sub("quantization_config");
    return entry.has("quant_method") ? std::optional(std::move(entry)) : std::nullopt;
  }
  return config.has("text_config") ? foreign_entry(config.sub("text_config")) : std::nullopt;
}

std::string method_of(const ConfigReader& entry) { return entry.get<std::string>("quant_method"); }

// Of the integers that a checkpoint's layers are packed as.
int bits_of(const ConfigReader& entry) {
  auto from = entry;
  std::string key = "bits";
  if (method_of(entry) == "compressed-tensors") {
    const auto groups = entry.sub("config_groups");
    if (groups.json().empty()) fail<ConfigError>("[config] {}: expected a group, found none", groups.where());
    from = groups.sub(groups.json().begin().key()).sub("weights");
    key = "num_bits";
  }
  const int bits = from.get<int>(key, 4);
  const auto method = method_of(entry);
  const bool known = method == "awq"    ? bits == 4
                     : method == "gptq" ? bits == 2 || bits == 3 || bits == 4 || bits == 8
                                        : bits == 4 || bits == 8;
  if (!known) {
    fail<UnsupportedModel>("[config] {}: {}: expected a number of bits that {} weights are read with, found {}",
                           from.where(), key, method, bits);
  }
  return bits;
}

std::string shape_text(const mx::Shape& shape) { return fmt::format("({})", fmt::join(shape, ", ")); }

// Of a matrix that must be there.
mx::Shape matrix_shape(const Weights& w, const std::string& name) {
  const auto shape = w.shape_of(name);
  if (!shape) fail<WeightError>("[weights] {}: expected a tensor, found nothing", name);
  if (shape->size() != 2 || (*shape)[0] < 1 || (*shape)[1] < 1) {
    fail<WeightError>("[weights] {}: expected a matrix, found shape {}", name, shape_text(*shape));
  }
  return *shape;
}

void expect_shape(const Weights& w, const std::string& name, const mx::Shape& expected) {
  const auto found = w.shape_of(name);
  if (!found || *found != expected) {
    fail<WeightError>("[weights] {}: expected shape {}, found {}", name, shape_text(expected),
                      found ? shape_text(*found) : "nothing");
  }
}

const uint32_t* words(const mx::array& x) { return reinterpret_cast<const uint32_t*>(x.data<void>()); }

void expect_words(const Weights& w, const std::string& name) {
  const auto dtype = w.dtype_of(name);
  if (dtype != mx::int32 && dtype != mx::uint32) {
    fail<WeightError>("[weights] {}: expected codes in 32-bit words, found another type", name);
  }
}

// Scales of more inputs than MLX has groups for count for several groups. Shapes: (out, groups) -> (out, groups * n).
int repeats(int inputs, int groups, const std::string& name) {
  const int size = groups > 0 && inputs % groups == 0 ? inputs / groups : 0;
  if (size == 32 || size == 64 || size == 128) return 1;
  for (int group : {128, 64, 32}) {
    if (size > group && size % group == 0) return size / group;
  }
  fail<UnsupportedModel>("[weights] {}: expected groups of a multiple of 32 inputs, found {} for {} inputs", name,
                         groups, inputs);
}

mx::array repeated(const mx::array& scales, int n) { return n == 1 ? scales : mx::repeat(scales, n, 1); }

// biases[o][g] = -zero(o, g) * scales[o][g].
mx::array biases_of(const mx::array& scales, const std::function<float(int output, int group)>& zero) {
  const int outputs = scales.shape(0), groups = scales.shape(1);
  auto [zeros, data] = new_array(scales.shape(), mx::float32);
  for (int o = 0; o < outputs; ++o) {
    for (int g = 0; g < groups; ++g) static_cast<float*>(data)[int64_t(o) * groups + g] = -zero(o, g);
  }
  return mx::astype(zeros * mx::astype(scales, mx::float32), scales.dtype());
}

// AWQ and GPTQ: `qweight`, `scales` (groups, out), perhaps `qzeros`. What the words hold, the shapes tell.
void adopt_columns(const Weights& w, const std::string& path, int bits, bool zeros_less_one) {
  const auto name = [&](const char* suffix) { return path + suffix; };
  const auto q = matrix_shape(w, name(".qweight")), s = matrix_shape(w, name(".scales"));
  const int groups = s[0], outputs = s[1];
  const bool awq = int64_t(q[1]) * 8 == outputs && bits == 4;
  const int64_t inputs = awq ? q[0] : int64_t(q[0]) * 32 / bits;
  if ((!awq && q[1] != outputs) || inputs % 32 != 0 || inputs > ConfigReader::kMaxSize) {
    fail<WeightError>("[weights] {}: expected codes for {} outputs, found shape {}", name(".qweight"), outputs,
                      shape_text(q));
  }
  expect_words(w, name(".qweight"));
  const int n = repeats(int(inputs), groups, path);
  std::vector<std::string> from{name(".qweight"), name(".scales")};
  const bool zeros = w.shape_of(name(".qzeros")).has_value();
  if (zeros) {
    if (int64_t(outputs) * bits % 32 != 0) {
      fail<WeightError>("[weights] {}: expected whole words, found {} outputs", name(".qzeros"), outputs);
    }
    expect_shape(w, name(".qzeros"), {groups, int(int64_t(outputs) * bits / 32)});
    expect_words(w, name(".qzeros"));
    from.push_back(name(".qzeros"));
  }
  if (w.shape_of(name(".g_idx"))) {
    expect_shape(w, name(".g_idx"), {int(inputs)});
    from.push_back(name(".g_idx"));
  }
  const bool ordered = w.shape_of(name(".g_idx")).has_value();
  const auto scales_type = w.dtype_of(name(".scales"));
  const auto weight = [=](const Arrays& a) {
    if (ordered) {
      const auto places = laid_out(mx::astype(a.back(), mx::int32));
      for (int i = 0; i < int(inputs); ++i) {
        if (places.data<int32_t>()[i] != i / int(inputs / groups)) {
          fail<UnsupportedModel>("[weights] {}.g_idx: expected groups of neighbouring inputs, found others", path);
        }
      }
    }
    const auto codes = laid_out(a[0]);
    auto [packed, data] = new_array({outputs, int(inputs * bits / 32)}, mx::uint32);
    if (awq) {
      transpose_awq(words(codes), int(inputs), outputs, static_cast<uint32_t*>(data));
    } else {
      transpose_words(words(codes), q[0], outputs, static_cast<uint32_t*>(data));
    }
    return packed;
  };
  const auto scales = [n](const Arrays& a) { return laid_out(repeated(mx::transpose(a[1]), n)); };
  const auto biases = [=](const Arrays& a) {
    const auto by_output = laid_out(mx::transpose(a[1]));
    if (!zeros) return repeated(biases_of(by_output, [&](int, int) { return float(1 << (bits - 1)); }), n);
    const auto codes = laid_out(a[2]);
    const int per_group = int(int64_t(outputs) * bits / 32);
    return repeated(biases_of(by_output,
                              [&](int o, int g) {
                                const uint32_t* row = words(codes) + int64_t(g) * per_group;
                                if (awq) return float(awq_code(row, o));
                                return float(packed_code(row, o, bits)) + (zeros_less_one ? 1.f : 0.f);
                              }),
                    n);
  };
  w.rewrite(from, {{name(".weight"), {outputs, int(inputs * bits / 32)}, weight, mx::uint32},
                   {name(".scales"), {outputs, groups * n}, scales, scales_type},
                   {name(".biases"), {outputs, groups * n}, biases, scales_type}});
}

// compressed-tensors' integers: `weight_packed` (out, words), offset by half their range, `weight_scale` (out, groups).
void adopt_packed(const Weights& w, const std::string& path, int bits) {
  const auto name = [&](const char* suffix) { return path + suffix; };
  const auto p = matrix_shape(w, name(".weight_packed")), s = matrix_shape(w, name(".weight_scale"));
  const int outputs = p[0], groups = s[1];
  const int64_t inputs = int64_t(p[1]) * 32 / bits;
  if (s[0] != outputs || inputs > ConfigReader::kMaxSize) {
    fail<WeightError>("[weights] {}: expected scales for {} outputs, found shape {}", name(".weight_scale"), outputs,
                      shape_text(s));
  }
  expect_words(w, name(".weight_packed"));
  const int n = repeats(int(inputs), groups, path);
  std::vector<std::string> from{name(".weight_packed"), name(".weight_scale")};
  const bool zeros = w.shape_of(name(".weight_zero_point")).has_value();
  if (zeros) {
    expect_shape(w, name(".weight_zero_point"), {int((int64_t(outputs) * bits + 31) / 32), groups});
    expect_words(w, name(".weight_zero_point"));
    from.push_back(name(".weight_zero_point"));
  }
  if (w.shape_of(name(".weight_g_idx"))) {
    fail<UnsupportedModel>("[weights] {}.weight_g_idx: expected groups of neighbouring inputs, found others", path);
  }
  (w / path).ignore("weight_shape");
  const auto scales_type = w.dtype_of(name(".weight_scale"));
  const auto weight = [](const Arrays& a) { return mx::view(laid_out(a[0]), mx::uint32); };
  const auto scales = [n](const Arrays& a) { return repeated(a[1], n); };
  const auto biases = [=](const Arrays& a) {
    if (!zeros) return repeated(biases_of(a[1], [&](int, int) { return float(1 << (bits - 1)); }), n);
    // Packed along the outputs.
    const auto codes = laid_out(mx::transpose(a[2]));
    const int per_group = codes.shape(1);
    return repeated(
        biases_of(a[1],
                  [&](int o, int g) { return float(packed_code(words(codes) + int64_t(g) * per_group, o, bits)); }),
        n);
  };
  w.rewrite(from, {{name(".weight"), p, weight, mx::uint32},
                   {name(".scales"), {outputs, groups * n}, scales, scales_type},
                   {name(".biases"), {outputs, groups * n}, biases, scales_type}});
}

// `weight` in e4m3 (..., out, in) and `scale`: of a block each, of an output each, or one for all.
void adopt_fp8(const Weights& w, const std::string& path, const std::string& scale, std::array<int, 2> block) {
  const auto weight = path + ".weight", scale_name = path + scale;
  const auto shape = w.shape_of(weight), scales = w.shape_of(scale_name);
  if (!shape || w.dtype_of(weight) != mx::uint8 || shape->size() < 2 || shape->size() > 3) {
    fail<WeightError>("[weights] {}: expected a matrix of e4m3 codes beside {}, found something else", weight,
                      scale_name);
  }
  const int rows = (*shape)[shape->size() - 2], cols = shape->back(), stack = shape->size() == 3 ? (*shape)[0] : 1;
  const auto size = std::accumulate(scales->begin(), scales->end(), int64_t(1), std::multiplies<>());
  const auto tiles = [](int n, int size) { return (int64_t(n) + size - 1) / size; };
  if (size == stack) block = {std::max(rows, 1), std::max(cols, 1)};
  if (size == int64_t(stack) * rows && scales->back() == 1) block = {1, std::max(cols, 1)};
  if (size != stack * tiles(rows, block[0]) * tiles(cols, block[1])) {
    fail<WeightError>("[weights] {}: expected a number for each {} x {} of shape {}, found shape {}", scale_name,
                      block[0], block[1], shape_text(*shape), shape_text(*scales));
  }
  const bool exponents = w.dtype_of(scale_name) == mx::uint8;  // e8m0
  const auto make = [=, shape = *shape](const Arrays& a) {
    auto factors = mx::astype(a[1], mx::float32);
    if (exponents) factors = mx::power(mx::array(2.f), factors - mx::array(127.f));
    factors = laid_out(mx::flatten(factors));
    const auto codes = laid_out(a[0]);
    auto [out, data] = new_array(shape, mx::bfloat16);
    const int64_t per = factors.size() / size_t(stack);
    for (int i = 0; i < stack; ++i) {
      const int64_t at = int64_t(i) * rows * cols;
      dequantize_fp8(codes.data<uint8_t>() + at, factors.data<float>() + i * per, rows, cols, block[0], block[1],
                     static_cast<uint16_t*>(data) + at);
    }
    return out;
  };
  w.rewrite({weight, scale_name}, {{weight, *shape, make, mx::bfloat16}});
}

// nvfp4 with a second scale for all of a layer, which MLX's nvfp4 has none of. divides: the scale is to be divided by.
void adopt_nvfp4(const Weights& w, const std::string& path, const std::string& weight, const std::string& second,
                 bool divides) {
  const auto packed = matrix_shape(w, path + weight), scales = matrix_shape(w, path + ".weight_scale");
  const int outputs = packed[0], inputs = packed[1] * 2;
  if (w.dtype_of(path + weight) != mx::uint8 || packed[1] % 8 != 0 || scales != mx::Shape{outputs, inputs / 16}) {
    fail<WeightError>("[weights] {}: expected two codes to a byte and a scale for each 16, found shapes {} and {}",
                      path + weight, shape_text(packed), shape_text(scales));
  }
  const auto make = [divides](const Arrays& a) {
    const auto codes = mx::view(laid_out(a[0]), mx::uint32);
    const auto values = mx::dequantize(codes, a[1], std::nullopt, 16, 4, "nvfp4", std::nullopt, mx::float32);
    const auto factor = mx::reshape(mx::astype(a[2], mx::float32), {1});
    return laid_out(mx::astype(divides ? values / factor : values * factor, mx::bfloat16));
  };
  const auto size = w.shape_of(path + second);
  if (!size || (!size->empty() && *size != mx::Shape{1})) {
    fail<WeightError>("[weights] {}: expected one number, found {}", path + second, size ? "more" : "nothing");
  }
  w.rewrite({path + weight, path + ".weight_scale", path + second},
            {{path + ".weight", {outputs, inputs}, make, mx::bfloat16}});
}

std::array<int, 2> block_of(const ConfigReader& entry) {
  const auto block = entry.get<std::vector<int>>("weight_block_size", {128, 128});
  if (block.size() != 2 || block[0] < 1 || block[1] < 1) {
    fail<ConfigError>("[config] {}: weight_block_size: expected two numbers above 0, found {}", entry.where(),
                      fmt::join(block, ", "));
  }
  return {block[0], block[1]};
}

}  // namespace

nn::QuantizationConfig foreign_quantization(const ConfigReader& entry) {
  const auto method = method_of(entry);
  const auto common = [](ops::Quantization q) { return nn::QuantizationConfig{.common = q, .overrides = {}}; };
  if (method == "mxfp4") return common({32, 4, "mxfp4"});
  if (method == "mxfp8") return common({32, 8, "mxfp8"});
  if (method == "fp8" || method == "modelopt") return {};
  if (method == "awq" || method == "gptq") return common({128, bits_of(entry), "affine"});
  if (method == "compressed-tensors") {
    const auto format = entry.get<std::string>("format");
    if (format == "pack-quantized") return common({32, bits_of(entry), "affine"});
    if (format == "mxfp4-pack-quantized") return common({32, 4, "mxfp4"});
    if (format == "float-quantized" || format == "nvfp4-pack-quantized") return {};
    fail<UnsupportedModel>(
        "[config] {}: format: expected pack-quantized, mxfp4-pack-quantized, nvfp4-pack-quantized or float-quantized, "
        "found {}",
        entry.where(), format.substr(0, 60));
  }
  fail<UnsupportedModel>(
      "[config] {}: quant_method: expected awq, gptq, compressed-tensors, fp8, modelopt, mxfp4 or mxfp8, found {}",
      entry.where(), method.substr(0, 60));
}

void adopt_foreign_weights(const Weights& w, const ConfigReader& config) {
  const auto entry = foreign_entry(config);
  if (!entry) return;
  const auto method = method_of(*entry);
  if (method == "awq" || method == "gptq") {
    const bool less_one = entry->get<std::string>("checkpoint_format", "gptq") != "gptq_v2";
    for (const auto& path : w.names_ending_with(".qweight")) adopt_columns(w, path, bits_of(*entry), less_one);
    return;
  }
  for (const char* unused : {"input_scale", "activation_scale", "input_global_scale", "k_scale", "v_scale"}) {
    w.ignore(std::string(".") + unused);
  }
  if (method == "compressed-tensors" || method == "modelopt") {
    for (const auto& path : w.names_ending_with(".weight_packed")) {
      const bool small_floats = w.dtype_of(path + ".weight_packed") == mx::uint8;
      if (!small_floats) {
        adopt_packed(w, path, bits_of(*entry));
      } else if (w.shape_of(path + ".weight_global_scale")) {
        adopt_nvfp4(w, path, ".weight_packed", ".weight_global_scale", /* divides */ true);
      } else {
        const auto shape = matrix_shape(w, path + ".weight_packed");
        if (shape[1] % 4 != 0)
          fail<WeightError>("[weights] {}.weight_packed: expected whole words, found {} bytes", path, shape[1]);
        w.rewrite({path + ".weight_packed"}, {{path + ".weight",
                                               {shape[0], shape[1] / 4},
                                               [](const Arrays& a) { return mx::view(laid_out(a[0]), mx::uint32); },
                                               mx::uint32}});
        w.rename(path + ".weight_scale", path + ".scales");
      }
    }
    for (const auto& path : w.names_ending_with(".weight_scale_2")) {
      adopt_nvfp4(w, path, ".weight", ".weight_scale_2", /* divides */ false);
    }
    for (const auto& path : w.names_ending_with(".weight_scale")) adopt_fp8(w, path, ".weight_scale", block_of(*entry));
  }
  for (const auto& path : w.names_ending_with(".weight_scale_inv")) {
    adopt_fp8(w, path, ".weight_scale_inv", block_of(*entry));
  }
}

}  // namespace mlx_lm
