//! A snapshot of a Hugging Face repo in the standard cache: `docs/hub.md` tells the layout and the variables.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cache::Cache;
use crate::fetch::fetch_blob;
use crate::ffi::{Progress, SnapshotRequest};
use crate::guard::{Answer, guarded, one_line};
use crate::http::{Client, Failure};
use crate::names::{check_commit, check_file, check_repo, check_revision, matches_any};

const MAX_FILES: usize = 10_000;
const MAX_LISTING: u64 = 32 << 20;

#[derive(Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The folder of the snapshot. Files that are already there cost no request.
pub fn download_snapshot(request: &SnapshotRequest, progress: &Progress) -> Answer<String> {
    guarded("hub", &request.repo, || {
        check_repo(&request.repo)?;
        check_revision(&request.revision)?;
        let cache = Cache::of_environment(&request.repo)?;
        let folder = snapshot(request, &cache, progress)?;
        folder.into_os_string().into_string().map_err(|_| "[hub] cache: its path is not UTF-8".into())
    })
}

fn snapshot(request: &SnapshotRequest, cache: &Cache, progress: &Progress) -> Answer<PathBuf> {
    let what = format!("{}@{}", request.repo, request.revision);
    if request.offline || is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE") {
        return cache.snapshot(&request.revision).ok_or_else(|| {
            format!("[hub] {what}: expected in the cache {} (offline), found nothing", cache.folder.display())
        });
    }
    let client = Client::of_environment(&what)?;
    let listing = match list(&client, request) {
        Ok(listing) => listing,
        // As huggingface_hub: no network, a server in trouble or an expired token do not matter while the files are here.
        Err(failure) if failure.refused => match cache.snapshot(&request.revision) {
            Some(folder) => return Ok(folder),
            None => return Err(format!("{}; nothing of it is in the cache", failure.text)),
        },
        Err(failure) => return Err(failure.text),
    };
    check_commit(&listing.sha)?;
    if listing.siblings.len() > MAX_FILES {
        let count = listing.siblings.len();
        return Err(format!("[hub] {what}: expected at most {MAX_FILES} files, found {count}"));
    }
    let mut names = Vec::new();
    for sibling in &listing.siblings {
        check_file(&sibling.rfilename)?;
        if request.patterns.is_empty() || matches_any(&sibling.rfilename, &request.patterns) {
            names.push(sibling.rfilename.as_str());
        }
    }
    if names.is_empty() {
        return Err(format!("[hub] {what}: expected files like {}, found none", request.patterns.join(", ")));
    }
    let folder = cache.folder.join("snapshots").join(&listing.sha);
    for name in names {
        one_file(&client, request, cache, &listing.sha, name, &folder, progress)?;
    }
    // Last, so that an interrupted download never becomes what "offline" finds.
    if request.revision != listing.sha {
        cache.write_ref(&request.revision, &listing.sha)?;
    }
    Ok(folder)
}

fn list(client: &Client, request: &SnapshotRequest) -> Result<Listing, Failure> {
    let path = format!("/api/models/{}/revision/{}", request.repo, Client::quote(&request.revision, false));
    let body = client.get_text(&path, MAX_LISTING)?;
    serde_json::from_str(&body).map_err(|e| {
        let text = one_line(&e.to_string(), 200);
        client.wrong(&format!("expected a list of files as JSON, found something else ({text})"))
    })
}

fn one_file(
    client: &Client,
    request: &SnapshotRequest,
    cache: &Cache,
    commit: &str,
    name: &str,
    folder: &Path,
    progress: &Progress,
) -> Answer<()> {
    let pointer = folder.join(name);
    if fs::metadata(&pointer).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let path = format!("/{}/resolve/{commit}/{}", request.repo, Client::quote(name, true));
    let remote = client.head(&path, name, commit).map_err(|failure| failure.text)?;
    let _lock = cache.lock(&remote.etag)?;
    let blob = cache.folder.join("blobs").join(&remote.etag);
    if !fs::metadata(&blob).is_ok_and(|found| found.is_file() && found.len() == remote.size) {
        fetch_blob(client, &path, name, &remote, &blob, progress)?;
    }
    cache.link(&pointer, name, &remote.etag)
}

fn is_true(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}
