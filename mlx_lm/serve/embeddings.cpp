// /v1/embeddings.
#include <openssl/evp.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "mlx_lm/generate/embedder.h"
#include "mlx_lm/serve/openai.h"

namespace mlx_lm::serve {
namespace {

using json = Json;

// OpenAI's limits.
constexpr size_t kMaxTexts = 2048, kMaxTokens = 300'000;

struct Input {
  std::vector<std::vector<int>> texts;  // of tokens
  size_t tokens = 0;
};

class InputReader {
 public:
  explicit InputReader(const ServedModel& model) : model_(model) {}

  // A text, a list of texts, tokens, or a list of lists of tokens.
  Input read(const Fields& f) {
    const auto& value = f.need("input", kExpected);
    const bool is_list = value.is_array() && !value.empty();
    if (value.is_string() || (is_list && value[0].is_number())) {
      add(value, "input");
    } else if (is_list && (value[0].is_string() || value[0].is_array())) {
      f.list("input", kMaxTexts);
      for (size_t i = 0; i < value.size(); ++i) {
        const auto path = fmt::format("input[{}]", i);
        if (value[i].type() != value[0].type()) refuse(path, "one of the same kind as the first", kind_of(value[i]));
        add(value[i], path);
      }
    } else {
      f.wrong("input", kExpected);
    }
    return std::move(input_);
  }

 private:
  static constexpr std::string_view kExpected = "a text, tokens, or a list of texts or of lists of tokens";

  [[noreturn]] static void refuse(const std::string& path, std::string_view expected, const std::string& found,
                                  const char* code = "invalid_value") {
    throw ApiError(400, fmt::format("{}: expected {}, found {}", path, expected, found), path, code);
  }

  void add(const json& value, const std::string& path) {
    auto tokens = value.is_string() ? model_.tokenizer().encode(value.get<std::string>()) : ids(value, path);
    const int most = model_.context_size;
    if (tokens.empty()) refuse(path, "at least one token", "none");
    if (most > 0 && tokens.size() > size_t(most)) {
      refuse(path, fmt::format("at most the model's context of {} tokens", most), std::to_string(tokens.size()),
             "context_length_exceeded");
    }
    input_.tokens += tokens.size();
    if (input_.tokens > kMaxTokens) {
      refuse("input", fmt::format("at most {} tokens in all", kMaxTokens), "more", "too_many_tokens");
    }
    input_.texts.push_back(std::move(tokens));
  }

  std::vector<int> ids(const json& list, const std::string& path) const {
    const int vocabulary = model_.model().vocab_size();
    std::vector<int> ids;
    for (size_t i = 0; i < list.size(); ++i) {
      const auto& id = list[i];
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= uint64_t(vocabulary)) {
        refuse(fmt::format("{}[{}]", path, i), fmt::format("a token below {}", vocabulary),
               id.is_number() ? id.dump() : kind_of(id));
      }
      ids.push_back(id.get<int>());
    }
    return ids;
  }

  const ServedModel& model_;
  Input input_;
};

// As little-endian 32-bit floats.
std::string to_base64(const std::vector<float>& vector) {
  static_assert(std::endian::native == std::endian::little);
  const auto* bytes = reinterpret_cast<const unsigned char*>(vector.data());
  const size_t size = vector.size() * sizeof(float);
  std::string text((size + 2) / 3 * 4 + 1, '\0');
  const int length = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes, int(size));
  text.resize(size_t(length));
  return '"' + text + '"';
}

std::string to_list(const std::vector<float>& vector) {
  fmt::memory_buffer text;
  for (float x : vector) fmt::format_to(std::back_inserter(text), "{}{}", text.size() == 0 ? '[' : ',', x);
  text.push_back(']');
  return fmt::to_string(text);
}

// Runs the steps on the engine's thread, where what they leave has to end too.
class EngineRun {
 public:
  EngineRun(Engine& engine, const ServedModel& model, Pooling pooling, std::vector<std::vector<int>> texts)
      : engine_(engine) {
    engine_.run([&] { embedder_.emplace(model.model(), pooling, std::move(texts), engine_.piece()); });
  }
  ~EngineRun() {
    try {
      engine_.run([&] { end(); });
    } catch (const ApiError&) {  // the engine has ended
      end();
    }
  }

  // False: everything is done. Waits until there is memory.
  bool step() {
    enum { more, none, wait } next = more;
    engine_.run([&] {
      const size_t needed = embedder_->bytes();
      if (needed < reserved_) engine_.release(reserved_ - needed);
      if (needed > reserved_ && !engine_.reserve(needed - reserved_)) {
        next = wait;
        return;
      }
      reserved_ = needed;
      next = embedder_->step() ? more : none;
    });
    if (next == wait) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return next != none;
  }

  Embedder& operator*() { return *embedder_; }

 private:
  void end() {
    engine_.release(std::exchange(reserved_, 0));
    embedder_.reset();
  }

  Engine& engine_;
  std::optional<Embedder> embedder_;
  size_t reserved_ = 0;
};

void check_dimensions(const Fields& f, const std::vector<std::vector<float>>& vectors) {
  const auto dimensions = f.integer("dimensions", 1, std::numeric_limits<int>::max());
  if (!dimensions) return;
  for (const auto& vector : vectors) {
    if (!vector.empty() && int64_t(vector.size()) != *dimensions) {
      f.wrong("dimensions", fmt::format("{}, which the model's vectors have", vector.size()));
    }
  }
}

}  // namespace

void embeddings(const Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const auto body = parse_body(exchange->request().body);
  const Fields f(body);
  const auto requested = f.text("model");
  const bool base64 = f.choice("encoding_format", {"float", "base64"}) == "base64";
  f.integer("dimensions", 1, std::numeric_limits<int>::max());
  f.text("user");
  const auto model = api.models.get(requested, f.text("adapters"));
  auto input = InputReader(*model).read(f);
  Pooling pooling;
  try {
    pooling = read_pooling(model->path, model->loaded.config);
  } catch (const ConfigError& error) {
    throw ApiError(400, error.what(), "model");
  }
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  exchange->on_gone([gone] { *gone = true; });
  std::vector<std::vector<float>> vectors;
  {
    EngineRun run(api.engine, *model, pooling, std::move(input.texts));
    while (run.step()) {
      if (*gone) return;
      check_dimensions(f, (*run).vectors());
    }
    vectors = (*run).take();
  }
  std::string text = R"({"object":"list","data":[)";
  for (size_t i = 0; i < vectors.size(); ++i) {
    text += fmt::format(R"({}{{"object":"embedding","index":{},"embedding":)", i > 0 ? "," : "", i);
    text += (base64 ? to_base64 : to_list)(vectors[i]) + "}";
    vectors[i] = {};
  }
  const json usage = {{"prompt_tokens", input.tokens}, {"total_tokens", input.tokens}};
  text += fmt::format(R"(],"model":{},"usage":{}}})", dump(requested.value_or(model->id)), dump(usage));
  exchange->send({.body = std::move(text)});
}

}  // namespace mlx_lm::serve
