//! One file into blobs/<etag>: resumed where it stopped, checked, and only then given its name.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha1::Digest;
use ureq::Body;
use ureq::http::Response;

use crate::cache::{make_parent, unwritable};
use crate::ffi::Progress;
use crate::guard::Answer;
use crate::http::{Client, Failure, Remote, backoff};
use crate::names::is_hex;

// Tries in a row that brought no new byte.
const MAX_FRUITLESS: u32 = 5;

pub fn fetch_blob(
    client: &Client,
    path: &str,
    name: &str,
    remote: &Remote,
    blob: &Path,
    progress: &Progress,
) -> Answer<()> {
    make_parent(blob)?;
    let partial = PathBuf::from(format!("{}.incomplete", blob.display()));
    let resumed = fs::metadata(&partial).is_ok_and(|found| found.len() > 0);
    fill(client, path, name, remote, &partial, progress)?;
    let mut checked = check(client, name, remote, &partial);
    if checked.is_err() && resumed {
        // The part from an earlier run may be to blame: once more from the start.
        fill(client, path, name, remote, &partial, progress)?;
        checked = check(client, name, remote, &partial);
    }
    checked?;
    fs::rename(&partial, blob).map_err(|e| unwritable(blob, &e))
}

fn fill(client: &Client, path: &str, name: &str, remote: &Remote, partial: &Path, progress: &Progress) -> Answer<()> {
    let file = File::options().create(true).append(true).open(partial);
    let mut file = file.map_err(|e| unwritable(partial, &e))?;
    let length = |file: &File| file.metadata().map(|found| found.len()).map_err(|e| unwritable(partial, &e));
    let empty = |file: &File| file.set_len(0).map_err(|e| unwritable(partial, &e));
    if length(&file)? > remote.size {
        empty(&file)?;
    }
    let (mut best, mut fruitless) = (length(&file)?, 0);
    loop {
        let start = length(&file)?;
        progress.report(name, start, remote.size).map_err(|e| e.to_string())?;
        if start == remote.size {
            break;
        }
        let failure = match client.get(path, start) {
            Err(failure) => failure,
            Ok(response) => {
                if let Some(size) = whole_size(&response).filter(|&size| size != remote.size) {
                    return Err(client.wrong(&format!("{name}: expected {} bytes, found {size}", remote.size)).text);
                }
                let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
                let continues = range.is_some_and(|text| text.starts_with(&format!("bytes {start}-")));
                if start > 0 && !(response.status().as_u16() == 206 && continues) {
                    empty(&file)?;
                    if response.status().as_u16() != 200 {
                        fruitless += 1;
                        if fruitless >= MAX_FRUITLESS {
                            return Err(client
                                .wrong(&format!("{name}: expected byte {start} on, found another part"))
                                .text);
                        }
                        continue;
                    }
                }
                copy(client, response, name, remote, &mut file, partial, progress)?
            }
        };
        let now = length(&file)?;
        if now == remote.size {
            continue;
        }
        fruitless = if now > best { 0 } else { fruitless + 1 };
        best = best.max(now);
        if !failure.retry || fruitless >= MAX_FRUITLESS {
            return Err(failure.text);
        }
        if fruitless > 0 {
            backoff(fruitless);
        }
    }
    file.sync_all().map_err(|e| unwritable(partial, &e))
}

/// The size of the whole file, where the answer tells it.
fn whole_size(response: &Response<Body>) -> Option<u64> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    match response.status().as_u16() {
        200 => header("content-length")?.parse().ok(),
        _ => header("content-range")?.rsplit_once('/')?.1.parse().ok(),
    }
}

/// Appends the body; the failure says why it ended, which matters only when the file is not complete.
fn copy(
    client: &Client,
    response: Response<Body>,
    name: &str,
    remote: &Remote,
    file: &mut File,
    partial: &Path,
    progress: &Progress,
) -> Answer<Failure> {
    let mut done = file.metadata().map_err(|e| unwritable(partial, &e))?.len();
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(client.broken(&format!("{name}: expected {} bytes, found {done}", remote.size))),
            Ok(count) => count,
            Err(e) => return Ok(client.broken(&format!("{name}: the connection was cut at byte {done}: {e}"))),
        };
        done += count as u64;
        if done > remote.size {
            file.set_len(0).map_err(|e| unwritable(partial, &e))?;
            return Err(client.wrong(&format!("{name}: expected {} bytes, found more", remote.size)).text);
        }
        file.write_all(&buffer[..count]).map_err(|e| unwritable(partial, &e))?;
        progress.report(name, done, remote.size).map_err(|e| e.to_string())?;
    }
}

/// An etag of 64 digits is the sha256 of a large file, one of 40 the name that git gives to a small one.
fn check(client: &Client, name: &str, remote: &Remote, partial: &Path) -> Answer<()> {
    let read = || File::open(partial).map_err(|e| unwritable(partial, &e));
    let found = if is_hex(&remote.etag, 64) {
        digest(sha2::Sha256::new(), read()?)
    } else if is_hex(&remote.etag, 40) {
        digest(sha1::Sha1::new_with_prefix(format!("blob {}\0", remote.size)), read()?)
    } else {
        return Ok(());
    };
    let found = found.map_err(|e| unwritable(partial, &e))?;
    if found == remote.etag {
        return Ok(());
    }
    let _ = fs::remove_file(partial);
    Err(client.wrong(&format!("{name}: expected the checksum {}, found {found}", remote.etag)).text)
}

fn digest(mut hash: impl Digest, mut file: File) -> std::io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&buffer[..count]);
    }
}
