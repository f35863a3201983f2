#include "mlx_lm/nn/mla.h"

#include <algorithm>
#include <cmath>

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {
namespace {

// Of the rotated rows alone, by pairs that lie side by side.
Rope::Options rope_options(const ConfigReader& c, const DecoderConfig& decoder, int dims) {
  if (dims % 2 != 0)
    fail<ConfigError>("[config] {}: qk_rope_head_dim: expected an even number, found {}", c.where(), dims);
  auto options = decoder.rope;
  options.dims = dims;
  options.traditional = true;
  return options;
}

float scale_of(const MLAConfig& c, const std::optional<ConfigReader>& scaling) {
  const float scale = 1 / std::sqrt(float(c.qk_nope_head_dim + c.qk_rope_head_dim));
  const float all = scaling ? scaling->get<float>("mscale_all_dim", 0.f) : 0.f;
  const float factor = all != 0 ? scaling->get<float>("factor") : 1.f;
  if (factor <= 1) return scale;
  const float more = 0.1f * all * std::log(factor) + 1;
  return scale * more * more;
}

ops::ExpertMatrices transposed(const ops::ExpertMatrices& w) {
  return ops::ExpertMatrices::dense(mx::contiguous(mx::astype(mx::swapaxes(ops::dequantized(w), -1, -2), w.dtype())));
}

}  // namespace

MLAConfig::MLAConfig(const ConfigReader& c, const DecoderConfig& decoder)
    : hidden_size(decoder.hidden_size),
      heads(decoder.num_attention_heads),
      q_lora_rank(c.get_size_or("q_lora_rank", 0, 0)),
      kv_lora_rank(c.get_size("kv_lora_rank", 1, 65536)),
      qk_rope_head_dim(c.get_size("qk_rope_head_dim", 2, 4096)),
      v_head_dim(c.get_size("v_head_dim", 1, 4096)),
      qk_nope_head_dim(c.get_size("qk_nope_head_dim", 1, 4096)),
      attention_bias(c.get<bool>("attention_bias", false)),
      scale(scale_of(*this, decoder.rope_scaling)),
      rope(rope_options(c, decoder, qk_rope_head_dim), decoder.rope_scaling) {}

// The checkpoint's tensors in the form that they are taken in.
const Weights& MLA::prepared(const Weights& w, const MLAConfig& c) {
  const int nope = c.qk_nope_head_dim, value = c.v_head_dim;
  w.split(c.q_lora_rank > 0 ? "q_b_proj" : "q_proj",
          {{"q_nope", c.heads * nope}, {"q_rope", c.heads * c.qk_rope_head_dim}}, c.heads);
  w.split("kv_a_proj_with_mqa", {{"kv_latent", c.kv_lora_rank}, {"kv_rope", c.qk_rope_head_dim}});
  const auto fused = w / "kv_b_proj";
  const auto shape = fused.shape_of("weight"), groups = fused.shape_of("scales");
  if (!shape) return w;
  const int rows = c.heads * (nope + value), cols = c.kv_lora_rank;
  // Quantized along the latent rows, which keys are not: as numbers, then.
  int bits = 0, group_size = 0;
  if (groups && shape->size() == 2 && groups->size() == 2 && (*groups)[1] > 0) {
    bits = int(int64_t((*shape)[1]) * 32 / cols);
    group_size = cols / (*groups)[1];
  }
  const bool fits = groups ? bits >= 2 && bits <= 8 && *shape == mx::Shape{rows, int(int64_t(cols) * bits / 32)} &&
                                 *groups == mx::Shape{rows, cols / group_size} && fused.shape_of("biases") == groups &&
                                 fused.dtype_of("weight") == mx::uint32
                           : *shape == mx::Shape{rows, cols};
  if (!fits) {
    fail<WeightError>("[weights] kv_b_proj.weight: expected shape ({}, {}), perhaps quantized with scales and biases",
                      rows, cols);
  }
  const auto part = [=, heads = c.heads](int begin, int end) {
    return [=](const std::vector<mx::array>& from) {
      const auto numbers = groups ? mx::dequantize(from[0], from[1], from[2], group_size, bits) : from[0];
      return mx::slice(mx::reshape(numbers, {heads, -1, cols}), {0, begin, 0}, {heads, end, cols});
    };
  };
  const auto dtype = fused.dtype_of(groups ? "scales" : "weight");
  std::vector<std::string> from{"kv_b_proj.weight"};
  if (groups) from.insert(from.end(), {"kv_b_proj.scales", "kv_b_proj.biases"});
  const auto keys = part(0, nope);
  w.rewrite(from, {{"embed_q.weight",
                    {c.heads, cols, nope},
                    [=](const auto& tensors) { return mx::swapaxes(keys(tensors), -1, -2); },
                    dtype},
                   {"unembed_out.weight", {c.heads, value, cols}, part(nope, nope + value), dtype}});
  return w;
}

MLA::MLA(const Weights& w, const MLAConfig& c)
    : c_(c),
      q_a_proj_(c.q_lora_rank > 0 ? std::optional<Linear>(std::in_place, w / "q_a_proj", c.hidden_size, c.q_lora_rank,
                                                          c.attention_bias)
                                  : std::nullopt),
      q_a_layernorm_(c.q_lora_rank > 0
                         ? std::optional<RMSNorm>(std::in_place, w / "q_a_layernorm", c.q_lora_rank, c.norm_eps)
                         : std::nullopt),
      q_nope_(prepared(w, c) / "q_nope", c.q_lora_rank > 0 ? c.q_lora_rank : c.hidden_size,
              c.heads * c.qk_nope_head_dim),
      q_rope_(w / "q_rope", c.q_lora_rank > 0 ? c.q_lora_rank : c.hidden_size, c.heads * c.qk_rope_head_dim),
      kv_latent_(w / "kv_latent", c.hidden_size, c.kv_lora_rank, c.attention_bias),
      kv_rope_(w / "kv_rope", c.hidden_size, c.qk_rope_head_dim, c.attention_bias),
      kv_a_layernorm_(w / "kv_a_layernorm", c.kv_lora_rank, c.norm_eps),
      embed_q_((w / "embed_q").take_experts(c.heads, c.kv_lora_rank, c.qk_nope_head_dim, c.heads)),
      unembed_out_((w / "unembed_out").take_experts(c.heads, c.v_head_dim, c.kv_lora_rank, c.heads)),
      keys_(transposed(embed_q_)),
      o_proj_(w / "o_proj", c.heads * c.v_head_dim, c.hidden_size, c.attention_bias) {}

MLA::Step MLA::begin(const mx::array& x, cache::KVCache& cache) const {
  const auto low = q_a_proj_ ? (*q_a_layernorm_)((*q_a_proj_)(x)) : x;
  const auto [nope, rotating] = project(low, q_nope_, q_rope_);
  const auto [latent, rotating_key] = project(x, kv_latent_, kv_rope_);
  const auto runs = cache.runs(x.shape(1));
  const auto key = c_.rope(split_heads(rotating_key, 1), runs);
  const auto query = [&](const mx::array& x) {
    const auto heads = split_heads(x, c_.heads);
    return c_.query_growth ? grown(heads, runs, *c_.query_growth) : heads;
  };
  return {low, query(nope), c_.rope(query(rotating), runs),
          cache.update(split_heads(kv_a_layernorm_(latent), 1), key, /* window */ 0)};
}

mx::array MLA::attend(const Step& step) const {
  // A query and a key cost less where keys and values are made first, which costs for every key.
  const int made = c_.qk_nope_head_dim + c_.v_head_dim;
  const auto& seen = step.seen;
  const bool many = int64_t(seen[0].tokens) * (2 * c_.kv_lora_rank - made) > int64_t(c_.kv_lora_rank) * made;
  if (seen.size() == 1 && many && !seen[0].keys.format.quantized()) return o_proj_(merge_heads(expanded(step)));
  return finish(ops::attention(absorbed(step.nope), seen, c_.scale, {.softcap = 0, .sinks = {}, .q_tail = step.rope}));
}

mx::array MLA::finish(const mx::array& sums) const {
  return o_proj_(merge_heads(ops::head_matmul(sums, unembed_out_)));
}

mx::array MLA::expanded(const Step& step) const {
  const auto& seen = step.seen[0];
  const auto in_use = [&](const mx::array& buffer) {
    auto stop = buffer.shape();
    stop[2] = seen.span.length;
    return mx::astype(mx::swapaxes(mx::slice(buffer, {0, 0, 0, 0}, stop), 1, 2), step.nope.dtype());  // (B, S, 1, .)
  };
  const auto latent = in_use(seen.keys.data), rotated = in_use(seen.values.data);
  auto shape = rotated.shape();
  shape[2] = c_.heads;
  const auto keys = mx::concatenate({ops::head_matmul(latent, keys_), mx::broadcast_to(rotated, shape)}, -1);
  const auto values = ops::head_matmul(latent, unembed_out_);
  return ops::attention(mx::concatenate({step.nope, step.rope}, -1), mx::contiguous(mx::swapaxes(keys, 1, 2)),
                        mx::contiguous(mx::swapaxes(values, 1, 2)), seen.span, c_.scale);
}

}  // namespace mlx_lm::nn
