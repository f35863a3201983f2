#include "mlx_lm/generate/prefix_store.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string_view>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"
#include "mlx_lm/base/mapped_file.h"
#include "mlx_lm/cache/saved_cache.h"
#include "mlx_lm/hub/digest.h"
#include "mlx_lm/hub/safetensors_header.h"
#include "mlx_lm/load/prompt_cache.h"

namespace mlx_lm {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::string_view kBegin = "prefix-", kEnd = ".safetensors", kUnfinished = ".unfinished";
constexpr const char* kVersion = "1";
constexpr auto kAbandoned = 1h;  // since an unfinished file was last written to

std::string hash(std::string_view text) {
  Sha256 digest;
  digest.update(text);
  return digest.hex();
}

bool is_hex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == text.npos; }

// prefix-<16 digits>-<16 digits>.safetensors
bool is_ours(std::string_view name) {
  return name.size() == kBegin.size() + 33 + kEnd.size() && name.starts_with(kBegin) && name.ends_with(kEnd) &&
         is_hex(name.substr(kBegin.size(), 16)) && name[kBegin.size() + 16] == '-' &&
         is_hex(name.substr(kBegin.size() + 17, 16));
}

// What save_prompt_cache() of a process that is no more has left: <ours>.<digits>.unfinished
bool is_unfinished(std::string_view name) {
  const size_t length = kBegin.size() + 33 + kEnd.size();
  return name.size() > length && is_ours(name.substr(0, length)) && name.ends_with(kUnfinished);
}

std::string text_of(std::span<const int> tokens) { return fmt::format("{}", fmt::join(tokens, ",")); }

std::optional<std::vector<int>> tokens_of(std::string_view text) {
  std::vector<int> tokens;
  const char *at = text.data(), *end = at + text.size();
  for (;;) {
    int token;
    const auto [next, error] = std::from_chars(at, end, token);
    if (error != std::errc() || token < 0) return std::nullopt;
    tokens.push_back(token);
    if (next == end) return tokens;
    if (*next != ',') return std::nullopt;
    at = next + 1;
  }
}

// Of all that the index is made of, so that a header does not have a word of it wrong.
fs::path file_name(const std::string& key_hash, const std::string& tokens, bool cuttable) {
  const auto text = fmt::format("{}\n{}\n{}", key_hash, tokens, cuttable);
  return fmt::format("{}{}-{}{}", kBegin, key_hash.substr(0, 16), hash(text).substr(0, 16), kEnd);
}

// Of everything that is read again.
std::string digest_of(const std::string& key_hash, const std::string& tokens, const cache::KVCaches& caches) {
  Sha256 digest;
  digest.update(fmt::format("{}\n{}\n{}\n", key_hash, tokens, caches.size()));
  for (const auto& cache : caches) {
    const auto saved = cache::saved(*cache);
    digest.update(fmt::format("{} {}\n", saved.kind, cache->offset()));
    for (const auto& [place, number] : saved.numbers) digest.update(fmt::format("{} = {}\n", place, number));
    for (const auto& [place, text] : saved.texts) digest.update(fmt::format("{} = {}\n", place, text));
    for (const auto& place : saved.nothing) digest.update(fmt::format("{} nothing\n", place));
    for (const auto& [place, array] : saved.arrays) {
      auto data = mx::contiguous(array);
      data.eval();
      digest.update(fmt::format("{} {} ({})\n", place, int(data.dtype().val()), fmt::join(data.shape(), ", ")));
      digest.update(std::as_bytes(std::span(data.data<char>(), data.nbytes())));
    }
  }
  return digest.hex();
}

template <class F>
void each_file(const fs::path& dir, F f) {
  std::error_code error;
  for (auto at = fs::directory_iterator(dir, error); !error && at != fs::directory_iterator(); at.increment(error)) {
    std::error_code other;
    if (at->symlink_status(other).type() == fs::file_type::regular) f(*at, at->path().filename().string());
  }
}

}  // namespace

PrefixStore::PrefixStore(PrefixStoreOptions options) : options_(std::move(options)) {
  std::error_code error;
  const bool made = fs::create_directories(options_.dir, error);
  // What people asked is nobody else's business.
  if (made) fs::permissions(options_.dir, fs::perms::owner_all, error);
  const auto probe = options_.dir / fmt::format("prefix-probe.{}", ::getpid());
  const bool writable = fs::is_directory(options_.dir, error) && std::ofstream(probe).put('0').flush().good();
  fs::remove(probe, error);
  if (!writable) {
    fail<Error>("[prefix cache] {}: expected a folder that can be written to, found another", options_.dir.string());
  }
  allowance_ = double(options_.max_write_bytes_per_hour);
  refilled_ = options_.now();
  read_index();
  writer_ = std::thread([this] { run(); });
}

