#include "mlx_lm/generate/prefix_cache.h"

#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <random>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/state.h"
#include "mlx_lm/generate/batch_generator.h"
#include "mlx_lm/load/prompt_cache.h"
#include "mlx_lm/ops/backend.h"

#include "tests/load/temp_folder.h"
#include "tests/models/golden_case.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<int>;

Tokens operator+(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Tokens first(const Tokens& tokens, size_t n) { return {tokens.begin(), tokens.begin() + std::ptrdiff_t(n)}; }

int common(const Tokens& a, const Tokens& b) {
  return int(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// The tree, against a model of it that knows nothing of trees

// Rows that say whose they are: one head of 8 numbers, those of row i made of the first i + 1 tokens.
cache::KVCaches rows_of(const Tokens& tokens) {
  std::vector<float> keys, values;
  uint32_t hash = 1;
  for (int token : tokens) {
    hash = hash * 31 + uint32_t(token) + 7;
    for (int i = 0; i < 8; ++i) keys.push_back(float(hash % 10007 + i)), values.push_back(float(hash % 997 * 3 + i));
  }
  const mx::Shape shape{1, 1, int(tokens.size()), 8};
  cache::KVCaches caches;
  caches.push_back(std::make_unique<cache::GrowingKVCache>(mx::array(keys.data(), shape),
                                                           mx::array(values.data(), shape), int(tokens.size())));
  return caches;
}

constexpr size_t kTokenBytes = 2 * 8 * sizeof(float) + sizeof(int);

void expect_rows(const PrefixCache::Found& found, const Tokens& tokens) {
  EXPECT_EQ(found.caches.empty(), found.tokens == 0);
  if (found.tokens == 0) return;
  const auto wanted = rows_of(first(tokens, size_t(found.tokens)));
  ASSERT_EQ(found.caches.size(), 1u);
  ASSERT_EQ(found.caches[0]->offset(), found.tokens);
  const auto &a = cache::kv(*found.caches[0]), &b = cache::kv(*wanted[0]);
  for (auto part : {&cache::KVCache::keys, &cache::KVCache::values}) {
    const auto mine = mx::slice((a.*part)()->data, {0, 0, 0, 0}, {1, 1, found.tokens, 8});
    EXPECT_TRUE(mx::array_equal(mine, (b.*part)()->data).item<bool>());
  }
}

// A tree is a set of texts closed under beginnings: tokens that stand where texts part, and the ends of texts, are
// nodes.
struct Model {
  std::map<Tokens, uint64_t> used;  // of each beginning that is held
  std::set<Tokens> ends;            // of nodes
  size_t bytes() const { return used.size() * kTokenBytes + ends.size() * PrefixTree::kNodeBytes; }
  bool is_leaf(const Tokens& end) const {
    const auto next = used.upper_bound(end);
    return next == used.end() || common(next->first, end) < int(end.size());
  }
  int longest(const Tokens& tokens, int limit) const {
    int n = 0;
    while (n < limit && used.contains(first(tokens, size_t(n) + 1))) n += 1;
    return n;
  }
  // All of a node counts as used when any of it is.
  void touch(const Tokens& tokens, int n, uint64_t now) {
    for (int i = 1; i <= n; ++i) used[first(tokens, size_t(i))] = now;
    for (const auto& end : ends) {
      if (int(end.size()) < n || common(end, tokens) < n) continue;
      bool same_node = true;
      for (size_t i = size_t(n); i < end.size(); ++i) same_node &= !ends.contains(first(end, i));
      if (same_node && n > 0) {
        for (size_t i = 1; i <= end.size(); ++i) used[first(end, i)] = now;
      }
    }
  }
  void evict() {
    const Tokens* oldest = nullptr;
    for (const auto& end : ends) {
      if (is_leaf(end) && (!oldest || used.at(end) < used.at(*oldest))) oldest = &end;
    }
    auto end = *oldest;
    ends.erase(end);
    do used.erase(end), end.pop_back();
    while (!end.empty() && !ends.contains(end) && is_leaf(end));
  }
  int leaves() const {
    return int(std::ranges::count_if(ends, [&](const auto& end) { return is_leaf(end); }));
  }
};

TEST(PrefixTree, holds_what_a_plain_model_of_it_holds) {
  std::mt19937 random(5);
  const auto number = [&](int least, int most) { return std::uniform_int_distribution<int>(least, most)(random); };
  for (int round = 0; round < 12; ++round) {
    const size_t budget = size_t(number(1, 40)) * 700;
    const int most = round % 3 == 0 ? number(1, 6) : 0;
    PrefixCache held({.max_bytes = budget, .max_entries = most});
    Model model;
    uint64_t now = 0;
    int hits = 0, evictions = 0;
    std::vector<Tokens> texts;
    for (int step = 0; step < 250; ++step) {
      Tokens tokens;
      if (!texts.empty() && number(0, 3) > 0) {
        tokens = texts[size_t(number(0, int(texts.size()) - 1))];
        tokens = first(tokens, size_t(number(1, int(tokens.size()))));
      }
      for (int n = number(tokens.empty(), 8); n > 0; --n) tokens.push_back(number(0, 2));
      texts.push_back(tokens);
      const int size = int(tokens.size());
      now += 1;
      if (number(0, 1) == 0) {
        const int n = model.longest(tokens, size - 1);
        model.touch(tokens, n, now);
        const auto found = held.find("key", tokens);
        ASSERT_EQ(found.tokens, n);
        hits += n > 0;
        expect_rows(found, tokens);
        EXPECT_EQ(held.find("another", tokens).tokens, 0);
      } else {
        const int known = model.longest(tokens, size);
        model.touch(tokens, known, now);
        const bool cut = known > 0 && !model.ends.contains(first(tokens, size_t(known)));
        size_t own = 0, path = 0;
        if (known < size) {
          own = PrefixTree::kNodeBytes * (cut ? 2 : 1) + size_t(size - known) * kTokenBytes;
          // What is before it, up to the end of the node that is cut.
          Tokens end = first(tokens, size_t(known));
          while (!end.empty() && !model.ends.contains(end)) {
            for (int t = 0; t < 3; ++t) {
              if (model.used.contains(end + Tokens{t})) {
                end = end + Tokens{t};
                break;
              }
            }
          }
          path = end.size() * kTokenBytes;
          for (size_t i = 1; i <= end.size(); ++i) path += model.ends.contains(first(end, i)) * PrefixTree::kNodeBytes;
        }
        const bool fits = own == 0 || own + path <= budget;
        if (own > 0 && fits) {
          const auto end = first(tokens, size_t(known));
          const bool new_leaf = known == 0 || cut || !model.is_leaf(end);
          for (;;) {
            if (model.bytes() + own <= budget && (most == 0 || model.leaves() + new_leaf <= most)) break;
            bool others = false;
            for (const auto& e : model.ends) others |= model.is_leaf(e) && model.used.at(e) != now;
            if (!others) break;
            model.evict();
            evictions += 1;
          }
          if (cut) model.ends.insert(end);
          model.ends.insert(tokens);
          now += 1;
          for (int i = known + 1; i <= size; ++i) model.used[first(tokens, size_t(i))] = now;
          for (; most > 0 && model.leaves() > most; ++evictions) model.evict();
        }
        ASSERT_EQ(held.insert("key", tokens, rows_of(tokens)), fits);
      }
      ASSERT_EQ(held.bytes(), model.bytes()) << "round " << round << ", step " << step;
      ASSERT_LE(held.bytes(), budget);
      ASSERT_EQ(held.entries(), model.leaves());
      ASSERT_TRUE(most == 0 || held.entries() <= most);
    }
    EXPECT_EQ(held.stats().hits, hits);
    EXPECT_EQ(held.stats().evictions, evictions);
    EXPECT_GT(hits, 0);
  }
}

TEST(PrefixTree, the_least_recently_used_goes_first) {
  const size_t size = PrefixTree::kNodeBytes + 4 * kTokenBytes;
  PrefixCache held({.max_bytes = 3 * size});
  const auto text = [](int i) { return Tokens{i, i, i, i}; };
  const auto is_held = [&](int i) { return held.find("key", text(i) + Tokens{9}).tokens == 4; };
  for (int i : {1, 2, 3}) held.insert("key", text(i), rows_of(text(i)));
  EXPECT_EQ(held.bytes(), 3 * size);
  EXPECT_TRUE(is_held(1));
  held.insert("key", text(4), rows_of(text(4)));
  EXPECT_FALSE(is_held(2));
  EXPECT_TRUE(is_held(3));
  EXPECT_TRUE(is_held(1));
  EXPECT_TRUE(is_held(4));
  held.insert("other key", text(5), rows_of(text(5)));
  EXPECT_FALSE(is_held(3));
  EXPECT_EQ(held.stats().evictions, 2);
  EXPECT_EQ(held.bytes(), 3 * size);
  const Tokens large(60, 1);
  EXPECT_FALSE(held.insert("key", large, rows_of(large)));
  EXPECT_TRUE(is_held(1)) << "nothing is let go for what cannot be held";
}

TEST(PrefixTree, a_deep_one_is_no_deep_recursion) {
  PrefixCache held({.max_bytes = size_t(1) << 30});
  Tokens tokens;
  for (int i = 0; i < 3000; ++i) {
    tokens.push_back(i % 5);
    if (i % 2 == 0) held.insert("key", tokens, rows_of(tokens));
  }
  EXPECT_EQ(held.find("key", tokens).tokens, 2999);
  EXPECT_EQ(held.entries(), 1);
}

TEST(PrefixTree, refuses_caches_of_fewer_tokens) {
  PrefixCache held;
  EXPECT_EQ(message_of([&] {
              held.insert("key", Tokens{1, 2, 3}, rows_of({1, 2}));
            }),
            "[prefix cache] caches: expected those of 3 tokens, found 2");
  EXPECT_EQ(message_of([&] {
              held.insert("key", Tokens{}, rows_of({1, 2}));
            }),
            "[prefix cache] caches: expected those of some tokens, found 2");
  EXPECT_EQ(message_of([&] { PrefixCache({.max_entries = -1}); }),
            "[prefix cache] max_entries: expected 0 or more, found -1");
  EXPECT_EQ(held.find("key", Tokens{}).tokens, 0);
}

// Models: what goes on from it has the same bits

struct Answer {
  Tokens tokens;
  std::vector<mx::array> logprobs;
  bool operator==(const Answer& other) const {
    if (tokens != other.tokens) return false;
    for (size_t i = 0; i < logprobs.size(); ++i) {
      if (!mx::array_equal(logprobs[i], other.logprobs[i]).item<bool>()) return false;
    }
    return true;
  }
};

struct Kind {
  const char* model;
  int kv_bits = 0;
  bool cuttable = true;
  friend void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.model << " " << kind.kv_bits; }
};

class Continuation : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    model_ = GoldenCase(GetParam().model).make();
    options_ = {.prefill_step_size = 16, .kv_bits = GetParam().kv_bits, .kv_group_size = 32};
  }
  Tokens some(int n) {
    Tokens tokens(static_cast<size_t>(n));
    for (int& id : tokens) id = std::uniform_int_distribution<int>(0, model_->vocab_size() - 1)(random_);
    return tokens;
  }
  // Computes a prompt, from the caches of its beginning if there are any, and inserts what was read.
  Answer answer(const Tokens& prompt, cache::KVCaches before, Tokens snapshots, PrefixCache* to,
                cache::KVCaches* out = nullptr, std::map<int, cache::KVCaches>* snapshots_out = nullptr) {
    const int held = before.empty() ? 0 : before[0]->offset();
    for (const auto& cache : before) EXPECT_EQ(cache->offset(), held);
    BatchGenerator batch(*model_, options_);
    SequenceOptions options{.max_tokens = 5, .return_cache = true};
    options.prompt_cache = std::move(before);
    for (int n : snapshots) {
      if (n > held) options.snapshots.push_back(n - held);
    }
    options.on_snapshot = [&](int n, const cache::KVCaches& caches) {
      if (to) to->insert("model", first(prompt, size_t(held + n)), caches);
      if (snapshots_out) snapshots_out->emplace(held + n, cache::copy(caches));
    };
    batch.insert({prompt.begin() + held, prompt.end()}, std::move(options));
    Answer answer;
    while (!batch.empty()) {
      for (auto& response : batch.next()) {
        answer.tokens.push_back(response.token);
        answer.logprobs.push_back(response.logprobs);
        if (response.finish_reason && out) *out = std::move(response.caches);
      }
    }
    return answer;
  }

  std::unique_ptr<models::LanguageModel> model_;
  BatchOptions options_;
  std::mt19937 random_{3};
};

