#include "mlx_lm/serve/engine.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "mlx_lm/cache/footprint.h"
#include "mlx_lm/serve/api_error.h"

namespace mlx_lm::serve {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// What allocators keep for the next time, to the system: a hostile grammar may have taken a gigabyte.
void give_memory_back() {
  mx::clear_cache();
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

int64_t now() { return Clock::now().time_since_epoch().count(); }

}  // namespace

struct Engine::Text {
  int number;
  TextJob job;
  std::vector<int> answer = {};
  int cached = 0;                                           // tokens of the prompt that were found
  size_t bytes = 0;                                         // reserved
  Clock::time_point submitted = Clock::now(), newest = {};  // the newest token

  const std::vector<int>& prompt() const { return *job.prompt; }
  int total() const { return int(prompt().size()); }
  bool is_prefilled() const { return newest != Clock::time_point{}; }
};

// A model and its texts.
struct Engine::Lane {
  std::shared_ptr<const ServedModel> model;
  std::unique_ptr<BatchGenerator> generator;
  cache::Footprint footprint;
  std::unordered_map<int, std::shared_ptr<Text>> texts = {};  // by uid
};

void EngineOptions::validate() const {
  batch.validate();
  if (queue < 1) fail<RequestError>("[server] queue: expected at least 1, found {}", queue);
  if (memory < size_t(1) << 20) fail<RequestError>("[server] memory: expected at least 1 MB, found {}", memory);
}

Engine::Engine(const EngineOptions& options, Metrics& metrics)
    : options_(options), metrics_(metrics), heartbeat_(now()) {
  options_.validate();
  prefixes_ = std::make_unique<Prefixes>(options_.prefixes, options_.batch, metrics_);
  thread_ = std::thread([this] { loop(); });
}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = quitting_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

std::vector<int> Engine::submit(std::vector<TextJob> jobs) {
  std::vector<int> numbers;
  for (const auto& job : jobs) {
    const auto& model = *job.model;
    if (job.prompt->empty()) throw ApiError(400, "prompt: expected at least one token, found none", "prompt");
    if (model.context_size > 0 && int(job.prompt->size()) >= model.context_size) {
      throw ApiError(400,
                     fmt::format("prompt: expected fewer tokens than the model's context of {}, found {}",
                                 model.context_size, job.prompt->size()),
                     "prompt", "context_length_exceeded");
    }
  }
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      ApiError error(503, "the server is stopping", {}, "stopping");
      error.retry_after = 5;
      throw error;
    }
    const int most = options_.queue + options_.batch.completion_batch_size;
    if (texts_ + int(jobs.size()) > most) {
      ApiError error(429, fmt::format("the queue is full: {} texts wait or are under way", texts_.load()), {},
                     "queue_full");
      error.retry_after = 2;
      throw error;
    }
    for (auto& job : jobs) {
      numbers.push_back(next_number_);
      submitted_.push_back(std::make_shared<Text>(Text{next_number_++, std::move(job)}));
    }
    texts_ += int(numbers.size());
  }
  wake_.notify_one();
  return numbers;
}

void Engine::cancel(const std::vector<int>& numbers) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.insert(cancelled_.end(), numbers.begin(), numbers.end());
  }
  wake_.notify_one();
}

void Engine::run(std::function<void()> function) {
  auto task = std::make_shared<std::packaged_task<void()>>(std::move(function));
  auto future = task->get_future();
  {
    const std::lock_guard lock(mutex_);
    if (quitting_) throw ApiError(503, "the server is stopping", {}, "stopping");
    functions_.push_back([task] { (*task)(); });
  }
  wake_.notify_one();
  future.get();
}

bool Engine::reserve(size_t bytes) {
  if (bytes > options_.memory) {
    throw ApiError(400,
                   fmt::format("input: its longest text may take {} MB of memory, expected at most the server's {} MB",
                               bytes >> 20, options_.memory >> 20),
                   "input", "out_of_memory");
  }
  if (reserved_ + bytes > options_.memory) return false;
  reserved_ += bytes;
  return true;
}

void Engine::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
}

bool Engine::idle() const { return texts_ == 0; }

bool Engine::is_alive(double seconds) const {
  return std::chrono::duration<double>(Clock::duration(now() - heartbeat_.load())).count() < seconds;
}