PrefixStore::~PrefixStore() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  writer_.join();
}

void PrefixStore::read_index() {
  each_file(options_.dir, [&](const fs::directory_entry& file, const std::string& name) {
    std::error_code error;
    if (is_unfinished(name) && fs::file_time_type::clock::now() - file.last_write_time(error) > kAbandoned && !error) {
      fs::remove(file.path(), error);
    }
    if (!is_ours(name)) return;
    try {
      std::map<std::string, std::string> metadata;
      read_safetensors_header(MappedFile::open(file.path())->bytes(), name, &metadata);
      auto tokens = tokens_of(metadata["0.prefix_tokens"]);
      const auto& key = metadata["0.prefix_key"];
      const bool cuttable = metadata["0.prefix_cuttable"] == "1";
      if (metadata["0.prefix_version"] != kVersion || !tokens ||
          name != file_name(key, metadata["0.prefix_tokens"], cuttable).string()) {
        fail<WeightError>("[prefix cache] {}: expected a prefix and its name, found another", name);
      }
      entries_.push_back({file.path(), key, std::move(*tokens), cuttable});
    } catch (const WeightError&) {
      stats_.damaged += 1;
      fs::remove(file.path(), error);
    }
  });
}

const PrefixStore::Entry* PrefixStore::best(const std::string& key_hash, std::span<const int> tokens, int limit,
                                            int* common) const {
  const Entry* best = nullptr;
  *common = 0;
  tokens = tokens.first(size_t(std::clamp(limit, 0, int(tokens.size()))));
  for (const auto& entry : entries_) {
    if (entry.key != key_hash) continue;
    const auto same = std::mismatch(entry.tokens.begin(), entry.tokens.end(), tokens.begin(), tokens.end()).first;
    const int n = int(same - entry.tokens.begin());
    if (n > *common && (entry.cuttable || same == entry.tokens.end())) best = &entry, *common = n;
  }
  return best;
}

int PrefixStore::longest(const std::string& key, std::span<const int> tokens, int limit) const {
  const std::lock_guard lock(mutex_);
  int common;
  best(hash(key), tokens, limit, &common);
  return common;
}

std::optional<PrefixStore::Text> PrefixStore::load(const std::string& key, std::span<const int> tokens, int limit,
                                                   const Check& check) {
  const auto key_hash = hash(key);
  Entry entry;
  {
    const std::lock_guard lock(mutex_);
    int common;
    const Entry* found = best(key_hash, tokens, limit, &common);
    if (!found) return std::nullopt;
    entry = *found;
  }
  std::error_code error;
  try {
    auto saved = load_prompt_cache(entry.file);
    const auto text = text_of(entry.tokens);
    for (auto& cache : saved.caches) cache->assume_offset(int(entry.tokens.size()));
    for (const auto& cache : saved.caches) {
      if (cache->offset() != int(entry.tokens.size())) {
        fail<WeightError>("[prefix cache] {}: expected {} tokens, found {}", entry.file.string(), entry.tokens.size(),
                          cache->offset());
      }
    }
    if (saved.metadata["prefix_digest"] != digest_of(key_hash, text, saved.caches)) {
      fail<WeightError>("[prefix cache] {}: expected data of its checksum, found others", entry.file.string());
    }
    if (check) check(saved.caches, entry.file.string());
    fs::last_write_time(entry.file, fs::file_time_type::clock::now(), error);
    return Text{std::move(entry.tokens), std::move(saved.caches)};
  } catch (const Error&) {
    const bool there = fs::exists(entry.file, error);
    if (there) fs::remove(entry.file, error);
    forget(entry.file);
    const std::lock_guard lock(mutex_);
    stats_.damaged += there;
    return std::nullopt;
  }
}

void PrefixStore::forget(const fs::path& file) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const auto& entry) { return entry.file == file; });
}

void PrefixStore::write(const std::string& key, std::span<const int> tokens, HeldPrefix prefix) {
  size_t bytes = nbytes(prefix.whole) + tokens.size() * prefix.form->row_bytes();
  {
    const std::lock_guard lock(mutex_);
    if (stats_.errors > 0 || waiting_bytes_ + bytes > options_.max_waiting_bytes) {
      stats_.skipped += 1;
      return;
    }
    const auto key_hash = hash(key);
    // A conversation that goes on before its beginning was written is written once.
    if (prefix.form->cuttable() && !jobs_.empty() && jobs_.back().key == key_hash &&
        jobs_.back().tokens.size() <= tokens.size() &&
        std::equal(jobs_.back().tokens.begin(), jobs_.back().tokens.end(), tokens.begin())) {
      waiting_bytes_ -= jobs_.back().bytes;
      jobs_.pop_back();
    }
    jobs_.push_back({key_hash, {tokens.begin(), tokens.end()}, std::move(prefix), bytes});
    waiting_bytes_ += bytes;
  }
  changed_.notify_all();
}

