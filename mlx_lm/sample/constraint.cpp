#include "mlx_lm/sample/constraint.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>

#include <fmt/ranges.h>

#include "mlx_lm/base/error.h"

namespace mlx_lm::sample {

// The matcher, and the thread that has it while a mask is under way.
class Constraint::Worker {
 public:
  explicit Worker(GrammarMatcher matcher) : matcher_(std::move(matcher)) {}

  void prepare() {
    const std::lock_guard lock(mutex_);
    if (state_ != State::none) return;
    state_ = State::wanted;
    if (!thread_.joinable()) thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
    changed_.notify_all();
  }

  // Whoever has this has the matcher.
  GrammarMatcher& matcher() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return state_ != State::wanted; });
    return matcher_;
  }

  // For what changes the text: the mask is no longer the next one.
  GrammarMatcher& changing() {
    auto& matcher = this->matcher();
    state_ = State::none;
    return matcher;
  }

  // Byte i: token i may come next.
  const bool* allowed() {
    prepare();
    matcher();
    if (error_) {
      state_ = State::none;
      std::rethrow_exception(std::exchange(error_, nullptr));
    }
    if (!any_) fail<RequestError>("[constraint] logits: expected none after the end of the text, found some");
    return allowed_.get();
  }

 private:
  enum class State { none, wanted, ready };

  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [this] { return state_ == State::wanted; })) {
      lock.unlock();
      try {
        compute();
      } catch (...) {
        error_ = std::current_exception();
      }
      lock.lock();
      state_ = State::ready;
      changed_.notify_all();
    }
  }

  void compute() {
    const size_t tokens = size_t(matcher_.vocabulary());
    if (!allowed_) {
      bits_.resize((tokens + 31) / 32);
      allowed_ = std::make_unique<bool[]>(bits_.size() * 32);
    }
    matcher_.mask(bits_);
    any_ = std::any_of(bits_.begin(), bits_.end(), [](uint32_t word) { return word != 0; });
    for (size_t word = 0; word < bits_.size(); ++word) {
      for (int bit = 0; bit < 32; ++bit) allowed_[32 * word + bit] = bits_[word] >> bit & 1;
    }
  }

  GrammarMatcher matcher_;
  std::vector<uint32_t> bits_;
  std::unique_ptr<bool[]> allowed_;
  bool any_ = false;
  std::exception_ptr error_;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  State state_ = State::none;
  std::jthread thread_;  // last, so that it ends before what it uses
};

Constraint::Constraint(GrammarMatcher matcher) : worker_(std::make_unique<Worker>(std::move(matcher))) {}
Constraint::Constraint(const Constraint& other) : Constraint(GrammarMatcher(other.worker_->matcher())) {}
Constraint& Constraint::operator=(const Constraint& other) { return *this = Constraint(other); }
Constraint::Constraint(Constraint&&) noexcept = default;
Constraint& Constraint::operator=(Constraint&&) noexcept = default;
Constraint::~Constraint() = default;

void Constraint::prepare() { worker_->prepare(); }

mx::array Constraint::apply(const mx::array& logits) {
  const int tokens = worker_->matcher().vocabulary();
  if (logits.ndim() != 2 || logits.shape(0) != 1 || logits.shape(1) != tokens) {
    fail<RequestError>("[constraint] logits: expected shape (1, {}), found ({})", tokens,
                       fmt::join(logits.shape(), ", "));
  }
  const auto allowed = mx::array(worker_->allowed(), {1, tokens}, mx::bool_);
  return mx::where(allowed, logits, mx::array(-std::numeric_limits<float>::infinity(), logits.dtype()));
}

void Constraint::commit(int token) {
  if (!worker_->changing().commit(token)) {
    fail<RequestError>("[constraint] token: expected one that the grammar allows here, found {}", token);
  }
}

std::vector<int> Constraint::forced() { return worker_->matcher().forced(); }
int Constraint::validate(std::span<const int> drafts) { return worker_->matcher().validate(drafts); }
void Constraint::rollback(int n) { worker_->changing().rollback(n); }
bool Constraint::accepts() { return worker_->matcher().accepts(); }
bool Constraint::is_done() { return worker_->matcher().stopped(); }
std::optional<std::vector<int>> Constraint::ending(int limit) { return worker_->matcher().ending(limit); }

}  // namespace mlx_lm::sample
