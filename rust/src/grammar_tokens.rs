//! A tokenizer's vocabulary as the grammar engine wants it: the bytes that each token adds to a text, and a way to
//! write forced bytes with the tokens that the model has learned them in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::guard::{Answer, guarded, one_line};
use crate::tokenizer::{BridgeTokenizer, MAX_ID};

// The engine's tree counts a token's bytes in 10 bits. The longest tokens in use are 1,024 spaces.
const MAX_TOKEN: usize = 1024;

/// What a mask, a grammar and a state may cost. The times are for one core of a server of 2023.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2_000,
    initial_lexer_fuel: 1_000_000, // 20 ms
    step_lexer_fuel: 200_000,      // 15 ms
    step_max_items: 50_000,        // 3 ms
    max_lexer_states: 50_000,      // 1 to 2 kB each
    max_grammar_size: 500_000,
    precompute_large_lexemes: true,
    verbose_errors: false,
};

pub struct Tokens {
    pub factory: ParserFactory,
    /// One bit for each id that is a token.
    pub known: Vec<u32>,
    pub ends: Vec<u32>,
    /// The tokens of one letter that lead out of a JSON text, by letter.
    pub letters: HashMap<u8, u32>,
    pub halted: AtomicU32,
}

impl Tokens {
    pub fn is_known(&self, id: u32) -> bool {
        self.known.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }
}

pub struct BridgeGrammarTokens {
    pub inner: Arc<Tokens>,
}