void PrefixStore::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return jobs_.empty() && !busy_; });
}

PrefixStore::Stats PrefixStore::stats() const {
  const std::lock_guard lock(mutex_);
  auto stats = stats_;
  stats.files = int(entries_.size());
  return stats;
}

void PrefixStore::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    auto job = std::make_unique<Job>(std::move(jobs_.front()));
    jobs_.pop_front();
    busy_ = true;
    lock.unlock();
    bool failed = false;
    try {
      write(*job);
    } catch (const std::exception&) {
      failed = true;
    }
    const size_t bytes = job->bytes;
    job.reset();
    lock.lock();
    waiting_bytes_ -= bytes;
    if (failed) stats_.errors += 1;
    busy_ = false;
    changed_.notify_all();
  }
}

// As much as the hours since have given back, at most one hour's.
bool PrefixStore::afford(uint64_t bytes) {
  const double most = double(options_.max_write_bytes_per_hour);
  if (most == 0) return true;
  const auto now = options_.now();
  allowance_ = std::min(most, allowance_ + most * std::chrono::duration<double>(now - refilled_) / 1h);
  refilled_ = now;
  if (double(bytes) > allowance_) return false;
  allowance_ -= double(bytes);
  return true;
}

// The folder is looked at anew, for other processes write there too.
bool PrefixStore::make_room(uint64_t bytes) {
  struct File {
    fs::file_time_type used;
    uint64_t size;
    fs::path path;
  };
  std::vector<File> files;
  uint64_t sum = bytes;
  each_file(options_.dir, [&](const fs::directory_entry& file, const std::string& name) {
    std::error_code error, other;
    if (!is_ours(name)) return;
    const auto size = file.file_size(error);
    const auto used = file.last_write_time(other);
    if (error || other) return;  // gone since
    files.push_back({used, size, file.path()});
    sum += size;
  });
  std::ranges::sort(files, {}, &File::used);
  for (const auto& file : files) {
    if (sum <= options_.max_bytes) break;
    std::error_code error;
    if (fs::remove(file.path, error)) {
      const std::lock_guard lock(mutex_);
      stats_.removed += 1;
    }
    forget(file.path);
    sum -= file.size;
  }
  return sum <= options_.max_bytes;
}

void PrefixStore::write(const Job& job) {
  const auto text = text_of(job.tokens);
  const bool cuttable = job.prefix.form->cuttable();
  const auto file = options_.dir / file_name(job.key, text, cuttable);
  std::error_code error;
  {
    const std::lock_guard lock(mutex_);
    if (stats_.errors > 0) {
      stats_.skipped += 1;
      return;
    }
    if (std::ranges::any_of(entries_, [&](const auto& entry) { return entry.file == file; }) &&
        fs::exists(file, error)) {
      fs::last_write_time(file, fs::file_time_type::clock::now(), error);
      return;
    }
  }
  // Its header has its tokens, and the places of its arrays.
  const uint64_t bytes = job.bytes + text.size() + 4096;
  if (bytes > options_.max_bytes || !afford(bytes) || !make_room(bytes)) {
    const std::lock_guard lock(mutex_);
    stats_.skipped += 1;
    return;
  }
  {
    const auto caches = job.prefix.caches(0);
    save_prompt_cache(file, caches,
                      {{"prefix_version", kVersion},
                       {"prefix_key", job.key},
                       {"prefix_tokens", text},
                       {"prefix_cuttable", cuttable ? "1" : "0"},
                       {"prefix_digest", digest_of(job.key, text, caches)}});
  }
  const auto size = fs::file_size(file, error);
  std::vector<fs::path> replaced;
  {
    const std::lock_guard lock(mutex_);
    stats_.written += 1;
    stats_.written_bytes += error ? 0 : size;
    std::erase_if(entries_, [&](const Entry& entry) {
      if (entry.file == file) return true;
      const bool beginning = cuttable && entry.cuttable && entry.key == job.key &&
                             entry.tokens.size() < job.tokens.size() &&
                             std::equal(entry.tokens.begin(), entry.tokens.end(), job.tokens.begin());
      if (beginning) replaced.push_back(entry.file);
      return beginning;
    });
    entries_.push_back({file, job.key, job.tokens, cuttable});
  }
  for (const auto& path : replaced) fs::remove(path, error);
}

}  // namespace mlx_lm
