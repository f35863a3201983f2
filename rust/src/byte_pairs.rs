//! Byte-pair tokenizers from their parts. A vocabulary of 49,000 tokens takes the tokenizers crate four times as long
//! from tokenizer.json: its parser keeps the whole model as a JSON document before it builds anything.

use std::sync::Arc;

use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, Tokenizer};

use crate::ffi::{BytePairs, Strings};
use crate::guard::{Answer, guarded, lossy, one_line};
use crate::tokenizer::{BridgeTokenizer, MAX_ID, parse, utf8};

pub fn tokenizer_from_byte_pairs(parts: &BytePairs, origin: &[u8]) -> Answer<Box<BridgeTokenizer>> {
    let origin = lossy(origin);
    guarded("tokenizer", &origin.clone(), || {
        let wrong = |e: &str| format!("[tokenizer] {origin}: not a tokenizer that is known here: {}", one_line(e, 300));
        let mut inner = parse(parts.shell, &origin)?;
        let ModelWrapper::BPE(settings) = inner.get_model() else {
            return Err(wrong("expected a byte-pair model"));
        };
        let tokens = split(&parts.tokens).ok_or_else(|| wrong("a token is not UTF-8"))?;
        let merges = split(&parts.merges).ok_or_else(|| wrong("a merge is not UTF-8"))?;
        let (pairs, []) = merges.as_chunks::<2>() else {
            return Err(wrong("half a merge"));
        };
        let Some(highest) = tokens.len().checked_sub(1) else {
            return Err(wrong("no tokens"));
        };
        if highest > MAX_ID as usize {
            return Err(format!("[tokenizer] {origin}: expected ids up to {MAX_ID}, found {highest}"));
        }
        let added = added_tokens(parts, &tokens).ok_or_else(|| wrong("an added token that is none"))?;

        let mut vocabulary = Vocab::with_capacity(tokens.len());
        vocabulary.extend((0u32..).zip(&tokens).map(|(id, token)| (token.to_string(), id)));
        let pairs = pairs.iter().map(|[left, right]| (left.to_string(), right.to_string())).collect();
        let mut builder = BPE::builder()
            .vocab_and_merges(vocabulary, pairs)
            .fuse_unk(settings.fuse_unk)
            .byte_fallback(settings.byte_fallback)
            .ignore_merges(settings.ignore_merges);
        if let Some(unknown) = &settings.unk_token {
            builder = builder.unk_token(unknown.clone());
        }
        let model = builder.build().map_err(|e| wrong(&e.to_string()))?;
        inner.with_model(model);
        inner.add_tokens(added).map_err(|e| wrong(&e.to_string()))?;
        Ok(finish(inner, origin.clone(), highest as u32))
    })
}

fn finish(inner: Tokenizer, origin: String, highest: u32) -> Box<BridgeTokenizer> {
    let size = inner.get_vocab_size(true) as i32;
    Box::new(BridgeTokenizer { inner: Arc::new(inner), origin, size, highest })
}

/// None: not UTF-8, or ends that are not in order.
fn split<'a>(strings: &Strings<'a>) -> Option<Vec<&'a str>> {
    let text = utf8(strings.text).ok()?;
    let mut all = Vec::with_capacity(strings.ends.len());
    let mut begin = 0;
    for &end in strings.ends {
        all.push(text.get(begin..end)?);
        begin = end;
    }
    Some(all)
}

/// As GGUF converters write them: found in the text as it is, and cut out whole.
fn added_tokens(parts: &BytePairs, tokens: &[&str]) -> Option<Vec<AddedToken>> {
    if parts.added.len() != parts.special.len() {
        return None;
    }
    let one = |(&id, &special): (&u32, &bool)| {
        let text = *tokens.get(id as usize)?;
        // SentencePiece finds pieces of several spaces among its own marks of spaces, which a text may hold as well.
        let spaces = !special && text.len() > 1 && text.bytes().all(|byte| byte == b' ');
        Some(AddedToken::from(text.to_string(), special).normalized(spaces))
    };
    parts.added.iter().zip(parts.special).map(one).collect()
}

#[cfg(test)]
mod tests;