void Engine::loop() {
  std::unique_lock lock(mutex_);
  while (!quitting_) {
    heartbeat_ = now();
    take_commands(lock);  // leaves it locked
    lock.unlock();
    admit();
    bool busy = false;
    for (const auto& lane : lanes_) {
      if (lane->generator->empty()) continue;
      busy = true;
      step(*lane);
    }
    std::erase_if(lanes_, [](const auto& lane) { return lane->texts.empty() && lane->model.use_count() == 1; });
    update_gauges();
    lock.lock();
    if (busy || !submitted_.empty() || !cancelled_.empty() || !functions_.empty()) continue;
    // Wakes now and then for the heartbeat.
    const bool idle = wake_.wait_for(lock, std::chrono::seconds(1)) == std::cv_status::timeout && texts_ == 0;
    if (idle) give_memory_back();
  }
  lock.unlock();
  const auto error = std::make_exception_ptr(ApiError(503, "the server is stopping", {}, "stopping"));
  for (const auto& text : waiting_) text->job.sink->failed(error);
  for (const auto& text : submitted_) text->job.sink->failed(error);
  for (const auto& lane : lanes_) fail_all(*lane, error);
  lanes_.clear();  // on the thread that made the caches
  prefixes_.reset();
}

void Engine::take_commands(std::unique_lock<std::mutex>& lock) {
  auto submitted = std::exchange(submitted_, {});
  const auto cancelled = std::exchange(cancelled_, {});
  auto functions = std::exchange(functions_, {});
  lock.unlock();
  for (const auto& function : functions) function();
  waiting_.insert(waiting_.end(), submitted.begin(), submitted.end());
  if (!cancelled.empty()) {
    const std::set<int> numbers(cancelled.begin(), cancelled.end());
    const auto cancel = [&](TextSink& sink) {
      metrics_.cancelled.Increment();
      sink.finished(FinishReason::cancelled);
    };
    for (auto text = waiting_.begin(); text != waiting_.end();) {
      if (!numbers.contains((*text)->number)) {
        ++text;
        continue;
      }
      cancel(*(*text)->job.sink);
      text = waiting_.erase(text);
      texts_ -= 1;
    }
    for (const auto& lane : lanes_) {
      std::vector<int> uids;
      for (const auto& [uid, text] : lane->texts) {
        if (numbers.contains(text->number)) uids.push_back(uid);
      }
      for (int uid : uids) {
        lane->generator->remove(uid);
        end(*lane, uid, cancel);
      }
    }
  }
  lock.lock();
}

Engine::Lane& Engine::lane_of(const std::shared_ptr<const ServedModel>& model) {
  for (const auto& lane : lanes_) {
    if (lane->model == model) return *lane;
  }
  auto lane = std::make_unique<Lane>(Lane{model, std::make_unique<BatchGenerator>(model->model(), options_.batch), {}});
  auto caches = model->model().make_cache(options_.batch.max_kv_size);
  model->model()(mx::array({0}, {1, 1}, mx::int32), caches);
  for (const auto& cache : caches) {
    for (auto array : cache->state()) array.eval();
  }
  lane->footprint = cache::Footprint(caches, options_.batch.prefill_step_size);
  return *lanes_.emplace_back(std::move(lane));
}

// In the order in which they came, as long as the memory is enough for what they may become.
void Engine::admit() {
  int running = 0;
  for (const auto& lane : lanes_) running += int(lane->texts.size());
  for (auto at = waiting_.begin(); at != waiting_.end() && running < options_.batch.completion_batch_size;) {
    const auto text = *at;
    try {
      auto& lane = lane_of(text->job.model);
      if (is_behind(lane, *text)) {
        ++at;
        continue;
      }
      if (!admit(lane, text)) return;
      running += 1;
    } catch (...) {
      texts_ -= 1;
      metrics_.failed.Increment();
      text->job.sink->failed(std::current_exception());
    }
    at = waiting_.erase(at);
  }
}

// A prompt that is being computed begins like this one: what both have in common is worth waiting for.
bool Engine::is_behind(const Lane& lane, const Text& text) {
  constexpr int kWorthwhile = 64;  // tokens
  if (options_.prefixes.max_bytes == 0) return false;
  int most = 0;
  for (const auto& [_, other] : lane.texts) {
    if (other->is_prefilled()) continue;
    const auto& prompt = other->prompt();
    const auto parts = std::mismatch(prompt.begin(), prompt.end(), text.prompt().begin(), text.prompt().end()).first;
    most = std::max(most, int(parts - prompt.begin()));
  }
  return most >= kWorthwhile && most >= prefixes_->longest(*text.job.model, text.prompt()) + kWorthwhile;
}

