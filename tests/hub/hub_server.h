// A hub of our own on 127.0.0.1 (hub_server.py), a cache in a temporary folder, and the environment that points to
// both.
#pragma once

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mlx_lm/base/error.h"
#include "mlx_lm/hub/download.h"

#include "tests/load/temp_folder.h"

namespace mlx_lm {

namespace fs = std::filesystem;

inline std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Set until the test ends; the variables of the caller's own shell must not matter to it.
class Environment {
 public:
  ~Environment() {
    for (auto& [name, value] : before_) put(name, value);
  }
  void set(const std::string& name, const std::optional<std::string>& value) {
    const char* now = std::getenv(name.c_str());
    before_.emplace(name, now ? std::optional<std::string>(now) : std::nullopt);
    put(name, value);
  }

 private:
  static void put(const std::string& name, const std::optional<std::string>& value) {
    value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
  }
  std::map<std::string, std::optional<std::string>> before_;
};

// The server's process; it ends with its standard input, so also when the test crashes.
class HubServer {
 public:
  HubServer(const std::string& scenario, const std::string& log) : certificate(log + ".pem") {
    int in[2], out[2];
    if (pipe(in) || pipe(out)) throw std::runtime_error("pipe");
    const std::string script = std::string(MLX_LM_TEST_DATA) + "/hub/hub_server.py";
    std::vector<std::string> words = {"python3", script, scenario, log};
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    for (int fd : {in[0], in[1], out[0], out[1]}) posix_spawn_file_actions_addclose(&actions, fd);
    if (posix_spawnp(&pid_, "python3", &actions, nullptr, argv.data(), environ)) throw std::runtime_error("python3");
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    stdin_ = in[1];
    std::string line;
    for (char c; read(out[0], &c, 1) == 1 && c != '\n';) line += c;
    close(out[0]);
    std::istringstream(line) >> hub_port >> cdn_port >> tls_port;
    if (!tls_port) throw std::runtime_error("hub_server.py did not start");
  }
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;
  ~HubServer() { stop(); }

  void stop() {
    if (stdin_ < 0) return;
    close(stdin_);
    stdin_ = -1;
    waitpid(pid_, nullptr, 0);
  }

  int hub_port = 0, cdn_port = 0, tls_port = 0;
  const std::string certificate;  // of the hub with TLS

 private:
  pid_t pid_ = 0;
  int stdin_ = -1;
};

class HubTest : public testing::Test {
 protected:
  using json = nlohmann::json;
  static constexpr const char* kRepo = "org/tiny";
  inline static const std::string kSha = "0123456789abcdef0123456789abcdef01234567";
  static constexpr int kBig = 1'000'000;

  HubTest() {
    for (auto name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
                      "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "SSL_CERT_FILE", "XDG_CACHE_HOME", "HTTP_PROXY",
                      "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}) {
      env_.set(name, std::nullopt);
    }
    env_.set("HF_HOME", home().string());
    env_.set("HOME", (folder_.path() / "nobody").string());
    save();
    server_.emplace((folder_.path() / "scenario.json").string(), (folder_.path() / "log").string());
    env_.set("HF_ENDPOINT", "http://127.0.0.1:" + std::to_string(server_->hub_port));
  }

  // What the server offers from now on.
  json scenario_ = {{"repo", kRepo},
                    {"sha", kSha},
                    {"files",
                     {{"config.json", {{"text", "{}"}}},
                      {"model.safetensors", {{"size", kBig}, {"lfs", true}}},
                      {"sub/notes.txt", {{"text", "hello"}}}}}};
  void save() {
    // In one step: the server may be reading it.
    folder_.write("scenario.new", scenario_.dump());
    fs::rename(folder_.path() / "scenario.new", folder_.path() / "scenario.json");
  }
  void fault(const std::string& on, json what) {
    what["on"] = on;
    scenario_["faults"].push_back(what);
    save();
  }
  void only_big() {
    scenario_["files"] = {{"model.safetensors", {{"size", kBig}, {"lfs", true}}}};
    save();
  }

  fs::path download(DownloadOptions options = {}) { return download_snapshot(kRepo, options); }
  // The error's text, which must be one line.
  std::string refused(DownloadOptions options = {}, const std::string& repo = kRepo) {
    try {
      download_snapshot(repo, options);
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_EQ(text.find('['), 0u) << text;
      return text;
    }
    ADD_FAILURE() << "expected an error, found none";
    return "";
  }

  // The requests so far: "METHOD PATH", with " RANGE" and " TOKEN" where sent.
  std::vector<std::string> requests() {
    std::vector<std::string> lines;
    std::istringstream log(read_file(folder_.path() / "log"));
    for (std::string line; std::getline(log, line);) {
      const auto entry = json::parse(line);
      std::string text = entry["on"];
      for (auto key : {"range", "token"}) {
        if (!entry[key].get<std::string>().empty()) text += " " + entry[key].get<std::string>();
      }
      lines.push_back(text);
    }
    return lines;
  }
  int count(const std::string& start) {
    const auto all = requests();
    return std::count_if(all.begin(), all.end(), [&](const auto& line) { return line.starts_with(start); });
  }
  void forget_requests() { fs::remove(folder_.path() / "log"); }

  fs::path home() const { return folder_.path() / "home"; }
  fs::path repo_folder() const { return home() / "hub" / "models--org--tiny"; }
  fs::path snapshot() const { return repo_folder() / "snapshots" / kSha; }
  // Every file and link of the repo's cache, without its locks.
  std::set<std::string> cached() const {
    std::set<std::string> names;
    if (!fs::exists(repo_folder())) return names;
    for (const auto& entry : fs::recursive_directory_iterator(repo_folder())) {
      if (entry.is_symlink() || !entry.is_directory())
        names.insert(fs::relative(fs::path(entry.path().parent_path()), repo_folder()) / entry.path().filename());
    }
    return names;
  }
  // What server.py calls a pattern.
  static std::string big(int size = kBig) {
    std::string text(size, '\0');
    for (int i = 0; i < size; i++) text[i] = static_cast<char>(i % (251 * 64) * 7 % 251);
    return text;
  }
  const std::string kBigPath = "/org/tiny/resolve/" + kSha + "/model.safetensors";
  const std::string kListing = "/api/models/org/tiny/revision/main";

  TempFolder folder_;
  Environment env_;
  std::optional<HubServer> server_;
};

}  // namespace mlx_lm
