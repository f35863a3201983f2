// Runs a program as a child process and sees what it wrote and how it ended.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/load/temp_folder.h"

extern char** environ;

struct Ended {
  int status;  // as a shell has it: 128 + the signal's number for one that a signal ended
  std::string out, err;
};

class Program {
 public:
  using Arguments = std::vector<std::string>;

  explicit Program(std::string path = MLX_LM_PROGRAM) : path_(std::move(path)) {}
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  std::string input;                      // standard input
  std::optional<std::string> input_file;  // which comes from this file instead
  std::optional<std::string> output;      // standard output goes to this file instead
  std::optional<int> output_descriptor;   // or to this descriptor, which is closed here
  std::vector<int> closed;                // standard streams that are closed
  std::vector<std::string> environment;   // NAME=value, added to the test's own

  Ended run(const Arguments& arguments) {
    start(arguments);
    return wait();
  }

  void start(const Arguments& arguments) {
    std::ofstream(file("in"), std::ios::binary) << input;
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
    ::posix_spawn_file_actions_addopen(&actions, 0, input_file.value_or(file("in")).c_str(), O_RDONLY, 0);
    if (output_descriptor) {
      ::posix_spawn_file_actions_adddup2(&actions, *output_descriptor, 1);
    } else {
      ::posix_spawn_file_actions_addopen(&actions, 1, output.value_or(file("out")).c_str(), kWrite, 0600);
    }
    ::posix_spawn_file_actions_addopen(&actions, 2, file("err").c_str(), kWrite, 0600);
    for (int stream : closed) ::posix_spawn_file_actions_addclose(&actions, stream);

    std::vector<std::string> words = {path_};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<std::string> variables = {"HF_HUB_OFFLINE=1"};
    variables.insert(variables.end(), environment.begin(), environment.end());
    for (char** variable = environ; *variable; ++variable) variables.emplace_back(*variable);
    const int error =
        ::posix_spawn(&pid_, path_.c_str(), &actions, nullptr, pointers(words).data(), pointers(variables).data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (output_descriptor) ::close(*output_descriptor);
    if (error != 0) throw std::runtime_error("posix_spawn " + path_);
  }

  void signal(int number) { ::kill(pid_, number); }

  // What standard output holds by now.
  std::string written() const { return read("out"); }
  // Waits until it holds more than so many bytes. False: it never did.
  bool has_written(size_t bytes) const {
    for (int i = 0; i < 3000; ++i) {
      if (written().size() > bytes) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }

  // A program that does not end within two minutes is ended: status 137.
  Ended wait() {
    int status = 0;
    for (int i = 0; ::waitpid(pid_, &status, WNOHANG) == 0; ++i) {
      if (i == 12000) ::kill(pid_, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    pid_ = 0;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read("out"), read("err")};
  }

 private:
  std::string file(const char* name) const { return (folder_.path() / name).string(); }
  std::string read(const char* name) const {
    std::ifstream in(file(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> out;
    for (auto& word : words) out.push_back(word.data());
    out.push_back(nullptr);
    return out;
  }

  TempFolder folder_;
  std::string path_;
  pid_t pid_ = 0;
};
