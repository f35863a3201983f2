//! What may be a repo, a revision, a file or an etag. Names come from the command line or from a server: both may lie.

use crate::guard::{Answer, one_line};

/// "name" or "org/name". Errors of the caller's own words have the area [request].
pub fn check_repo(repo: &str) -> Answer<()> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|p| part(p)) || repo.contains("--") || repo.contains("..") {
        return Err(format!("[request] repo: expected 'name' or 'org/name', found '{}'", one_line(repo, 200)));
    }
    Ok(())
}

pub fn check_revision(revision: &str) -> Answer<()> {
    if is_path(revision) && revision.len() <= 250 && !revision.starts_with('-') {
        return Ok(());
    }
    Err(format!("[request] revision: expected a branch, tag or commit, found '{}'", one_line(revision, 200)))
}

pub fn check_commit(sha: &str) -> Answer<()> {
    if is_hex(sha, 40) {
        return Ok(());
    }
    Err(format!("[hub] commit: expected 40 hexadecimal digits from the server, found '{}'", one_line(sha, 100)))
}

pub fn check_file(name: &str) -> Answer<()> {
    if is_path(name) {
        return Ok(());
    }
    Err(format!("[hub] file name: expected a plain relative path from the server, found '{}'", one_line(name, 200)))
}

pub fn check_etag(etag: &str) -> Answer<()> {
    if (1..=128).contains(&etag.len()) && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        return Ok(());
    }
    Err(format!("[hub] etag: expected letters and digits from the server, found '{}'", one_line(etag, 100)))
}

pub fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_path(name: &str) -> bool {
    name.len() <= 1000
        && !name.contains('\\')
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 250)
}

/// Python's fnmatch: `*` also matches '/'. A pattern that ends in '/' means all below it.
pub fn matches_any(name: &str, patterns: &[String]) -> bool {
    let name: Vec<char> = name.chars().collect();
    patterns.iter().any(|pattern| {
        let star = if pattern.ends_with('/') { "*" } else { "" };
        let pattern: Vec<char> = pattern.chars().chain(star.chars()).collect();
        matches(&name, &pattern)
    })
}

/// Greedy with one point of return (the last star), so no pattern takes exponential time.
fn matches(name: &[char], pattern: &[char]) -> bool {
    let (mut n, mut p) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            back = Some((n, p + 1));
            p += 1;
            continue;
        }
        if let Some(width) = one(name[n], &pattern[p..]) {
            n += 1;
            p += width;
        } else if let Some((from, after)) = back {
            back = Some((from + 1, after));
            (n, p) = (from + 1, after);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The length of the pattern's first item if it matches `c`.
fn one(c: char, pattern: &[char]) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '[' => {
            let not = pattern.get(1) == Some(&'!');
            let first = if not { 2 } else { 1 };
            // A ']' right after the bracket is a member, not the end.
            let Some(end) = (first + 1..pattern.len()).find(|&i| pattern[i] == ']') else {
                return (c == '[').then_some(1);
            };
            let set = &pattern[first..end];
            let (mut found, mut i) = (false, 0);
            while i < set.len() {
                if i + 2 < set.len() && set[i + 1] == '-' {
                    found |= (set[i]..=set[i + 2]).contains(&c);
                    i += 3;
                } else {
                    found |= set[i] == c;
                    i += 1;
                }
            }
            (found != not).then_some(end + 1)
        }
        literal => (literal == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let hit = |name: &str, pattern: &str| matches_any(name, &[pattern.to_owned()]);
        assert!(hit("model-00001.safetensors", "*.safetensors") && hit("a/b/c.json", "*.json") && hit("a/b", "a/"));
        assert!(
            hit("a1", "a[0-9]") && !hit("ab", "a[!a-c]") && hit("a]", "a[]]") && hit("x[", "x[") && hit("ab", "a?")
        );
        assert!(!hit("a.jsonl", "*.json") && !hit("", "?") && hit("", "*"));
        assert!(!hit(&"a".repeat(900), &("*a".repeat(400) + "b")));
    }

    #[test]
    fn names() {
        for good in ["gpt2", "mlx-community/Qwen3-4B-4bit", "a/b_c.d"] {
            assert!(check_repo(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "a--b/c", "a/..", "a b", "a/b\\c", "../a", "a\0", "-a", "a/b?x"] {
            assert!(check_repo(bad).is_err(), "{bad}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\\b", "a\0b", "a\nb"] {
            assert!(check_file(bad).is_err(), "{bad}");
        }
        assert!(check_file("a/b.json").is_ok() && check_etag("0af").is_ok());
        assert!(check_etag("").is_err() && check_etag("a.b").is_err() && check_etag("a/b").is_err());
    }
}
