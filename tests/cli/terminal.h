// Runs a program on a pseudo-terminal: types into it and sees what it shows.
#pragma once

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

class Terminal {
 public:
  // environment: NAME=value, added to the test's own.
  Terminal(std::string path, std::vector<std::string> arguments, const std::vector<std::string>& environment = {}) {
    // Wide, so that no text that is waited for is broken.
    winsize size{.ws_row = 24, .ws_col = 400, .ws_xpixel = 0, .ws_ypixel = 0};
    arguments.insert(arguments.begin(), path);
    std::vector<char*> words;
    for (auto& each : arguments) words.push_back(each.data());
    words.push_back(nullptr);
    pid_ = ::forkpty(&descriptor_, nullptr, nullptr, &size);
    if (pid_ < 0) throw std::runtime_error("forkpty");
    if (pid_ == 0) {
      for (const auto& each : environment) ::putenv(const_cast<char*>(each.c_str()));
      ::execv(path.c_str(), words.data());
      ::_exit(127);
    }
  }
  ~Terminal() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(descriptor_);
  }

  void type(std::string_view keys) {
    if (::write(descriptor_, keys.data(), keys.size()) != ssize_t(keys.size())) throw std::runtime_error("pty");
  }
  // Waits until the text is shown after what was waited for before. False: the program ended, or did nothing for a
  // minute.
  bool shows(std::string_view text) {
    for (;;) {
      if (const size_t at = shown_.find(text, seen_); at != shown_.npos) {
        seen_ = at + text.size();
        return true;
      }
      if (!read_more()) return false;
    }
  }
  // Waits until so many bytes more are shown.
  bool shows_more(size_t bytes) {
    while (shown_.size() < seen_ + bytes) {
      if (!read_more()) return false;
    }
    return true;
  }
  // The rest, and the exit status: 137 for a program that had to be ended, since it did nothing for a minute.
  int wait() {
    while (read_more()) {
    }
    int status = 0;
    // Its end of the terminal is closed when it ends, or soon after that.
    for (int i = 0; ::waitpid(pid_, &status, WNOHANG) == 0; ++i) {
      if (i == 1000) ::kill(pid_, SIGKILL);
      ::usleep(10'000);
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& shown() const { return shown_; }

 private:
  bool read_more() {
    pollfd wait{descriptor_, POLLIN, 0};
    char bytes[4096];
    if (::poll(&wait, 1, 60'000) != 1) return false;
    const auto n = ::read(descriptor_, bytes, sizeof bytes);
    if (n <= 0) return false;
    shown_.append(bytes, size_t(n));
    return true;
  }

  int descriptor_ = -1;
  pid_t pid_ = 0;
  std::string shown_;
  size_t seen_ = 0;
};
