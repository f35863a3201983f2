// Whatever the server, the network or the disk does wrong: one clear line, and nothing half-written.
#include "mlx_lm/hub/download.h"

#include "tests/hub/hub_server.h"
#include "tests/hub/limits.h"

namespace mlx_lm {
namespace {

using Names = std::set<std::string>;

class HubErrorsTest : public HubTest {
 protected:
  // The line contains each part; no link and no ref came to be.
  void expect_refused(std::initializer_list<std::string> parts, DownloadOptions options = {}) {
    const auto text = refused(options);
    for (const auto& part : parts) EXPECT_NE(text.find(part), text.npos) << text << "\nhas not: " << part;
    EXPECT_LT(text.size(), 1000u);
    for (const auto& name : cached()) {
      EXPECT_FALSE(name.ends_with("model.safetensors") || name.starts_with("refs/") || name.ends_with(".part")) << name;
    }
  }
};

TEST_F(HubErrorsTest, NamesOfReposAndRevisions) {
  for (const std::string& repo : Names{"", "/", "a/b/c", "../a", "a/..", "a b", "a//b", "a\\b", "a/b?c", "http://a/b",
                                       "-a", "a\nb", "a/\xff", "a--b"}) {
    EXPECT_EQ(refused({}, repo).find("[request] repo: expected 'name' or 'org/name', found '"), 0u) << repo;
  }
  for (const std::string& revision : Names{"", "/", "../main", "a/../b", "a\\b", "/main", "a\nb", "-x", "."}) {
    EXPECT_EQ(refused({.revision = revision}).find("[request] revision: expected a branch, tag or commit"), 0u)
        << revision;
  }
  EXPECT_EQ(requests().size(), 0u);
  EXPECT_EQ(cached(), Names{});
}

TEST_F(HubErrorsTest, StatusOfTheListing) {
  const auto status = [&](int code, const std::string& error = "") {
    scenario_["faults"] = json::array();
    json headers = error.empty() ? json::object() : json{{"X-Error-Code", error}};
    fault("GET /api", {{"status", code}, {"headers", headers}, {"body", "<html>secret\n</html>"}});
    const auto text = refused();
    EXPECT_EQ(text.find("[hub] org/tiny@main: http://127.0.0.1:"), 0u) << text;
    EXPECT_NE(text.find(": status " + std::to_string(code) + ": "), text.npos) << text;
    EXPECT_EQ(text.find("secret"), text.npos) << text;
    std::string advice = text.substr(text.find(": status ") + 14);
    const std::string rest = "; nothing of it is in the cache";
    EXPECT_EQ(advice.ends_with(rest), error != "RevisionNotFound") << text;
    return advice.substr(0, advice.find(rest));
  };
  EXPECT_EQ(status(401), "there is no such repo or revision, or it is private; check the name or set HF_TOKEN");
  EXPECT_EQ(status(404, "RevisionNotFound"), "there is no such revision");
  EXPECT_EQ(status(403, "GatedRepo"), "the repo is gated; accept its terms on its page and set HF_TOKEN");
  EXPECT_EQ(status(418), "unexpected answer");
  EXPECT_EQ(count("GET /api"), 4) << "these are not tried again";
  env_.set("HF_TOKEN", "hf_x");
  EXPECT_EQ(status(401), "access denied; check HF_TOKEN and the repo's terms on its page");
  EXPECT_EQ(status(404, "RepoNotFound"), "there is no such repo or revision, or HF_TOKEN gives no access to it");
  EXPECT_EQ(cached(), Names{});
}

TEST_F(HubErrorsTest, TooManyRequests) {
  fault("GET /api", {{"status", 429}});
  expect_refused({"status 429: too many requests; wait, or set HF_TOKEN; nothing of it is in the cache"});
  EXPECT_EQ(count("GET /api"), 5);
}

TEST_F(HubErrorsTest, ServerProblemWithAFile) {
  only_big();
  fault("GET " + kBigPath, {{"status", 500}});
  expect_refused({"status 500: the server has a problem; try again later"});
  EXPECT_EQ(count("GET " + kBigPath), 5);
}

TEST_F(HubErrorsTest, StatusOfAFile) {
  only_big();
  fault("HEAD " + kBigPath, {{"status", 404}, {"headers", {{"X-Error-Code", "EntryNotFound"}}}, {"times", 1}});
  expect_refused({"status 404: there is no such file"});
  fault("HEAD " + kBigPath, {{"status", 403}, {"headers", {{"X-Error-Code", "GatedRepo"}}}, {"times", 1}});
  expect_refused({"status 403: the repo is gated"});
  fault("GET " + kBigPath, {{"status", 403}, {"times", 1}});
  expect_refused({"status 403: "});
  fault("GET " + kBigPath, {{"status", 416}, {"times", 1}});
  expect_refused({"status 416: unexpected answer"});
  fault("GET " + kBigPath, {{"status", 204}, {"times", 1}});
  expect_refused({"status 204: unexpected answer"});
}

TEST_F(HubErrorsTest, Listings) {
  const auto listing = [&](const std::string& body) {
    scenario_["listing"] = body;
    save();
    return refused();
  };
  for (const std::string& body :
       Names{"", "<html>no</html>", "[]", "null", "{}", "{\"sha\": 1}", "{\"sha\": \"a\", \"siblings\": [1]}"}) {
    const auto text = listing(body);
    EXPECT_NE(text.find("expected a list of files as JSON, found something else ("), text.npos) << text;
  }
  EXPECT_NE(listing(std::string(100'000, '[')).find("expected a list of files as JSON"), std::string::npos);
  EXPECT_NE(listing("{\"sha\": \"x\", \"siblings\": " + std::string(100'000, '[')).find("as JSON"), std::string::npos);
  for (const std::string& sha : Names{"", "main", "../../..", "0123", std::string(40, 'G'), std::string(64, 'a')}) {
    const auto text = listing(json{{"sha", sha}, {"siblings", json::array()}}.dump());
    EXPECT_EQ(text.find("[hub] commit: expected 40 hexadecimal digits from the server, found '"), 0u) << text;
  }
  EXPECT_NE(listing(json{{"sha", kSha}}.dump()).find("found none"), std::string::npos);
  EXPECT_EQ(cached(), Names{});
}

TEST_F(HubErrorsTest, BytesThatAreNotText) {
  fault("GET /api", {{"status", 200}, {"body", "{\"sha\": \"\u00ff\""}});
  expect_refused({"expected UTF-8, found something else"});
}

TEST_F(HubErrorsTest, HugeListings) {
  scenario_["pad"] = 33 << 20;
  save();
  expect_refused({"expected at most 33554432 bytes, found more"});
  scenario_["pad"] = 0;
  for (int i = 0; i <= 10'000; i++) scenario_["files"]["f" + std::to_string(i)] = {{"text", ""}};
  save();
  expect_refused({"expected at most 10000 files, found 10004"});
  EXPECT_EQ(cached(), Names{});
}

TEST_F(HubErrorsTest, FileNamesThatLeaveTheFolder) {
  for (const std::string& name : Names{"../evil", "a/../../evil", "/etc/passwd", "..\\evil", "a\\b", "C:\\evil", "a//b",
                                       "a/./b", "", ".", "..", "a/", "a\nb", std::string("a\0b", 3)}) {
    scenario_["files"] = {{"config.json", {{"text", "{}"}}}, {name, {{"text", "evil"}}}};
    save();
    // Refused even when no pattern asks for it: such a server is not to be trusted.
    const auto text = refused({.patterns = {"config.json"}});
    EXPECT_EQ(text.find("[hub] file name: expected a plain relative path from the server, found '"), 0u) << text;
  }
  EXPECT_EQ(cached(), Names{});
  EXPECT_FALSE(fs::exists(folder_.path() / "evil"));
}

TEST_F(HubErrorsTest, EtagsThatLeaveTheFolder) {
  for (const std::string& etag : Names{"", "../../../evil", "a/b", ".", "a.incomplete", std::string(200, 'a')}) {
    scenario_["files"] = {{"config.json", {{"text", "{}"}, {"etag", etag}}}};
    save();
    EXPECT_EQ(refused().find("[hub] etag: expected letters and digits from the server, found '"), 0u) << etag;
  }
  EXPECT_EQ(cached(), Names{});
}

TEST_F(HubErrorsTest, AnotherCommit) {
  fault("HEAD", {{"status", 200}, {"headers", {{"X-Repo-Commit", std::string(40, 'b')}, {"ETag", "\"a\""}}}});
  expect_refused({": expected commit " + kSha + ", found another"});
}

TEST_F(HubErrorsTest, NoSizeOrANegativeOne) {
  for (const std::string& size : Names{"-1", "x", "18446744073709551616"}) {
    scenario_["faults"] = json::array();
    fault("HEAD", {{"status", 302},
                   {"headers", {{"ETag", "\"a\""}, {"X-Linked-Size", size}, {"Location", "http://0.0.0.0:1/"}}}});
    expect_refused({"config.json: expected its size, found none"});
  }
}

TEST_F(HubErrorsTest, FilesOfTheWrongLength) {
  only_big();
  fault("GET " + kBigPath, {{"extra", 1}, {"times", 1}});
  expect_refused({"model.safetensors: expected 1000000 bytes, found 1000001"});
  fault("GET " + kBigPath, {{"extra", 1}, {"no_length", true}, {"times", 1}});
  expect_refused({"model.safetensors: expected 1000000 bytes, found more"});
  for (uint64_t claim : {uint64_t(kBig - 1), uint64_t(kBig + 1), uint64_t(1) << 63}) {
    scenario_["files"]["model.safetensors"]["claim"] = claim;
    save();
    expect_refused({"model.safetensors: expected " + std::to_string(claim) + " bytes, found 1000000"});
  }
  EXPECT_EQ(count("GET " + kBigPath), 5) << "no use in trying again";
  // Without a length, the end of the connection may also be a cut.
  fault("GET " + kBigPath, {{"no_length", true}});
  scenario_["files"]["model.safetensors"]["claim"] = kBig + 1;
  save();
  expect_refused({"model.safetensors: expected 1000001 bytes, found 1000000"});
}

TEST_F(HubErrorsTest, WrongChecksums) {
  for (bool lfs : {true, false}) {
    scenario_["files"] = {{"model.safetensors", {{"size", kBig}, {"lfs", lfs}}}};
    scenario_["faults"] = json::array();
    fault("GET " + kBigPath, {{"flip", 500'000}});
    expect_refused({"model.safetensors: expected the checksum ", ", found "});
    EXPECT_EQ(cached(), Names{}) << "what is damaged is not kept for a later run to go on with";
  }
}

TEST_F(HubErrorsTest, CutAgainAndAgain) {
  only_big();
  fault("GET " + kBigPath, {{"cut", 300'000}, {"times", 1}});
  fault("GET " + kBigPath, {{"cut", 0}});
  expect_refused({"model.safetensors: ", "300000"});
  EXPECT_EQ(count("GET " + kBigPath + " bytes=300000-"), 5);
  scenario_["faults"] = json::array();
  save();
  download();
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
}

TEST_F(HubErrorsTest, WrongRanges) {
  only_big();
  fault("GET " + kBigPath, {{"cut", 300'000}, {"times", 1}});
  fault("GET " + kBigPath, {{"wrong_range", true}, {"times", 1}});
  download();  // starts again from 0
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
}

TEST_F(HubErrorsTest, Redirects) {
  only_big();
  const auto redirect = [&](const std::string& to) {
    scenario_["faults"] = json::array();
    fault("GET " + kBigPath, {{"location", to}});
    return refused();
  };
  EXPECT_NE(redirect(kBigPath).find("expected at most 5 redirects, found more"), std::string::npos);
  for (const std::string& to : Names{"file:///etc/passwd", "ftp://a/b", "gopher:x", "http://", "://", "http:///x"}) {
    const auto text = redirect(to);
    EXPECT_NE(text.find("[hub] org/tiny@main: http://127.0.0.1:"), text.npos) << to << ": " << text;
  }
  EXPECT_NE(redirect("file:///etc/passwd").find("expected an http(s) address in a redirect"), std::string::npos);
}

TEST_F(HubErrorsTest, Tls) {
  const auto at = [](int port) { return "https://127.0.0.1:" + std::to_string(port); };
  env_.set("HF_ENDPOINT", at(server_->tls_port));
  expect_refused({"cannot be reached: ", "invalid peer certificate: UnknownIssuer"});
  env_.set("SSL_CERT_FILE", server_->certificate);
  env_.set("HF_ENDPOINT", "https://localhost:" + std::to_string(server_->tls_port));
  expect_refused({"cannot be reached: ", "not valid for name"});
  env_.set("HF_ENDPOINT", at(server_->hub_port));  // speaks no TLS
  expect_refused({"cannot be reached: "});
  EXPECT_EQ(requests().size(), 0u);
  only_big();
  env_.set("HF_ENDPOINT", at(server_->tls_port));
  fault("TLS GET " + kBigPath, {{"location", "{hub}" + kBigPath}});
  expect_refused({"expected a redirect to https, found one to http"});
  EXPECT_EQ(count("GET"), 0);
  for (const std::string& text :
       Names{"", "not a certificate", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"}) {
    env_.set("SSL_CERT_FILE", folder_.write("certificates", text).string());
    expect_refused({"[hub] SSL_CERT_FILE: expected certificates in ", "certificates, found none"});
  }
  env_.set("SSL_CERT_FILE", (folder_.path() / "nothing").string());
  expect_refused({"[hub] SSL_CERT_FILE: cannot read ", "nothing: No such file"});
}

TEST_F(HubErrorsTest, Endpoints) {
  for (const std::string& endpoint : Names{"huggingface.co", "ftp://a", "file:///", "/", "http://"}) {
    env_.set("HF_ENDPOINT", endpoint);
    EXPECT_EQ(refused().find("[hub] HF_ENDPOINT: expected http(s)://host, found '"), 0u) << endpoint;
  }
  env_.set("HF_ENDPOINT", "http://no-such-host.invalid");
  expect_refused({"http://no-such-host.invalid:80: cannot be reached: ", "; nothing of it is in the cache"});
}

TEST_F(HubErrorsTest, OfflineWithNothingHere) {
  expect_refused({"[hub] org/tiny@main: expected in the cache ", "models--org--tiny (offline), found nothing"},
                 {.offline = true});
  EXPECT_EQ(requests().size(), 0u);
  // A ref to a snapshot that is not there, or that is no commit.
  for (const std::string& ref : Names{kSha, std::string("../../.."), std::string()}) {
    folder_.write("home/hub/models--org--tiny/refs/main", ref);
    EXPECT_NE(refused({.offline = true}).find("(offline), found nothing"), std::string::npos);
  }
}

TEST_F(HubErrorsTest, NoHome) {
  env_.set("HF_HOME", std::nullopt);
  env_.set("HOME", std::nullopt);
  EXPECT_EQ(refused(), "[hub] cache: expected HF_HOME or HOME to be set, found neither");
}

// --- disks ---

TEST_F(HubErrorsTest, UnwritableCache) {
  fs::create_directories(home() / "hub");
  {
    const AsNobody nobody(folder_.path());
    expect_refused({"[hub] cache: cannot write ", "models--org--tiny", "Permission denied"});
  }
  EXPECT_TRUE(fs::is_empty(home() / "hub"));
  folder_.write("file", "");
  for (const std::string& cache : Names{"file", "file/below"}) {
    env_.set("HF_HUB_CACHE", (folder_.path() / cache).string());
    expect_refused({"[hub] cache: cannot write ", "file"});
  }
}

TEST_F(HubErrorsTest, DiskThatIsFull) {
  only_big();
  {
    const FileSizeLimit limit(400'000);
    expect_refused({"[hub] cache: cannot write ", ".incomplete: File too large"});
  }
  EXPECT_EQ(cached().size(), 1u);
  download();  // with what was there
  EXPECT_EQ(read_file(snapshot() / "model.safetensors"), big());
  EXPECT_EQ(count("GET " + kBigPath + " bytes=400000-"), 1);
}

}  // namespace
}  // namespace mlx_lm
