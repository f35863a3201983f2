//! Requests to the hub: redirects are followed by hand, so that the token never goes to another scheme, host or port.

use std::io::Read;
use std::thread::sleep;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Error};

use crate::cache::{token, variable};
use crate::guard::{Answer, one_line};
use crate::names::check_etag;

const MAX_REDIRECTS: usize = 5;
const MAX_TRIES: u32 = 5;

pub struct Client {
    agent: Agent,
    endpoint: String,
    origin: String,
    token: Option<String>,
    /// "org/name@revision", for messages.
    what: String,
}

pub struct Failure {
    pub text: String,
    /// The server is not there or gives nothing: what the cache holds may serve.
    pub refused: bool,
    pub retry: bool,
}

/// What the hub says about a file before it is fetched.
pub struct Remote {
    pub etag: String,
    pub size: u64,
}

impl Client {
    pub fn of_environment(what: &str) -> Answer<Client> {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').to_owned();
        let origin = origin(&endpoint).ok_or_else(|| {
            format!("[hub] HF_ENDPOINT: expected http(s)://host, found '{}'", one_line(&endpoint, 200))
        })?;
        let agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("mlx-lm.cpp/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .tls_config(TlsConfig::builder().root_certs(trusted()?).build())
            .timeout_resolve(Some(Duration::from_secs(10)))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Ok(Client { agent, endpoint, origin, token: token()?, what: what.to_owned() })
    }

    /// Percent-encodes all but what RFC 3986 leaves alone.
    pub fn quote(text: &str, keep_slash: bool) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b) || (keep_slash && b == b'/');
        text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
    }

    pub fn get_text(&self, path: &str, limit: u64) -> Result<String, Failure> {
        self.patiently(|| {
            let mut response = self.get(path, 0)?;
            let mut text = Vec::new();
            let reader = response.body_mut().with_config().limit(u64::MAX).reader();
            reader.take(limit + 1).read_to_end(&mut text).map_err(|e| self.broken(&e.to_string()))?;
            if text.len() as u64 > limit {
                return Err(self.wrong(&format!("expected at most {limit} bytes, found more")));
            }
            String::from_utf8(text).map_err(|_| self.wrong("expected UTF-8, found something else"))
        })
    }

    pub fn head(&self, path: &str, name: &str, commit: &str) -> Result<Remote, Failure> {
        let headers = self.patiently(|| {
            let response = self.send("HEAD", path, 0)?;
            let status = response.status().as_u16();
            if status >= 400 { Err(self.refused(status, response.headers())) } else { Ok(response.headers().clone()) }
        })?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        if header("x-repo-commit").is_some_and(|found| found != commit) {
            return Err(self.wrong(&format!("{name}: expected commit {commit}, found another")));
        }
        let etag = header("x-linked-etag").or(header("etag")).unwrap_or_default();
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        check_etag(etag).map_err(|text| Failure { text, refused: false, retry: false })?;
        let size = header("x-linked-size").or(header("content-length")).and_then(|text| text.parse().ok());
        let size = size.ok_or_else(|| self.wrong(&format!("{name}: expected its size, found none")))?;
        Ok(Remote { etag: etag.to_owned(), size })
    }

    /// The file from byte `from` on; the status is 200, 206 or 416.
    pub fn get(&self, path: &str, from: u64) -> Result<Response<Body>, Failure> {
        let response = self.send("GET", path, from)?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            416 if from > 0 => Ok(response),
            status => Err(self.refused(status, response.headers())),
        }
    }

    /// A HEAD stops at the door of another host: the hub has then already said what the file is.
    fn send(&self, method: &str, path: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut url = format!("{}{path}", self.endpoint);
        // Once another host has had a say in the address, the token stays home for good.
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            let here = origin(&url).ok_or_else(|| self.wrong("expected an http(s) address in a redirect"))?;
            let mut request = if method == "HEAD" { self.agent.head(&url) } else { self.agent.get(&url) };
            at_home &= here == self.origin;
            if let Some(token) = self.token.as_ref().filter(|_| at_home) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| self.failed(&e))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let target = response.headers().get("location").and_then(|value| value.to_str().ok());
            let next = target.map(|target| join(&url, target)).unwrap_or_default();
            let there = origin(&next).ok_or_else(|| self.wrong("expected an http(s) address in a redirect"))?;
            if method == "HEAD" && there != self.origin {
                return Ok(response);
            }
            if here.starts_with("https:") && !there.starts_with("https:") {
                return Err(self.wrong("expected a redirect to https, found one to http"));
            }
            url = next;
        }
        Err(self.wrong(&format!("expected at most {MAX_REDIRECTS} redirects, found more")))
    }

    fn patiently<T>(&self, mut work: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut tries = 1;
        loop {
            match work() {
                Err(failure) if failure.retry && tries < MAX_TRIES => backoff(tries),
                answer => return answer,
            }
            tries += 1;
        }
    }

    pub fn wrong(&self, text: &str) -> Failure {
        Failure { text: format!("[hub] {}: {}: {text}", self.what, self.origin), refused: false, retry: false }
    }

    pub fn broken(&self, text: &str) -> Failure {
        Failure { refused: true, retry: true, ..self.wrong(&one_line(text, 200)) }
    }

    fn failed(&self, error: &Error) -> Failure {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        // A connection that broke may do better next time; a network or a server that is not there will not.
        let retry = match error {
            Error::HostNotFound | Error::ConnectionFailed => false,
            Error::Io(e) => {
                matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
            }
            _ => true,
        };
        Failure { retry, ..self.broken(&format!("cannot be reached: {error}")) }
    }

    fn refused(&self, status: u16, headers: &HeaderMap) -> Failure {
        let code = headers.get("x-error-code").and_then(|value| value.to_str().ok()).unwrap_or("");
        let advice = match (status, code, &self.token) {
            (_, "RevisionNotFound", _) => "there is no such revision",
            (_, "EntryNotFound", _) => "there is no such file",
            (401 | 403, "GatedRepo", _) => "the repo is gated; accept its terms on its page and set HF_TOKEN",
            (401 | 403 | 404, _, None) => {
                "there is no such repo or revision, or it is private; check the name or set HF_TOKEN"
            }
            (401 | 403, ..) => "access denied; check HF_TOKEN and the repo's terms on its page",
            (404, ..) => "there is no such repo or revision, or HF_TOKEN gives no access to it",
            (429, ..) => "too many requests; wait, or set HF_TOKEN",
            (500.., ..) => "the server has a problem; try again later",
            _ => "unexpected answer",
        };
        let retry = status >= 500 || status == 429;
        let refused = code != "RevisionNotFound";
        Failure { refused, retry, ..self.wrong(&format!("status {status}: {advice}")) }
    }
}

