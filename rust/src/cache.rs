//! The cache folder of one repo, laid out as huggingface_hub does and shared with it.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::guard::Answer;
use crate::names::is_hex;

pub struct Cache {
    /// <hub>/models--org--name
    pub folder: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub fn of_environment(repo: &str) -> Answer<Cache> {
        let hub = match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
            Some(folder) => folder,
            None => home()?.join("hub"),
        };
        let name = format!("models--{}", repo.replace('/', "--"));
        Ok(Cache { folder: hub.join(&name), locks: hub.join(".locks").join(&name) })
    }

    /// The snapshot that the cache has for a branch, tag or commit.
    pub fn snapshot(&self, revision: &str) -> Option<PathBuf> {
        let commit = if is_hex(revision, 40) {
            revision.to_owned()
        } else {
            fs::read_to_string(self.folder.join("refs").join(revision)).ok()?.trim().to_owned()
        };
        let folder = self.folder.join("snapshots").join(&commit);
        (is_hex(&commit, 40) && folder.is_dir()).then_some(folder)
    }

    pub fn write_ref(&self, revision: &str, commit: &str) -> Answer<()> {
        let file = self.folder.join("refs").join(revision);
        if fs::read_to_string(&file).is_ok_and(|found| found == commit) {
            return Ok(());
        }
        replace(&file, |fresh| fs::write(fresh, commit))
    }

    /// Held while a blob is written; flock, as Python's filelock, so the two wait for each other.
    pub fn lock(&self, etag: &str) -> Answer<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| unwritable(&path, &e))?;
        file.lock().map_err(|e| unwritable(&path, &e))?;
        Ok(file)
    }

    /// snapshots/<commit>/<name> becomes a relative link to blobs/<etag>, in one step.
    pub fn link(&self, pointer: &Path, name: &str, etag: &str) -> Answer<()> {
        let up = "../".repeat(2 + name.matches('/').count());
        replace(pointer, |fresh| std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), fresh))
    }
}

/// HF_TOKEN, else the file that `hf auth login` writes.
pub fn token() -> Answer<Option<String>> {
    let given = env::var("HF_TOKEN").or_else(|_| env::var("HUGGING_FACE_HUB_TOKEN")).ok();
    let token = match given.filter(|text| !text.trim().is_empty()) {
        Some(text) => Some(text),
        None => match variable("HF_TOKEN_PATH").map_or_else(|| home().map(|home| home.join("token")), Ok) {
            Ok(file) => fs::read_to_string(file).ok(),
            Err(_) => None,
        },
    };
    let token = token.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if token.as_ref().is_some_and(|text| text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_graphic())) {
        return Err("[hub] HF_TOKEN: expected letters and digits on one line, found something else".into());
    }
    Ok(token)
}

fn home() -> Answer<PathBuf> {
    if let Some(folder) = variable("HF_HOME") {
        return Ok(folder);
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let cache = cache.ok_or("[hub] cache: expected HF_HOME or HOME to be set, found neither")?;
    Ok(cache.join("huggingface"))
}

pub fn variable(name: &str) -> Option<PathBuf> {
    let value = PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?);
    match value.strip_prefix("~") {
        Ok(rest) => Some(PathBuf::from(env::var_os("HOME")?).join(rest)),
        Err(_) => Some(value),
    }
}

/// `make` makes something under a name beside `path`, which then takes its place in one step.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Answer<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    make_parent(path)?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let fresh = path.with_file_name(format!(".{}.{number}.part", std::process::id()));
    // What a process of the same number left behind when it was killed.
    let _ = fs::remove_file(&fresh);
    make(&fresh).and_then(|()| fs::rename(&fresh, path)).map_err(|e| {
        let _ = fs::remove_file(&fresh);
        unwritable(path, &e)
    })
}

pub fn make_parent(path: &Path) -> Answer<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|e| unwritable(parent, &e))
}

pub fn unwritable(path: &Path, error: &std::io::Error) -> String {
    format!("[hub] cache: cannot write {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_and_links() {
        let folder = env::temp_dir().join(format!("mlx_lm_cache_{}", std::process::id()));
        let cache = Cache { folder: folder.join("models--a--b"), locks: folder.join("locks") };
        let commit = "0123456789".repeat(4);
        assert!(cache.snapshot("main").is_none());
        cache.write_ref("refs/pr/1", &commit).unwrap();
        cache.write_ref("refs/pr/1", &commit).unwrap();
        assert!(cache.snapshot("refs/pr/1").is_none(), "there is no such folder yet");
        let snapshot = cache.folder.join("snapshots").join(&commit);
        for _ in 0..2 {
            cache.link(&snapshot.join("sub/file"), "sub/file", "e").unwrap();
        }
        assert_eq!(cache.snapshot("refs/pr/1"), Some(snapshot.clone()));
        assert_eq!(cache.snapshot(&commit), Some(snapshot.clone()));
        assert_eq!(fs::read_link(snapshot.join("sub/file")).unwrap(), Path::new("../../../blobs/e"));
        assert_eq!(fs::read_dir(snapshot.join("sub")).unwrap().count(), 1, "nothing is left beside it");
        let lock = cache.lock("e").unwrap();
        assert!(File::open(folder.join("locks/e.lock")).unwrap().try_lock().is_err());
        drop(lock);
        // A folder is in the way.
        fs::create_dir(cache.folder.join("refs/main")).unwrap();
        assert!(cache.write_ref("main", &commit).unwrap_err().starts_with("[hub] cache: cannot write "));
        assert_eq!(fs::read_dir(cache.folder.join("refs")).unwrap().count(), 2, "refs/ and main/ only");
        fs::remove_dir_all(folder).unwrap();
    }
}