/// size: the model's vocabulary, that is the bits of a mask.
pub fn grammar_tokens(tokenizer: &BridgeTokenizer, size: u32, ends: &[i32]) -> Answer<Box<BridgeGrammarTokens>> {
    guarded("grammar", &tokenizer.origin, || {
        if size == 0 || size > MAX_ID {
            return Err(format!("[grammar] vocabulary: expected 1 to {MAX_ID} tokens, found {size}"));
        }
        let ends: Vec<u32> = ends.iter().filter_map(|&id| u32::try_from(id).ok()).filter(|&id| id < size).collect();
        let Some(words) = words(&tokenizer.inner, size, &ends) else {
            return Err(format!(
                "[grammar] {}: expected a tokenizer of bytes (ByteLevel, ByteFallback or Metaspace), found another",
                tokenizer.origin
            ));
        };
        let mut known = vec![0u32; (size as usize).div_ceil(32)];
        for (id, _) in words.iter().enumerate().filter(|(_, word)| !word.is_empty()) {
            known[id / 32] |= 1 << (id % 32);
        }
        let letters = words.iter().zip(0u32..).filter(|(word, _)| word.len() == 1).map(|(word, id)| (word[0], id));
        // Of several the last: a letter as a token of its own comes after the 256 tokens for bytes.
        let letters = letters.collect();
        let info = TokRxInfo::new(size, ends.first().copied().unwrap_or(INVALID_TOKEN));
        let mut trie = TokTrie::from(&info, &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let tokenizer = without_prefix(&tokenizer.inner)?;
        let environment: TokEnv = Arc::new(Vocabulary { trie, tokenizer });
        let mut factory = ParserFactory::new_simple(&environment).map_err(|e| {
            let text = one_line(&e.to_string(), 300);
            format!("[grammar] vocabulary: {text}")
        })?;
        factory.quiet();
        *factory.limits_mut() = LIMITS;
        let inner = Tokens { factory, known, ends, letters, halted: AtomicU32::new(0) };
        Ok(Box::new(BridgeGrammarTokens { inner: Arc::new(inner) }))
    })
}

/// By id, what a token adds to the text; empty: it is never allowed. What is no text begins with a byte that no text
/// has. None: this tokenizer's tokens cannot be told apart from its text.
fn words(tokenizer: &Tokenizer, size: u32, ends: &[u32]) -> Option<Vec<Vec<u8>>> {
    let spelling = Spelling::of(&serde_json::to_value(tokenizer.get_decoder()).ok()?)?;
    let added = tokenizer.get_added_tokens_decoder();
    let marks: HashSet<u32> = ends.iter().copied().collect();
    let mut words = vec![Vec::new(); size as usize];
    for (token, id) in tokenizer.get_vocab(true) {
        let Some(word) = words.get_mut(id as usize) else { continue };
        // <think> and the like stand for themselves in a grammar, whether the file calls them special or not.
        let special = added.get(&id).is_some_and(|t| t.special || (token.starts_with('<') && token.ends_with('>')));
        *word = if special || marks.contains(&id) { mark(&token) } else { spelling.bytes(&token) };
        if word.len() > MAX_TOKEN {
            word.clear();
        }
    }
    for &id in ends.iter().filter(|&&id| words[id as usize].is_empty()).collect::<Vec<_>>() {
        words[id as usize] = mark(&format!("<end {id}>"));
    }
    Some(words)
}

fn mark(name: &str) -> Vec<u8> {
    [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
}

/// How the text of a token stands for bytes.
enum Spelling {
    /// GPT-2's alphabet of 256 letters.
    Letters(HashMap<char, u8>),
    /// Plain text with another sign for the space, and maybe <0x41> for a byte.
    Text { space: String, bytes: bool },
}

impl Spelling {
    fn of(decoder: &Value) -> Option<Spelling> {
        let mut steps = Vec::new();
        flatten(decoder, &mut steps);
        let kind = |name: &str| steps.iter().find(|step| step["type"] == name);
        if kind("ByteLevel").is_some() {
            return Some(Spelling::Letters(letters()));
        }
        let replaced = steps.iter().find(|step| step["type"] == "Replace" && step["content"] == " ");
        let space = match (replaced, kind("Metaspace")) {
            (Some(step), _) => step["pattern"]["String"].as_str()?,
            (None, Some(step)) => step["replacement"].as_str()?,
            (None, None) => "",
        };
        let bytes = kind("ByteFallback").is_some();
        (bytes || !space.is_empty()).then(|| Spelling::Text { space: space.to_owned(), bytes })
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            // As the decoder does: a token with another letter is plain text.
            Spelling::Letters(letters) => {
                let bytes: Option<Vec<u8>> = token.chars().map(|c| letters.get(&c).copied()).collect();
                bytes.unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Spelling::Text { space, bytes } => match byte(token).filter(|_| *bytes) {
                Some(byte) => vec![byte],
                None if space.is_empty() => token.as_bytes().to_vec(),
                None => token.replace(space, " ").into_bytes(),
            },
        }
    }
}

fn flatten<'a>(decoder: &'a Value, steps: &mut Vec<&'a Value>) {
    match decoder["decoders"].as_array() {
        Some(inner) => inner.iter().for_each(|step| flatten(step, steps)),
        None => steps.push(decoder),
    }
}

/// Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py
fn letters() -> HashMap<char, u8> {
    let shown = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let hidden = (0..=255).filter(|&byte| !shown(byte));
    let mut letters: HashMap<char, u8> = ('\u{100}'..).zip(hidden).collect();
    letters.extend((0..=255).filter(|&byte| shown(byte)).map(|byte| (char::from(byte), byte)));
    letters
}

/// <0x41>
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    // from_str_radix would take a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The same tokenizer without the space that some put before each text: forced text goes on where other text ended.
fn without_prefix(tokenizer: &Arc<Tokenizer>) -> Answer<Arc<Tokenizer>> {
    let wrong = |e: String| format!("[grammar] tokenizer: {}", one_line(&e, 300));
    let read = |v: Result<Value, serde_json::Error>| v.map_err(|e| wrong(e.to_string()));
    let normalizer = read(serde_json::to_value(tokenizer.get_normalizer()))?;
    let splitter = read(serde_json::to_value(tokenizer.get_pre_tokenizer()))?;
    let (plain_normalizer, plain_splitter) = (plain(normalizer.clone()), plain(splitter.clone()));
    if plain_normalizer == normalizer && plain_splitter == splitter {
        return Ok(tokenizer.clone());
    }
    let mut other = (**tokenizer).clone();
    let normalizer: Option<tokenizers::NormalizerWrapper> =
        serde_json::from_value(plain_normalizer).map_err(|e| wrong(e.to_string()))?;
    let splitter: Option<tokenizers::PreTokenizerWrapper> =
        serde_json::from_value(plain_splitter).map_err(|e| wrong(e.to_string()))?;
    other.with_normalizer(normalizer).map_err(|e| wrong(e.to_string()))?;
    other.with_pre_tokenizer(splitter);
    Ok(Arc::new(other))
}

fn plain(mut step: Value) -> Value {
    if let Some(fields) = step.as_object_mut() {
        if fields.contains_key("prepend_scheme") {
            fields.insert("prepend_scheme".into(), json!("never"));
        }
        if fields.get("add_prefix_space") == Some(&json!(true)) {
            fields.insert("add_prefix_space".into(), json!(false));
        }
        for list in ["normalizers", "pretokenizers"] {
            if let Some(Value::Array(steps)) = fields.get_mut(list) {
                steps.retain(|step| step["type"] != "Prepend");
                steps.iter_mut().for_each(|step| *step = plain(step.take()));
            }
        }
        if fields.get("type") == Some(&json!("Prepend")) {
            return Value::Null;
        }
    }
    step
}

struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl Vocabulary {
    fn spells(&self, ids: &[u32], text: &str) -> bool {
        let mut rest = text.as_bytes();
        ids.iter().all(|&id| match rest.strip_prefix(self.trie.token(id)) {
            Some(left) => {
                rest = left;
                true
            }
            None => false,
        }) && rest.is_empty()
    }

    /// The longest token each time; false: a byte has no token.
    fn longest(&self, bytes: &[u8], ids: &mut Vec<u32>) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.trie.prefix_token_id(rest) {
                (_, 0) => return false,
                (id, length) => {
                    ids.push(id);
                    rest = &rest[length..];
                }
            }
        }
        true
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// Only as far as there are tokens for it: what the engine then waits for cannot be written, and the mask says so.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        for chunk in bytes.utf8_chunks() {
            // The tokenizer may read a name in the text as a special token, or change letters; then it is not used.
            match self.tokenizer.encode_fast(chunk.valid(), false) {
                Ok(found) if self.spells(found.get_ids(), chunk.valid()) => ids.extend(found.get_ids()),
                _ if !self.longest(chunk.valid().as_bytes(), &mut ids) => break,
                _ => (),
            }
            if !self.longest(chunk.invalid(), &mut ids) {
                break;
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_for_bytes() {
        let byte_level = Spelling::of(&json!({"type": "ByteLevel"})).unwrap();
        assert_eq!(byte_level.bytes("Ġa"), b" a");
        assert_eq!(byte_level.bytes("Ã¤ĊÃ"), b"\xc3\xa4\n\xc3");
        assert_eq!(byte_level.bytes("Ġ€"), "Ġ€".as_bytes(), "an added token's own letters");
        let steps = json!([{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]);
        let pieces = Spelling::of(&json!({"type": "Sequence", "decoders": steps})).unwrap();
        assert_eq!(pieces.bytes("▁a▁"), b" a ");
        assert_eq!(pieces.bytes("<0xE4>"), b"\xe4");
        for plain in ["<0xE>", "<0xEEE>", "<0xGG>", "<0x+1>", "0x41"] {
            assert_eq!(pieces.bytes(plain), plain.as_bytes(), "{plain}");
        }
        let metaspace = Spelling::of(&json!({"type": "Metaspace", "replacement": "_"})).unwrap();
        assert_eq!(metaspace.bytes("_<0x41>"), b" <0x41>");
        for other in [json!(null), json!({"type": "WordPiece"}), json!({"type": "Sequence", "decoders": []})] {
            assert!(Spelling::of(&other).is_none());
        }
    }

    #[test]
    fn prefixes_go() {
        let both = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "NFC"}]});
        assert_eq!(plain(both), json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]}));
        assert_eq!(plain(json!({"type": "Prepend", "prepend": "▁"})), Value::Null);
        let nested = json!({"pretokenizers": [{"prepend_scheme": "first"}, {"add_prefix_space": true}]});
        assert_eq!(plain(nested), json!({"pretokenizers": [{"prepend_scheme": "never"}, {"add_prefix_space": false}]}));
    }
}