TEST_P(Continuation, has_the_bits_of_one_from_the_caches_themselves) {
  TempFolder folder;
  for (const bool from_disk : {false, true}) {
    SCOPED_TRACE(from_disk ? "from a file" : "from memory");
    PrefixCacheOptions options{.disk = {.dir = folder.path()}, .min_disk_tokens = 1};
    options.check = [&](const std::string&, const cache::KVCaches& caches, const std::string& where) {
      check_prompt_cache(caches, *model_, where);
    };
    auto held = std::make_unique<PrefixCache>(options);
    const auto system = some(37), question = system + some(9), other = system + some(12);
    cache::KVCaches caches;
    std::map<int, cache::KVCaches> snapshots;
    const auto whole = answer(question, {}, {37, 45}, held.get(), &caches, &snapshots);
    auto text = question + whole.tokens;
    EXPECT_TRUE(held->insert("model", text, caches));
    const auto again = [&] {
      if (!from_disk) return;
      held->flush();
      EXPECT_EQ(held->stats().disk.errors, 0);
      held = std::make_unique<PrefixCache>(options);
    };

    // Another question to the same system prompt.
    again();
    auto found = held->find("model", other);
    ASSERT_EQ(found.tokens, 37);
    EXPECT_TRUE(answer(other, std::move(found.caches), {}, nullptr) ==
                answer(other, cache::copy(snapshots.at(37)), {}, nullptr));
    // The same question.
    again();
    found = held->find("model", question);
    ASSERT_EQ(found.tokens, 45);
    EXPECT_TRUE(answer(question, std::move(found.caches), {}, nullptr) ==
                answer(question, cache::copy(snapshots.at(45)), {}, nullptr));
    // The conversation goes on.
    const auto more = text + some(20);
    again();
    found = held->find("model", more);
    ASSERT_EQ(found.tokens, int(text.size()));
    EXPECT_TRUE(answer(more, std::move(found.caches), {}, nullptr) == answer(more, cache::copy(caches), {}, nullptr));
    // Twice, since nothing that went on has written into what is held.
    found = held->find("model", more);
    ASSERT_EQ(found.tokens, int(text.size()));
    EXPECT_TRUE(answer(more, std::move(found.caches), {}, nullptr) == answer(more, cache::copy(caches), {}, nullptr));
    // What was computed with all rows as floats is quantized when it is done, so 8 bits differ from a run at once.
    if (GetParam().kv_bits == 0) {
      EXPECT_EQ(answer(more, cache::copy(caches), {}, nullptr).tokens, answer(more, {}, {}, nullptr).tokens);
    }
    // In the middle of what was computed at once.
    if (GetParam().cuttable) {
      auto cut = cache::copy(caches);
      cache::trim(cut, int(text.size()) - 20);
      const auto third = first(system, 20) + some(7);
      again();
      found = held->find("model", third);
      ASSERT_EQ(found.tokens, common(third, text));
      if (found.tokens == 20) {
        EXPECT_TRUE(answer(third, std::move(found.caches), {}, nullptr) == answer(third, std::move(cut), {}, nullptr));
      }
    }
    EXPECT_EQ(held->stats().disk_hits > 0, from_disk);
    EXPECT_EQ(held->stats().disk.damaged, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Continuation,
                         testing::Values(Kind{"llama_basic"}, Kind{"llama_f16"}, Kind{"llama_kv_bits", 8},
                                         Kind{"llama_kv_bits", 4}, Kind{"llama_sliding", 0, false},
                                         Kind{"gemma3_text_f16", 0, false}, Kind{"mamba2_basic", 0, false},
                                         Kind{"qwen3_next_moe", 0, false}, Kind{"lfm2_basic", 0, false},
                                         Kind{"deepseek_v32"}, Kind{"deepseek_v3"},
                                         Kind{"granitemoehybrid_moe", 0, false}, Kind{"gpt_oss", 0, false}));

// Every architecture's caches can be held, and are gone on from with the same bits.
TEST(PrefixCache, takes_the_caches_of_every_architecture) {
  std::set<std::string> types;
  for (const auto& entry : fs::directory_iterator(golden_cases())) {
    const GoldenCase golden(entry.path().filename().string());
    if (!types.insert(golden.config.at("model_type")).second) continue;
    SCOPED_TRACE(entry.path().filename().string());
    const auto model = golden.make();
    const Tokens text{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}, rest{7, 8};
    auto caches = model->make_cache();
    const auto step = [&](const Tokens& tokens, cache::KVCaches& caches) {
      auto logits = (*model)(mx::array(tokens.data(), {1, int(tokens.size())}, mx::int32), caches);
      logits.eval();
      return logits;
    };
    step(text, caches);
    PrefixCache held;
    ASSERT_TRUE(held.insert("key", text, caches));
    auto found = held.find("key", text + rest);
    ASSERT_EQ(found.tokens, int(text.size()));
    EXPECT_TRUE(mx::array_equal(step(rest, found.caches), step(rest, caches)).item<bool>());
    EXPECT_TRUE(mx::array_equal(step({2}, found.caches), step({2}, caches)).item<bool>());
  }
  EXPECT_GT(types.size(), 50u);
}

// By MLX's own operations, as on a GPU.
TEST(PrefixCacheOnMlx, gives_what_was_held) {
  ops::set_backend(ops::Backend::mlx);
  for (int bits : {0, 8}) {
    const auto model = GoldenCase("llama_kv_bits").make();
    auto caches = model->make_cache();
    const Tokens text{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
    const auto step = [&](const Tokens& tokens, cache::KVCaches& caches) {
      return (*model)(mx::array(tokens.data(), {1, int(tokens.size())}, mx::int32), caches);
    };
    mx::eval(step(text, caches));
    for (auto& cache : caches) cache::kv(*cache).quantize({bits, 32});
    PrefixCache held;
    ASSERT_TRUE(held.insert("key", first(text, 8), caches));
    auto found = held.find("key", text);
    ASSERT_EQ(found.tokens, 8);
    cache::trim(caches, 3);
    EXPECT_TRUE(mx::allclose(step({6, 7}, found.caches), step({6, 7}, caches)).item<bool>());
    EXPECT_TRUE(mx::allclose(step({8}, found.caches), step({8}, caches)).item<bool>());
  }
  ops::set_backend(ops::Backend::kernels);
}

// Files

class PrefixFiles : public testing::Test {
 protected:
  PrefixCacheOptions options() const { return {.disk = {.dir = folder_.path() / "cache"}, .min_disk_tokens = 1}; }
  std::vector<fs::path> files() const {
    std::vector<fs::path> files;
    for (const auto& file : fs::directory_iterator(folder_.path() / "cache")) files.push_back(file.path());
    std::ranges::sort(files);
    return files;
  }
  static Tokens text(int i, int n = 10) { return Tokens(static_cast<size_t>(n), i); }
  void write(const std::vector<int>& texts) const {
    PrefixCache held(options());
    for (int i : texts) held.insert("key", text(i), rows_of(text(i)));
  }
  static int found(PrefixCache& held, const Tokens& tokens) {
    const auto found = held.find("key", tokens + Tokens{999});
    expect_rows(found, tokens);
    return found.tokens;
  }

  TempFolder folder_;
};

TEST_F(PrefixFiles, are_found_again) {
  write({1, 2});
  EXPECT_EQ(files().size(), 2u);
  PrefixCache held(options());
  EXPECT_EQ(held.stats().disk.files, 2);
  EXPECT_EQ(found(held, text(1)), 10);
  EXPECT_EQ(found(held, text(1, 4)), 4) << "from memory now";
  EXPECT_EQ(found(held, text(2, 6)), 6) << "cut";
  EXPECT_EQ(found(held, text(3)), 0);
  EXPECT_EQ(held.find("another", text(1)).tokens, 0);
  EXPECT_EQ(held.stats().disk_hits, 2);
}

TEST_F(PrefixFiles, may_hold_more_than_memory) {
  write({1});
  auto small = options();
  small.max_bytes = 100;
  PrefixCache held(small);
  EXPECT_EQ(found(held, text(1, 7)), 7);
  EXPECT_EQ(held.bytes(), 0u);
}

TEST_F(PrefixFiles, that_are_damaged_anywhere_are_no_others) {
  write({1});
  const auto file = files().at(0);
  std::ifstream in(file, std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(in), {}};
  std::mt19937 random(1);
  int damaged = 0;
  const auto put = [&](const std::string& bytes) {
    fs::remove(file);
    std::ofstream(file, std::ios::binary) << bytes;
    PrefixCache held(options());
    const int n = found(held, text(1));
    EXPECT_TRUE(n == 0 || n == 10) << n;
    EXPECT_EQ(n == 0, held.stats().disk.damaged == 1);
    EXPECT_EQ(fs::exists(file), n == 10);
    damaged += n == 0;
  };
  put(good);
  EXPECT_EQ(damaged, 0);
  for (size_t at = 0; at < good.size(); ++at) {
    auto bad = good;
    bad[at] = char(bad[at] ^ (1 + random() % 255));
    put(bad);
  }
  EXPECT_GT(damaged, int(good.size() / 2)) << "spaces may be others";
  for (size_t size = 0; size < good.size(); size += 7) put(good.substr(0, size));
  // All numbers, one by one, are what they were or not there.
  EXPECT_GT(damaged, int(good.size() / 2 + good.size() / 7));
}

TEST_F(PrefixFiles, of_others_are_left_alone) {
  const auto dir = folder_.path() / "cache";
  fs::create_directories(dir);
  const std::string ours = "prefix-0123456789abcdef-0123456789abcdef.safetensors";
  const std::vector<std::string> others{"notes.txt", "prefix-.safetensors", "a" + ours, ours + "x",
                                        "prefix-0123456789ABCDEF-0123456789abcdef.safetensors"};
  for (const auto& name : others) std::ofstream(dir / name) << "mine";
  std::ofstream(dir / ours) << "not what it says";
  fs::create_directories(dir / "prefix-0000000000000000-0000000000000000.safetensors" / "in");
  auto few = options();
  few.disk.max_bytes = 6000;
  PrefixCache held(few);
  for (int i = 0; i < 8; ++i) held.insert("key", text(i), rows_of(text(i)));
  held.flush();
  for (const auto& name : others) EXPECT_TRUE(fs::exists(dir / name)) << name;
  EXPECT_FALSE(fs::exists(dir / ours));
  EXPECT_TRUE(fs::exists(dir / "prefix-0000000000000000-0000000000000000.safetensors" / "in"));
  EXPECT_GT(held.stats().disk.removed, 0);
}

TEST_F(PrefixFiles, of_another_model_are_refused) {
  write({1});
  auto strict = options();
  strict.check = [](const std::string& key, const cache::KVCaches&, const std::string&) {
    fail<WeightError>("[test] {}: not its caches", key);
  };
  PrefixCache held(strict);
  EXPECT_EQ(found(held, text(1)), 0);
  EXPECT_EQ(held.stats().disk.damaged, 1);
  EXPECT_TRUE(files().empty());
}

TEST_F(PrefixFiles, the_least_recently_used_go_first) {
  write({1, 2, 3});
  uint64_t size = 0;
  for (const auto& file : files()) size = fs::file_size(file);
  // Files are as old as they say.
  auto few = options();
  int age = 3;
  for (const auto& file : files()) {
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(age--));
  }
  const auto oldest = files()[0], next = files()[1];
  few.disk.max_bytes = 3 * size + 4096;
  {
    PrefixCache held(few);
    // Whichever text is in the oldest file is used now.
    for (int i : {1, 2, 3}) {
      const auto before = fs::last_write_time(oldest);
      const auto saved = load_prompt_cache(oldest).metadata.at("prefix_tokens");
      if (!saved.starts_with(std::to_string(i))) continue;
      EXPECT_EQ(found(held, text(i)), 10);
      EXPECT_GT(fs::last_write_time(oldest), before);
    }
    held.insert("key", text(4), rows_of(text(4)));
    held.flush();
    EXPECT_EQ(held.stats().disk.removed, 1);
  }
  EXPECT_TRUE(fs::exists(oldest));
  EXPECT_FALSE(fs::exists(next));
  EXPECT_EQ(files().size(), 3u);
}

TEST_F(PrefixFiles, are_written_within_the_hours_budget) {
  auto now = std::chrono::steady_clock::time_point();
  auto few = options();
  few.disk.max_write_bytes_per_hour = 12000;
  few.disk.now = [&] { return now; };
  PrefixCache held(few);
  int i = 0;
  const auto insert = [&](int n) {
    for (; n > 0; --n, ++i) held.insert("key", text(i), rows_of(text(i))), held.flush();
    return held.stats().disk.written;
  };
  EXPECT_EQ(insert(5), 2);
  EXPECT_EQ(held.stats().disk.skipped, 3);
  now += std::chrono::minutes(30);
  EXPECT_EQ(insert(5), 3);
  now += std::chrono::hours(50);
  EXPECT_EQ(insert(5), 5) << "no more than an hour's is saved up";
}

TEST_F(PrefixFiles, of_a_conversation_are_one) {
  PrefixCache held(options());
  for (int n = 5; n < 30; n += 5) held.insert("key", text(1, n), rows_of(text(1, n))), held.flush();
  EXPECT_EQ(held.stats().disk.written, 5);
  EXPECT_EQ(files().size(), 1u);
  PrefixCache again(options());
  EXPECT_EQ(found(again, text(1, 25)), 25);
}

TEST_F(PrefixFiles, of_several_processes_get_along) {
  PrefixCache a(options()), b(options());
  for (int i = 0; i < 10; ++i) {
    a.insert("key", text(i), rows_of(text(i)));
    b.insert("key", text(i), rows_of(text(i)));
  }
  a.flush();
  b.flush();
  PrefixCache c(options());
  for (const auto& file : files()) fs::remove(file);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(found(a, text(i)), 10);
    EXPECT_EQ(found(c, text(i)), 0) << "they are gone, which is no damage";
  }
  EXPECT_EQ(c.stats().disk.damaged, 0);
  EXPECT_EQ(c.stats().disk.files, 0);
}

TEST_F(PrefixFiles, that_a_dead_process_left_unfinished_go) {
  write({1});
  const fs::path stale = files()[0].string() + ".123.unfinished", fresh = files()[0].string() + ".124.unfinished";
  for (const auto& file : {stale, fresh}) std::ofstream(file) << "half";
  fs::last_write_time(stale, fs::file_time_type::clock::now() - std::chrono::hours(2));
  PrefixCache held(options());
  EXPECT_FALSE(fs::exists(stale));
  EXPECT_TRUE(fs::exists(fresh));
}

TEST_F(PrefixFiles, need_a_folder) {
  folder_.write("cache", "a file");
  EXPECT_EQ(message_of([&] { PrefixCache held(options()); }),
            "[prefix cache] " + (folder_.path() / "cache").string() +
                ": expected a folder that can be written to, found another");
}

// A write that the system cuts short, as a full disk does.
TEST_F(PrefixFiles, are_no_longer_written_when_the_disk_is_full) {
  PrefixCache held(options());
  held.insert("key", text(1), rows_of(text(1)));
  held.flush();
  rlimit before;
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit full{1000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &full);
  held.insert("key", text(2), rows_of(text(2)));
  held.flush();
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  held.insert("key", text(3), rows_of(text(3)));
  held.flush();
  const auto stats = held.stats();
  EXPECT_EQ(stats.disk.errors, 1);
  EXPECT_EQ(stats.disk.written, 1);
  EXPECT_EQ(stats.disk.skipped, 1);
  EXPECT_EQ(files().size(), 1u) << "nothing half is left";
  for (int i : {1, 2, 3}) EXPECT_EQ(found(held, text(i)), 10) << "it goes on from memory";
}

}  // namespace
}  // namespace mlx_lm