// False: not yet.
bool Engine::admit(Lane& lane, const std::shared_ptr<Text>& text) {
  auto& job = text->job;
  auto& o = job.options;
  const int total = text->total();
  const int context = job.model->context_size;
  const int room = context > 0 ? context - total : std::numeric_limits<int>::max() / 2 - total;
  o.max_tokens = o.max_tokens < 0 ? room : std::min(o.max_tokens, room);
  text->bytes = lane.footprint(total + o.max_tokens);
  if (text->bytes > options_.memory) {
    throw ApiError(400,
                   fmt::format("max_tokens: a prompt of {} tokens and an answer of {} may take {} MB of memory, "
                               "expected at most the server's {} MB",
                               total, o.max_tokens, text->bytes >> 20, options_.memory >> 20),
                   "max_tokens", "out_of_memory");
  }
  if (reserved_ + text->bytes > options_.memory) return false;
  text->cached = prefixes_->begin(job.model, job.prompt, job.parts, o);
  const int uid = lane.generator->insert({job.prompt->begin() + text->cached, job.prompt->end()}, std::move(o));
  lane.texts[uid] = text;
  reserved_ += text->bytes;
  metrics_.queue_seconds.Observe(seconds_since(text->submitted));
  metrics_.prompt_tokens.Increment(total);
  job.sink->started(text->cached);
  return true;
}

void Engine::step(Lane& lane) {
  std::vector<BatchGenerator::Response> responses;
  try {
    responses = lane.generator->next();
  } catch (...) {
    // The step of all: none of them can be believed.
    fail_all(lane, std::current_exception());
    lane.generator = std::make_unique<BatchGenerator>(lane.model->model(), options_.batch);
    return;
  }
  for (const auto& progress : lane.generator->progress()) {
    const auto found = lane.texts.find(progress.uid);
    if (found == lane.texts.end()) continue;
    const auto& text = *found->second;
    text.job.sink->progress(text.cached + progress.processed, text.total());
  }
  if (!responses.empty()) metrics_.batch_tokens.Set(double(responses.size()));
  for (auto& response : responses) {
    const auto found = lane.texts.find(response.uid);
    if (found == lane.texts.end()) continue;
    if (response.error) {
      fail(lane, response.uid, response.error);
      continue;
    }
    const auto held = found->second;
    auto& text = *held;
    const bool first = !text.is_prefilled();
    (first ? metrics_.first_token_seconds : metrics_.inter_token_seconds)
        .Observe(seconds_since(first ? text.submitted : text.newest));
    text.newest = Clock::now();
    metrics_.generation_tokens.Increment();
    text.answer.push_back(response.token);
    try {
      const bool more = text.job.sink->token(response.token, response.logprobs);
      if (!more && !response.finish_reason) {
        response.caches = lane.generator->remove(response.uid);
        response.finish_reason = FinishReason::stop;
      }
      if (!response.finish_reason) continue;
      const auto reason = *response.finish_reason;
      end(lane, response.uid, [&](TextSink& sink) { sink.finished(reason); });
    } catch (...) {
      // One text's failure is not the others'.
      lane.generator->remove(response.uid);
      fail(lane, response.uid, std::current_exception());
      continue;
    }
    auto tokens = text.prompt();
    tokens.insert(tokens.end(), text.answer.begin(), text.answer.end());
    prefixes_->hold(*text.job.model, tokens, response.caches);
  }
}

void Engine::end(Lane& lane, int uid, const std::function<void(TextSink&)>& tell) {
  const auto found = lane.texts.find(uid);
  if (found == lane.texts.end()) return;
  const auto text = found->second;
  lane.texts.erase(found);
  reserved_ -= text->bytes;
  texts_ -= 1;
  metrics_.answer_seconds.Observe(seconds_since(text->submitted));
  tell(*text->job.sink);
}

void Engine::fail(Lane& lane, int uid, const std::exception_ptr& error) {
  metrics_.failed.Increment();
  end(lane, uid, [&](TextSink& sink) { sink.failed(error); });
}

void Engine::fail_all(Lane& lane, std::exception_ptr error) {
  while (!lane.texts.empty()) fail(lane, lane.texts.begin()->first, error);
}

void Engine::update_gauges() {
  size_t texts = 0, bytes = 0;
  for (const auto& lane : lanes_) {
    texts += lane->texts.size();
    bytes += lane->generator->cache_nbytes();
  }
  metrics_.waiting.Set(double(waiting_.size()));
  metrics_.running.Set(double(texts));
  metrics_.text_bytes.Set(double(bytes));
  metrics_.reserved_bytes.Set(double(reserved_));
}

}  // namespace mlx_lm::serve
