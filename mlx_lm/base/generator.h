// A range whose elements a coroutine makes one at a time (C++23's std::generator, in little).
#pragma once

#include <coroutine>
#include <exception>
#include <iterator>
#include <memory>
#include <utility>

namespace mlx_lm {

// for (auto& value : generator) ...; walked once. What the coroutine throws comes out of the loop. Leaving the loop
// early destroys the coroutine where it stands.
template <class T>
class [[nodiscard]] Generator {
 public:
  struct promise_type {
    Generator get_return_object() { return Generator(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always yield_value(T& value) noexcept {
      current = std::addressof(value);
      return {};
    }
    // Named variables only: GCC 12 copies an aggregate temporary in a co_yield bit by bit and destroys both copies.
    std::suspend_always yield_value(T&&) = delete;
    void return_void() noexcept {}
    void unhandled_exception() { error = std::current_exception(); }

    T* current = nullptr;  // lives in the coroutine until it resumes
    std::exception_ptr error;
  };

  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = T;

    iterator() = default;
    T& operator*() const { return *handle_.promise().current; }
    T* operator->() const { return handle_.promise().current; }
    iterator& operator++() {
      advance(handle_);
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) { return !it.handle_ || it.handle_.done(); }

   private:
    friend Generator;
    explicit iterator(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
  };

  iterator begin() {
    advance(handle_);
    return iterator(handle_);
  }
  std::default_sentinel_t end() const noexcept { return {}; }

  Generator(Generator&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Generator& operator=(Generator&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Generator() {
    if (handle_) handle_.destroy();
  }

 private:
  using Handle = std::coroutine_handle<promise_type>;
  explicit Generator(Handle handle) : handle_(handle) {}

  static void advance(Handle handle) {
    handle.resume();
    if (auto error = std::exchange(handle.promise().error, nullptr)) std::rethrow_exception(error);
  }

  Handle handle_;
};

}  // namespace mlx_lm
