#include "mlx_lm/generate/perplexity.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <string>

#include "mlx_lm/base/error.h"
#include "mlx_lm/load/json_file.h"

namespace mlx_lm {
namespace {

namespace mx = mlx::core;
using nlohmann::json;

constexpr size_t kMostLogits = size_t{32} << 20;  // numbers in float32

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) fail<RequestError>("[perplexity] data-path: expected a file that can be read, found '{}'", path.string());
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t from = 0; from < text.size();) {
    const size_t end = std::min(text.find('\n', from), text.size());
    lines.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return lines;
}

std::vector<int> encode_text(const std::string& text, const text::TokenizerWrapper& tokenizer) {
  auto tokens = tokenizer.encode(text);
  if (!tokenizer.eos_token()) return tokens;
  const auto eos = tokenizer.tokenizer().token_to_id(*tokenizer.eos_token());
  if (eos && (tokens.empty() || tokens.back() != *eos)) tokens.push_back(*eos);
  return tokens;
}

std::vector<int> encode_record(const std::string& line, const std::string& where,
                               const text::TokenizerWrapper& tokenizer) {
  const auto record = parse_json(line, where);
  const auto has = [&](const char* key) { return record.is_object() && record.contains(key); };
  if (has("messages")) {
    const auto text = tokenizer.apply_chat_template(
        record["messages"], {.add_generation_prompt = false, .tools = record.value("tools", json())});
    return tokenizer.encode(text, /* add_special_tokens */ false);
  }
  if (has("text") && record["text"].is_string()) return encode_text(record["text"], tokenizer);
  fail<RequestError>("[perplexity] {}: expected an object with \"messages\" or a text as \"text\", found neither",
                     where);
}

// Losses (B, n) of the tokens that follow. Shapes: logits (B, n, V), following (B, n).
mx::array cross_entropy(const mx::array& logits, const mx::array& following) {
  const auto chosen = mx::take_along_axis(logits, mx::expand_dims(following, -1), -1);
  return mx::subtract(mx::logsumexp(logits, -1), mx::squeeze(chosen, -1));
}

// Appends the loss of each token of the rows but the first. rows: (B, L).
void add_losses(const models::LanguageModel& model, const mx::array& rows, std::vector<float>& losses) {
  const int batch = rows.shape(0), length = rows.shape(1) - 1;
  const size_t numbers = size_t(batch) * model.vocab_size();  // logits of one position
  const int piece = int(std::clamp<size_t>(kMostLogits / numbers, 1, length));
  auto caches = model.make_cache();
  for (int from = 0; from < length; from += piece) {
    const int to = std::min(from + piece, length);
    const auto logits = mx::astype(model(mx::slice(rows, {0, from}, {batch, to}), caches), mx::float32);
    auto found = mx::contiguous(cross_entropy(logits, mx::slice(rows, {0, from + 1}, {batch, to + 1})));
    found.eval();
    losses.insert(losses.end(), found.data<float>(), found.data<float>() + found.size());
  }
}

}  // namespace

void PerplexityOptions::validate() const {
  if (batch_size < 1) fail<RequestError>("[perplexity] batch-size: expected at least 1, found {}", batch_size);
  if (sequence_length < 2) {
    fail<RequestError>("[perplexity] sequence-length: expected at least 2, found {}", sequence_length);
  }
  if (num_samples < 1 && num_samples != -1) {
    fail<RequestError>("[perplexity] num-samples: expected at least 1, or -1 for all, found {}", num_samples);
  }
}

void check_data_path(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    fail<RequestError>("[perplexity] data-path: expected a .txt or .jsonl file, found nothing at '{}'", path.string());
  }
  const bool known = path.extension() == ".txt" || path.extension() == ".jsonl";
  if (!known || !std::filesystem::is_regular_file(path, ignored)) {
    fail<RequestError>("[perplexity] data-path: expected a .txt or .jsonl file, found '{}'", path.string());
  }
}

std::vector<size_t> permutation(size_t n, uint32_t seed) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 engine(seed);
  for (size_t i = n; i-- > 1;) {
    uint32_t mask = 1;
    while (mask < i) mask = mask << 1 | 1;
    size_t j;
    do {
      j = engine() & mask;
    } while (j > i);
    std::swap(order[i], order[j]);
  }
  return order;
}

std::vector<int> load_data(const std::filesystem::path& path, const text::TokenizerWrapper& tokenizer,
                           const PerplexityOptions& o) {
  o.validate();
  check_data_path(path);
  const size_t length = o.sequence_length, most = o.num_samples > 0 ? o.num_samples * length : SIZE_MAX;
  std::vector<int> tokens;
  if (path.extension() == ".txt") {
    tokens = tokenizer.encode(read_all(path));
  } else {
    const auto lines = lines_of(read_all(path));
    for (size_t i : permutation(lines.size(), o.seed)) {
      if (tokens.size() >= most) break;
      if (lines[i].find_first_not_of(" \t\r") == std::string::npos) continue;
      const auto record = encode_record(lines[i], fmt::format("{}:{}", path.string(), i + 1), tokenizer);
      tokens.insert(tokens.end(), record.begin(), record.end());
    }
  }
  if (tokens.size() < length) {
    fail<RequestError>("[perplexity] {}: expected at least {} tokens, found {}", path.string(), length, tokens.size());
  }
  tokens.resize(std::min(tokens.size() / length * length, most));
  return tokens;
}

Perplexity eval_ppl(const models::LanguageModel& model, const std::vector<int>& sequences, const PerplexityOptions& o,
                    const std::function<void(int, int)>& progress) {
  o.validate();
  const int length = o.sequence_length, count = int(sequences.size() / length);
  if (count == 0 || sequences.size() % length != 0) {
    fail<RequestError>("[perplexity] sequences: expected some of {} tokens, found {} tokens", length, sequences.size());
  }
  for (int id : sequences) {
    if (id < 0 || id >= model.vocab_size()) {
      fail<RequestError>("[perplexity] data: expected tokens below the model's {}, found {}", model.vocab_size(), id);
    }
  }
  const int batches = (count + o.batch_size - 1) / o.batch_size;
  std::vector<float> losses;
  for (int batch = 0; batch < batches; ++batch) {
    const int from = batch * o.batch_size, rows = std::min(o.batch_size, count - from);
    add_losses(model, mx::array(sequences.data() + size_t(from) * length, {rows, length}, mx::int32), losses);
    mx::clear_cache();
    if (progress) progress(batch + 1, batches);
  }
  const double n = double(losses.size()), mean = std::accumulate(losses.begin(), losses.end(), 0.) / n;
  double squares = 0;
  for (double loss : losses) squares += (loss - mean) * (loss - mean);
  const double perplexity = std::exp(mean);
  return {.perplexity = perplexity,
          .standard_error = perplexity * std::sqrt(squares / (n - 1) / n),
          .tokens = int64_t(losses.size())};
}

}  // namespace mlx_lm
