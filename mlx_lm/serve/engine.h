// The thread that computes: all texts of all requests, a step at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "mlx_lm/generate/batch_generator.h"
#include "mlx_lm/serve/metrics.h"
#include "mlx_lm/serve/prefixes.h"
#include "mlx_lm/serve/served_model.h"

namespace mlx_lm::serve {

struct EngineOptions {
  // Small pieces of prompts, so that the texts under way do not wait for long; a CPU computes them as fast as large
  // ones.
  BatchOptions batch{.prefill_step_size = 128};
  PrefixCacheOptions prefixes;  // max_bytes 0: none
  // Bytes that the caches of all texts may take together, those that are to come included; a text that would not fit
  // waits.
  size_t memory = size_t(4) << 30;
  int queue = 256;  // texts that may wait

  // Errors: RequestError that names the option.
  void validate() const;
};

// Who is told what comes of a text, on the engine's thread; nothing after finished() or failed().
class TextSink {
 public:
  virtual ~TextSink() = default;
  // The text is under way. cached_tokens: of its prompt, that need not be computed.
  virtual void started(int cached_tokens) = 0;
  // The prompt: tokens computed so far, and in all.
  virtual void progress(int processed, int total) = 0;
  // The next token. logprobs: (V), lazy. False: that is enough, and finished(stop) follows.
  virtual bool token(int token, const mx::array& logprobs) = 0;
  virtual void finished(FinishReason reason) = 0;
  virtual void failed(std::exception_ptr error) = 0;
};

struct TextJob {
  std::shared_ptr<const ServedModel> model;
  std::shared_ptr<const std::vector<int>> prompt;
  SequenceOptions options;  // without a prompt_cache and snapshots
  std::shared_ptr<TextSink> sink;
  std::vector<int> parts = {};  // tokens of the prompt after which other prompts may part from it
};

// Threads: any, unless said otherwise.
class Engine {
 public:
  // metrics must outlive it.
  Engine(const EngineOptions& options, Metrics& metrics);
  // Texts that are not done fail with status 503.
  ~Engine();

  // Texts that begin together; the numbers they are known by. Errors: ApiError with status 429 when the queue is full
  // or a text needs more memory than there is, 400 for a prompt that is empty or too long, 503 after stop().
  std::vector<int> submit(std::vector<TextJob> jobs);
  // Ends texts: finished(cancelled), unless they are done already.
  void cancel(const std::vector<int>& numbers);
  // Runs a function on the engine's thread, between two steps; what it throws comes out of the future.
  void run(std::function<void()> function);
  // Takes bytes from the memory of the texts, for what such a function holds. False: they are not free now. Threads:
  // the engine's. Errors: ApiError with status 400 for more than there is.
  bool reserve(size_t bytes);
  void release(size_t bytes) { reserved_ -= bytes; }
  // Tokens of a prompt that are computed between two steps.
  int piece() const { return options_.batch.prefill_step_size; }

  // No more texts are taken. Those under way go on.
  void stop();
  // No text is waiting or under way.
  bool idle() const;
  // The thread is working, or waiting for work: no step takes longer than so many seconds.
  bool is_alive(double seconds) const;

 private:
  struct Text;
  struct Lane;

  void loop();
  void take_commands(std::unique_lock<std::mutex>& lock);
  void admit();
  bool admit(Lane& lane, const std::shared_ptr<Text>& text);
  bool is_behind(const Lane& lane, const Text& text);
  void step(Lane& lane);
  void end(Lane& lane, int uid, const std::function<void(TextSink&)>& tell);
  void fail(Lane& lane, int uid, const std::exception_ptr& error);
  Lane& lane_of(const std::shared_ptr<const ServedModel>& model);
  void fail_all(Lane& lane, std::exception_ptr error);
  void update_gauges();

  const EngineOptions options_;
  Metrics& metrics_;
  std::atomic<int64_t> heartbeat_;
  std::atomic<int> texts_ = 0;  // waiting or under way

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Under the mutex.
  bool stopping_ = false, quitting_ = false;
  int next_number_ = 0;
  std::vector<std::shared_ptr<Text>> submitted_;
  std::vector<int> cancelled_;
  std::deque<std::function<void()>> functions_;

  // The thread's own.
  std::deque<std::shared_ptr<Text>> waiting_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  size_t reserved_ = 0;  // bytes
  std::unique_ptr<Prefixes> prefixes_;
  std::thread thread_;
};

}  // namespace mlx_lm::serve
