//! Hugging Face's tokenizers crate, with bounds on what a hostile tokenizer.json or text can ask of it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer;

use crate::guard::{Answer, guarded, lossy, one_line};

// The largest tokenizer.json in use (Gemma 3) has 33 MB.
const MAX_FILE: u64 = 512 << 20;
const MAX_TEXT: usize = 256 << 20;
// vocabulary() allocates by the highest id, and C++ counts in int.
pub const MAX_ID: u32 = 1 << 24;

pub struct BridgeTokenizer {
    /// Shared with the grammars that are made for it.
    pub inner: Arc<Tokenizer>,
    pub origin: String,
    pub size: i32,
    pub highest: u32,
}

pub fn tokenizer_from_file(path: &[u8]) -> Answer<Box<BridgeTokenizer>> {
    let origin = lossy(path);
    let file = Path::new(std::ffi::OsStr::from_bytes(path));
    let found = std::fs::metadata(file).map_err(|e| format!("[tokenizer] {origin}: cannot be read: {e}"))?;
    if !found.is_file() {
        return Err(format!("[tokenizer] {origin}: expected a file, found something else"));
    }
    if found.len() > MAX_FILE {
        return Err(format!("[tokenizer] {origin}: expected at most {MAX_FILE} bytes, found {}", found.len()));
    }
    let json = std::fs::read(file).map_err(|e| format!("[tokenizer] {origin}: cannot be read: {e}"))?;
    tokenizer_from_json(&json, path)
}

pub fn tokenizer_from_json(json: &[u8], origin: &[u8]) -> Answer<Box<BridgeTokenizer>> {
    let origin = lossy(origin);
    guarded("tokenizer", &origin.clone(), || {
        if json.len() as u64 > MAX_FILE {
            return Err(format!("[tokenizer] {origin}: expected at most {MAX_FILE} bytes, found {}", json.len()));
        }
        let inner = parse(json, &origin)?;
        let vocabulary = inner.get_vocab(true);
        let highest = vocabulary.values().copied().max().unwrap_or(0);
        if highest > MAX_ID {
            return Err(format!("[tokenizer] {origin}: expected ids up to {MAX_ID}, found {highest}"));
        }
        let size = vocabulary.len() as i32;
        Ok(Box::new(BridgeTokenizer { inner: Arc::new(inner), origin, size, highest }))
    })
}

/// The text of tokenizer.json.
pub fn parse(json: &[u8], origin: &str) -> Answer<Tokenizer> {
    let text = utf8(json).map_err(|at| format!("[tokenizer] {origin}: not UTF-8 at byte {at}"))?;
    let mut inner: Tokenizer = serde_json::from_str(text).map_err(|e| {
        format!("[tokenizer] {origin}: not a tokenizer that is known here: {}", one_line(&e.to_string(), 300))
    })?;
    // As transformers does: what a file says about truncation and padding is not for a plain encode().
    inner.with_truncation(None).map_err(|e| format!("[tokenizer] {origin}: {e}"))?;
    inner.with_padding(None);
    Ok(inner)
}

impl BridgeTokenizer {
    pub fn encode(&self, text: &[u8], special: bool) -> Answer<Vec<i32>> {
        if text.len() > MAX_TEXT {
            return Err(format!("[tokenizer] text: expected at most {MAX_TEXT} bytes, found {}", text.len()));
        }
        let text =
            utf8(text).map_err(|at| format!("[tokenizer] text: expected UTF-8, found an invalid byte at {at}"))?;
        guarded("tokenizer", &self.origin, || {
            // encode_fast leaves out the character offsets, which nobody here reads.
            let encoding = self
                .inner
                .encode_fast(text, special)
                .map_err(|e| format!("[tokenizer] {}: encode: {}", self.origin, one_line(&e.to_string(), 300)))?;
            Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
        })
    }

    pub fn decode(&self, ids: &[i32], skip_special: bool) -> Answer<String> {
        guarded("tokenizer", &self.origin, || {
            let known: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
            self.inner
                .decode(&known, skip_special)
                .map_err(|e| format!("[tokenizer] {}: decode: {}", self.origin, one_line(&e.to_string(), 300)))
        })
    }

    pub fn token_to_id(&self, token: &[u8]) -> Answer<i32> {
        guarded("tokenizer", &self.origin, || {
            let id = std::str::from_utf8(token).ok().and_then(|token| self.inner.token_to_id(token));
            Ok(id.map_or(-1, |id| id as i32))
        })
    }

    pub fn id_to_token(&self, id: i32) -> Answer<Vec<String>> {
        guarded("tokenizer", &self.origin, || {
            let token = u32::try_from(id).ok().and_then(|id| self.inner.id_to_token(id));
            Ok(token.into_iter().collect())
        })
    }

    pub fn vocab_size(&self) -> i32 {
        self.size
    }

    pub fn decoder_json(&self) -> Answer<String> {
        serde_json::to_string(&self.inner.get_decoder())
            .map_err(|e| format!("[tokenizer] {}: decoder: {e}", self.origin))
    }

    pub fn vocabulary(&self) -> Answer<Vec<String>> {
        guarded("tokenizer", &self.origin, || {
            if self.size == 0 {
                return Ok(Vec::new());
            }
            let mut tokens = vec![String::new(); self.highest as usize + 1];
            for (token, id) in self.inner.get_vocab(true) {
                tokens[id as usize] = token;
            }
            Ok(tokens)
        })
    }

    pub fn added_tokens(&self, special: bool) -> Answer<Vec<String>> {
        guarded("tokenizer", &self.origin, || {
            let added = self.inner.get_added_tokens_decoder();
            Ok(added.into_values().filter(|token| token.special == special).map(|token| token.content).collect())
        })
    }
}

/// The text, or the offset of its first invalid byte.
pub fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    std::str::from_utf8(bytes).map_err(|e| e.valid_up_to())
}

#[cfg(test)]
mod tests;