/// SSL_CERT_FILE, as Python's clients, for a company's own authority; else what Mozilla trusts.
fn trusted() -> Answer<RootCerts> {
    let Some(file) = variable("SSL_CERT_FILE") else { return Ok(RootCerts::WebPki) };
    let wrong = |text: String| format!("[hub] SSL_CERT_FILE: {text}");
    let text = std::fs::read(&file).map_err(|e| wrong(format!("cannot read {}: {e}", file.display())))?;
    let certificates: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(wrong(format!("expected certificates in {}, found none", file.display())));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

pub fn backoff(tries: u32) {
    sleep(Duration::from_millis(100 << tries.min(6)));
}

/// "scheme://host:port", None for anything but http and https.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let default = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?.to_lowercase();
    Some(format!("{}://{host}:{}", uri.scheme_str()?, uri.port_u16().unwrap_or(default)))
}

fn join(base: &str, target: &str) -> String {
    let scheme = base.split("://").next().unwrap_or("https");
    let host_end = base[scheme.len() + 3..].find('/').map_or(base.len(), |at| scheme.len() + 3 + at);
    let has_scheme = target.find(':').is_some_and(|colon| !target[..colon].contains(['/', '?', '#']));
    if has_scheme {
        target.to_owned()
    } else if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{}{target}", &base[..host_end])
    } else {
        let path = base.split(['?', '#']).next().unwrap_or(base);
        let folder = path[host_end.min(path.len())..].rfind('/').map_or(host_end, |at| host_end + at);
        format!("{}/{target}", &base[..folder])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(origin("https://Hub.co/a").as_deref(), Some("https://hub.co:443"));
        assert_eq!(origin("http://a@evil:81").as_deref(), Some("http://evil:81"));
        assert!(origin("file:///etc/passwd").is_none() && origin("/a").is_none());
        assert_eq!(join("http://h/a/b?c/d", "e"), "http://h/a/e");
        assert_eq!(join("http://h/a/b", "/e"), "http://h/e");
        assert_eq!(join("https://h/a/b", "//c/e"), "https://c/e");
        assert_eq!(join("http://h", "e"), "http://h/e");
        assert_eq!(join("http://h/a/b", "/e?to=http://x"), "http://h/e?to=http://x");
        assert_eq!(join("http://h/a/b", "../e"), "http://h/a/../e");
        assert!(origin(&join("http://h/a", "file:/etc/passwd")).is_none() && origin("").is_none());
    }
}
