// What works: the cache's layout, resuming, tokens, offline, several at once. What must fail: download_errors_test.cpp.
#include "mlx_lm/hub/download.h"

#include <atomic>
#include <thread>

#include "tests/hub/hub_server.h"
#include "tests/hub/limits.h"

namespace mlx_lm {
namespace {

using Names = std::set<std::string>;

const std::string kBigSha256 = "6e0175cb68d12319c0c68dc4524457aa3ce013d5fe8623d161adb40478a38a80";
const std::string kConfigBlob = "9e26dfeeb6e641a33dae4961196235bdb965b21b";  // as git names them
const std::string kNotesBlob = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";

TEST_F(HubTest, FillsTheStandardCache) {
  EXPECT_EQ(download(), snapshot());
  const std::string at = "snapshots/" + kSha + "/";
  EXPECT_EQ(cached(), (Names{"blobs/" + kBigSha256, "blobs/" + kConfigBlob, "blobs/" + kNotesBlob, "refs/main",
                             at + "config.json", at + "model.safetensors", at + "sub/notes.txt"}));
  EXPECT_EQ(read_file(repo_folder() / "refs/main"), kSha);
  EXPECT_EQ(fs::read_symlink(snapshot() / "config.json"), "../../blobs/" + kConfigBlob);
  EXPECT_EQ(fs::read_symlink(snapshot() / "sub/notes.txt"), "../../../blobs/" + kNotesBlob);
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
  EXPECT_EQ(read_file(snapshot() / "sub/notes.txt"), "hello");
  EXPECT_TRUE(fs::exists(home() / "hub/.locks/models--org--tiny" / (kBigSha256 + ".lock")));
}

TEST_F(HubTest, FetchesNothingTwice) {
  download();
  forget_requests();
  EXPECT_EQ(download(), snapshot());
  EXPECT_EQ(requests(), std::vector<std::string>{"GET " + kListing});
}

TEST_F(HubTest, FetchesWhatIsMissing) {
  download();
  fs::remove(snapshot() / "config.json");
  fs::resize_file(repo_folder() / "blobs" / kNotesBlob, 2);  // a blob of the wrong size is none
  fs::remove(snapshot() / "sub/notes.txt");
  forget_requests();
  download();
  EXPECT_EQ(count("GET /org"), 1);
  EXPECT_EQ(read_file(snapshot() / "config.json"), "{}");
  EXPECT_EQ(read_file(snapshot() / "sub/notes.txt"), "hello");
}

TEST_F(HubTest, TakesOnlyWhatMatches) {
  download({.patterns = {"*.json", "sub/"}});
  EXPECT_TRUE(fs::exists(snapshot() / "sub/notes.txt"));
  EXPECT_FALSE(fs::exists(snapshot() / "model.safetensors"));
  EXPECT_EQ(refused({.patterns = {"*.gguf"}}), "[hub] org/tiny@main: expected files like *.gguf, found none");
}

TEST_F(HubTest, KnowsBranchesTagsAndCommits) {
  scenario_["revisions"] = {"main", "refs/pr/1", "v1.0 ä"};
  save();
  download({.revision = "refs/pr/1"});
  EXPECT_EQ(read_file(repo_folder() / "refs/refs/pr/1"), kSha);
  download({.revision = "v1.0 ä"});
  EXPECT_EQ(read_file(repo_folder() / "refs/v1.0 ä"), kSha);
  EXPECT_EQ(count("GET /api/models/org/tiny/revision/refs%2Fpr%2F1"), 1);
  EXPECT_EQ(download({.revision = kSha}), snapshot());
  EXPECT_FALSE(fs::exists(repo_folder() / "refs" / kSha));
  EXPECT_FALSE(fs::exists(repo_folder() / "refs/main"));
}

TEST_F(HubTest, NewCommitGetsItsOwnSnapshot) {
  download();
  const std::string next(40, 'a');
  scenario_["sha"] = next;
  scenario_["files"]["config.json"]["text"] = "{ }";
  save();
  forget_requests();
  EXPECT_EQ(download(), repo_folder() / "snapshots" / next);
  EXPECT_EQ(read_file(repo_folder() / "refs/main"), next);
  EXPECT_EQ(read_file(snapshot() / "config.json"), "{}");
  EXPECT_EQ(read_file(repo_folder() / "snapshots" / next / "config.json"), "{ }");
  EXPECT_EQ(count("GET /org"), 1) << "the other files' blobs are here already";
}

TEST_F(HubTest, EmptyFileNeedsNoBody) {
  scenario_["files"] = {{"empty.json", {{"text", ""}}}};
  save();
  download();
  EXPECT_EQ(fs::file_size(snapshot() / "empty.json"), 0u);
}

TEST_F(HubTest, GoesOnWhereTheConnectionWasCut) {
  only_big();
  fault("GET " + kBigPath, {{"cut", 300'000}, {"times", 1}});
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
  EXPECT_EQ(count("GET " + kBigPath + " bytes=300000-"), 1);
}

TEST_F(HubTest, GoesOnWhereAnEarlierRunStopped) {
  only_big();
  const auto partial = repo_folder() / "blobs" / (kBigSha256 + ".incomplete");
  fs::create_directories(partial.parent_path());
  std::ofstream(partial, std::ios::binary) << big(700'000);
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
  EXPECT_EQ(count("GET " + kBigPath), 1);
  EXPECT_EQ(count("GET " + kBigPath + " bytes=700000-"), 1);
  EXPECT_FALSE(fs::exists(partial));
}

TEST_F(HubTest, StartsAgainWhenTheEarlierPartIsDamaged) {
  only_big();
  const auto partial = repo_folder() / "blobs" / (kBigSha256 + ".incomplete");
  fs::create_directories(partial.parent_path());
  for (size_t size : {10u, 1'000'000u, 2'000'000u}) {
    std::ofstream(partial, std::ios::binary) << std::string(size, 'x');
    fs::remove(snapshot() / "model.safetensors");
    fs::remove(repo_folder() / "blobs" / kBigSha256);
    download();
    EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big()) << size;
  }
}

TEST_F(HubTest, StartsAgainWhenTheServerKnowsNoRanges) {
  only_big();
  fault("GET " + kBigPath, {{"cut", 300'000}, {"times", 1}});
  fault("GET " + kBigPath, {{"ignore_range", true}});
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
}

TEST_F(HubTest, ManyCutsAreNoProblemWhileItGrows) {
  only_big();
  fault("GET " + kBigPath, {{"cut", 60'000}});
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
}

TEST_F(HubTest, TriesAgainAfterPassingTrouble) {
  fault("GET /api", {{"status", 503}, {"times", 1}});
  fault("HEAD " + kBigPath, {{"status", 500}, {"times", 1}});
  fault("GET " + kBigPath, {{"status", 429}, {"times", 1}});
  fault("GET " + kBigPath, {{"cut", 0}, {"times", 1}});
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
}

// --- tokens ---

TEST_F(HubTest, TokenGoesToTheHubOnly) {
  env_.set("HF_TOKEN", " hf_secret\n");
  only_big();
  scenario_["files"]["model.safetensors"]["cdn"] = true;
  save();
  download();
  EXPECT_EQ(requests(),
            (std::vector<std::string>{"GET " + kListing + " Bearer hf_secret", "HEAD " + kBigPath + " Bearer hf_secret",
                                      "GET " + kBigPath + " Bearer hf_secret", "CDN GET /cdn/model.safetensors"}));
}

TEST_F(HubTest, TokenFollowsARedirectOfTheHubToItself) {
  env_.set("HF_TOKEN", "hf_secret");
  only_big();
  const std::string moved = "/org/tiny/resolve/" + kSha + "/./model.safetensors?to=http://elsewhere/";
  scenario_["files"]["./model.safetensors"] = scenario_["files"]["model.safetensors"];
  scenario_["listing"] = json{{"sha", kSha}, {"siblings", json::array({{{"rfilename", "model.safetensors"}}})}}.dump();
  fault("HEAD " + kBigPath, {{"location", moved}});
  fault("GET " + kBigPath, {{"location", "{hub}" + moved}});
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
  EXPECT_EQ(count("HEAD " + moved + " Bearer hf_secret"), 1);
  EXPECT_EQ(count("GET " + moved + " Bearer hf_secret"), 1);
}

TEST_F(HubTest, TokenDoesNotReturnWithARedirectFromElsewhere) {
  env_.set("HF_TOKEN", "hf_secret");
  only_big();
  scenario_["files"]["model.safetensors"]["cdn"] = true;
  fault("CDN GET /cdn/model.safetensors", {{"location", "//127.0.0.1:" + std::to_string(server_->hub_port) + "/x"}});
  EXPECT_NE(refused().find("status 404"), std::string::npos);
  const auto all = requests();
  ASSERT_EQ(all.size(), 5u);
  EXPECT_EQ(all[3], "CDN GET /cdn/model.safetensors");
  EXPECT_EQ(all[4], "GET /x");
}

TEST_F(HubTest, TokenFromFiles) {
  const auto sent = [&] {
    forget_requests();
    download();
    return requests().at(0).substr(("GET " + kListing).size());
  };
  EXPECT_EQ(sent(), "");
  folder_.write("home/token", "hf_home\n");  // what `hf auth login` writes
  EXPECT_EQ(sent(), " Bearer hf_home");
  env_.set("HF_TOKEN_PATH", folder_.write("other", "  hf_other  ").string());
  EXPECT_EQ(sent(), " Bearer hf_other");
  env_.set("HF_TOKEN", "  ");
  EXPECT_EQ(sent(), " Bearer hf_other");
  env_.set("HF_TOKEN", "hf_env");
  EXPECT_EQ(sent(), " Bearer hf_env");
  env_.set("HF_TOKEN", "hf_a\nX-Evil: 1");
  EXPECT_EQ(refused(), "[hub] HF_TOKEN: expected letters and digits on one line, found something else");
}

// --- TLS ---

TEST_F(HubTest, CertificatesOfOnesOwn) {
  env_.set("SSL_CERT_FILE", server_->certificate);
  env_.set("HF_ENDPOINT", "https://127.0.0.1:" + std::to_string(server_->tls_port) + "/");
  env_.set("HF_TOKEN", "hf_secret");
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
  EXPECT_EQ(count("TLS GET " + kBigPath + " Bearer hf_secret"), 1);
}

TEST_F(HubTest, TokenDoesNotChangeTheScheme) {
  env_.set("SSL_CERT_FILE", server_->certificate);
  env_.set("HF_TOKEN", "hf_secret");
  only_big();
  fault("GET " + kBigPath, {{"location", "{tls}" + kBigPath}});
  download();
  EXPECT_EQ(requests().back(), "TLS GET " + kBigPath);
}

// --- offline, and where the cache is ---

TEST_F(HubTest, OfflineTakesWhatIsHere) {
  download();
  download({.revision = kSha});
  forget_requests();
  EXPECT_EQ(download({.offline = true}), snapshot());
  EXPECT_EQ(download({.revision = kSha, .offline = true}), snapshot());
  for (auto name : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    for (auto value : {"1", "true", "Yes", "ON"}) {
      env_.set(name, value);
      EXPECT_EQ(download(), snapshot());
    }
    env_.set(name, std::nullopt);
  }
  EXPECT_EQ(requests().size(), 0u);
  env_.set("HF_HUB_OFFLINE", "0");
  download();
  EXPECT_EQ(requests().size(), 1u);
}

TEST_F(HubTest, ServerThatIsDownIsNoProblemForWhatIsHere) {
  download();
  server_->stop();
  EXPECT_EQ(download(), snapshot());
  const auto text = refused({.revision = "other"});
  EXPECT_NE(text.find("cannot be reached"), std::string::npos) << text;
  EXPECT_NE(text.find("; nothing of it is in the cache"), std::string::npos) << text;
}

TEST_F(HubTest, ServerThatRefusesIsNoProblemForWhatIsHere) {
  download();
  for (int status : {401, 403, 404, 503}) {
    scenario_["faults"] = json::array();
    fault("GET /api", {{"status", status}});
    EXPECT_EQ(download(), snapshot()) << status;
  }
  // A revision that is gone is not what was asked for.
  scenario_["faults"] = json::array();
  fault("GET /api", {{"status", 404}, {"headers", {{"X-Error-Code", "RevisionNotFound"}}}});
  EXPECT_NE(refused().find("status 404: there is no such revision"), std::string::npos);
}

TEST_F(HubTest, CacheIsWhereTheVariablesSay) {
  const auto at = [&](const fs::path& hub) {
    EXPECT_EQ(download({.patterns = {"config.json"}}), hub / "models--org--tiny/snapshots" / kSha);
  };
  at(home() / "hub");
  env_.set("HF_HUB_CACHE", (folder_.path() / "a").string());
  at(folder_.path() / "a");
  env_.set("HF_HUB_CACHE", "~/b");
  at(folder_.path() / "nobody/b");
  env_.set("HF_HUB_CACHE", std::nullopt);
  env_.set("HF_HOME", std::nullopt);
  at(folder_.path() / "nobody/.cache/huggingface/hub");
  env_.set("XDG_CACHE_HOME", (folder_.path() / "xdg").string());
  at(folder_.path() / "xdg/huggingface/hub");
}

TEST_F(HubTest, ReadOnlyCacheIsNoProblemForWhatIsHere) {
  download();
  const AsNobody nobody(folder_.path());
  EXPECT_EQ(download(), snapshot());
}

// --- several at once, and what the caller is told ---

TEST_F(HubTest, TwoProcessesFetchAFileOnce) {
  only_big();
  fault("GET " + kBigPath, {{"delay", 0.5}});
  std::vector<pid_t> children;
  for (int i = 0; i < 2; i++) {
    children.push_back(fork());
    if (children.back() == 0) {
      int code = 1;
      try {
        code = read_file(download() / "model.safetensors") == big() ? 0 : 2;
      } catch (...) {
      }
      _exit(code);
    }
  }
  for (auto child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(count("GET /api"), 2);
  EXPECT_EQ(count("GET " + kBigPath), 1);
}

TEST_F(HubTest, ThreadsDoNotDisturbEachOther) {
  scenario_["files"] = json::object();
  for (int i = 0; i < 20; i++) scenario_["files"]["f" + std::to_string(i)] = {{"text", std::to_string(i)}};
  save();
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      try {
        download();
      } catch (const Error& error) {
        failed++;
        ADD_FAILURE() << error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  for (int i = 0; i < 20; i++) EXPECT_EQ(read_file(snapshot() / ("f" + std::to_string(i))), std::to_string(i));
  for (const auto& name : cached()) EXPECT_EQ(name.find(".part"), name.npos) << name;
}

TEST_F(HubTest, ProgressTellsEachFile) {
  std::map<std::string, std::vector<uint64_t>> seen;
  std::map<std::string, uint64_t> totals;
  const DownloadOptions options = {.progress = [&](const std::string& file, uint64_t done, uint64_t total) {
    seen[file].push_back(done);
    totals[file] = total;
  }};
  fault("GET " + kBigPath, {{"cut", 300'000}, {"times", 1}});
  download(options);
  EXPECT_EQ(totals,
            (std::map<std::string, uint64_t>{{"config.json", 2}, {"model.safetensors", kBig}, {"sub/notes.txt", 5}}));
  for (const auto& [file, done] : seen) {
    EXPECT_EQ(done.front(), 0u) << file;
    EXPECT_EQ(done.back(), totals[file]) << file;
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end())) << file;
  }
  EXPECT_GE(seen["model.safetensors"].size(), 4u);
  seen.clear();
  download(options);
  EXPECT_TRUE(seen.empty());
}

TEST_F(HubTest, ProgressMayEndTheDownload) {
  only_big();
  const auto text = [&] {
    try {
      download({.progress = [](const std::string&, uint64_t done, uint64_t) {
        if (done > 0) throw std::runtime_error("the user pressed Ctrl-C");
      }});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  }();
  EXPECT_EQ(text, "the user pressed Ctrl-C");
  EXPECT_EQ(cached(), Names{"blobs/" + kBigSha256 + ".incomplete"});
  download();
  EXPECT_EQ(count("GET " + kBigPath), 2);
  EXPECT_EQ(count("GET " + kBigPath + " bytes="), 1) << "it goes on";
}

}  // namespace
}  // namespace mlx_lm
