#include "mlx_lm/nn/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "mlx_lm/base/error.h"

namespace mlx_lm::nn {
namespace {

using std::numbers::pi;

// base^(2i/dims): the wavelengths over 2 pi, before any scaling.
std::vector<double> wavelengths(int dims, float base) {
  std::vector<double> freqs(dims / 2);
  for (int i = 0; i < dims / 2; ++i) freqs[i] = std::pow(double(base), 2.0 * i / dims);
  return freqs;
}

std::vector<float> to_floats(const std::vector<double>& freqs) { return {freqs.begin(), freqs.end()}; }

// Long wavelengths are stretched by `factor`, short ones left alone, those between blended.
std::vector<float> llama3(const Rope::Options& o, const ConfigReader& c) {
  const double factor = c.get_positive("factor");
  const double low = c.get_positive("low_freq_factor", 1.f), high = c.get_positive("high_freq_factor", 4.f);
  const double old_length = c.get_positive("original_max_position_embeddings", 8192.f);
  auto freqs = wavelengths(o.dims, o.base);
  for (auto& f : freqs) {
    const double wavelength = 2 * pi * f;
    if (wavelength > old_length / low) {
      f *= factor;
    } else if (wavelength > old_length / high) {
      const double smooth = (old_length / wavelength - low) / (high - low);
      f /= (1 - smooth) / factor + smooth;
    }
  }
  return to_floats(freqs);
}

// NTK by parts, https://arxiv.org/abs/2309.00071.
std::vector<float> yarn(const Rope::Options& o, const ConfigReader& c) {
  const double factor = c.get_positive("factor");
  const double old_length = c.get_positive("original_max_position_embeddings", 4096.f);
  auto correction = [&](double rotations) {
    return o.dims * std::log(old_length / (rotations * 2 * pi)) / (2 * std::log(double(o.base)));
  };
  const double low = std::max(std::floor(correction(c.get_positive("beta_fast", 32.f))), 0.0);
  double high = std::min(std::ceil(correction(c.get_positive("beta_slow", 1.f))), o.dims - 1.0);
  if (low == high) high += 0.001;  // a ramp needs a width
  auto freqs = wavelengths(o.dims, o.base);
  for (size_t i = 0; i < freqs.size(); ++i) {
    const double keep = 1 - std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
    const double stretched = factor * freqs[i];
    freqs[i] = stretched * freqs[i] / (stretched * keep + freqs[i] * (1 - keep));
  }
  return to_floats(freqs);
}

float yarn_magnitude(const ConfigReader& c) {
  const float factor = c.get_positive("factor");
  auto magnitude = [&](float m) { return factor <= 1 ? 1.f : 0.1f * m * std::log(factor) + 1.f; };
  return magnitude(c.get<float>("mscale", 1.f)) / magnitude(c.get<float>("mscale_all_dim", 0.f));
}

// One factor for each frequency, or one for all.
std::vector<double> multiplied(const Rope::Options& o, const ConfigReader& c, const std::string& key) {
  auto freqs = wavelengths(o.dims, o.base);
  std::vector<float> factors;
  if (c.has(key) && c.json().at(key).is_number()) {
    factors.assign(freqs.size(), c.get<float>(key));
  } else {
    factors = c.get<std::vector<float>>(key);
  }
  if (factors.size() != freqs.size()) {
    fail<ConfigError>("[config] {}: {}: expected {} factors, found {}", c.where(), key, freqs.size(), factors.size());
  }
  for (size_t i = 0; i < freqs.size(); ++i) freqs[i] *= factors[i];
  return freqs;
}

float longrope_magnitude(const Rope::Options& o, const ConfigReader& c) {
  const float old_length = c.get_positive("original_max_position_embeddings");
  const float factor = o.max_position_embeddings / old_length;
  return factor <= 1 ? 1.f : std::sqrt(1 + std::log(factor) / std::log(old_length));
}

// Only a leading part of the head rotates; the rest has an infinite wavelength.
std::vector<float> proportional(const Rope::Options& o, const ConfigReader& c) {
  const double part = c.get<float>("partial_rotary_factor", 1.f);
  if (part < 0 || part > 1) {
    fail<ConfigError>("[config] {}: partial_rotary_factor: expected a number from 0 to 1, found {}", c.where(), part);
  }
  auto freqs = wavelengths(o.dims, o.base);
  const double factor = c.get_positive("factor", 1.f);
  const size_t rotated = size_t(int(o.dims * part) + 1) / 2;
  for (size_t i = 0; i < freqs.size(); ++i) freqs[i] = i < rotated ? freqs[i] * factor : INFINITY;
  return to_floats(freqs);
}

}  // namespace

Rope::Rope(const Options& o, const std::optional<ConfigReader>& scaling)
    : max_position_embeddings_(o.max_position_embeddings) {
  if (o.dims < 2 || o.dims % 2 != 0) fail<ConfigError>("[config] rope: expected an even head size, found {}", o.dims);
  if (!(o.base > 1)) fail<ConfigError>("[config] rope_theta: expected a number above 1, found {}", o.base);
  ops::Rope::Options rope;
  rope.dims = o.dims;
  rope.traditional = o.traditional;
  rope.base = o.base;
  if (scaling) apply(o, *scaling, rope);
  // Nonsense that no single field shows, such as a text length of 1 whose logarithm is a divisor.
  const bool sound = std::ranges::all_of(rope.freqs, [](float f) { return f > 0; }) && std::isfinite(rope.magnitude) &&
                     std::isfinite(rope.scale);
  if (!sound) {
    fail<ConfigError>("[config] {}: expected numbers that give positive frequencies, found others",
                      scaling ? scaling->where() : "rope");
  }
  rope_.emplace(std::move(rope));
}

void Rope::apply(const Options& o, const ConfigReader& c, ops::Rope::Options& rope) {
  const std::string type = c.has("type") ? c.get<std::string>("type") : c.get<std::string>("rope_type", "default");
  auto needs_max_position_embeddings = [&] {
    if (o.max_position_embeddings < 1) {
      fail<ConfigError>("[config] {}: expected max_position_embeddings beside rope type {}, found nothing", c.where(),
                        type);
    }
  };
  if (type == "default" || type == "mrope") {  // mrope on text alone is the plain one
  } else if (type == "linear") {
    rope.scale = 1 / c.get_positive("factor");
  } else if (type == "dynamic") {
    needs_max_position_embeddings();
    dynamic_factor_ = c.get_positive("factor");
  } else if (type == "llama3") {
    rope.freqs = llama3(o, c);
  } else if (type == "yarn" || type == "deepseek_yarn" || type == "telechat3-yarn") {
    rope.freqs = yarn(o, c);
    rope.magnitude = yarn_magnitude(c);
  } else if (type == "longrope") {
    needs_max_position_embeddings();
    rope.freqs = to_floats(multiplied(o, c, "long_factor"));
    rope.magnitude = longrope_magnitude(o, c);
    rope.traditional = false;
  } else if (type == "proportional") {
    rope.freqs = proportional(o, c);
  } else if (type == "factors") {
    rope.freqs = to_floats(multiplied(o, c, "factors"));
  } else {
    fail<UnsupportedModel>(
        "[config] {}: rope type: expected default, linear, dynamic, llama3, yarn, longrope, proportional or mrope, "
        "found {}",
        c.where(), type.substr(0, 60));
  }
}

mx::array Rope::operator()(const mx::array& x, const ops::Runs& runs) const {
  if (dynamic_factor_ == 0) return ops::rope(x, *rope_, runs);
  // The longer a text is, the larger is its base: a table for each run.
  std::vector<mx::array> parts;
  int begin = 0;
  for (const auto& run : runs) {
    auto options = rope_->options();
    const double length = std::max(run.tokens + run.position, max_position_embeddings_);
    const double growth = dynamic_factor_ * length / max_position_embeddings_ - (dynamic_factor_ - 1);
    options.base = float(options.base * std::pow(growth, options.dims / (options.dims - 2.0)));
    auto stop = x.shape();
    stop[1] = begin + run.tokens;
    const auto part = runs.size() == 1 ? x : mx::slice(x, {0, begin, 0, 0}, stop);
    parts.push_back(ops::rope(part, ops::Rope(std::move(options)), run.position));
    begin += run.tokens;
  }
  return parts.size() == 1 ? parts[0] : mx::concatenate(std::move(parts), 1);
}

}  // namespace mlx_lm::nn
