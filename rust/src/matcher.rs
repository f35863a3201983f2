//! Where in a grammar a text has got to, and which tokens may come next.

use std::sync::Arc;

use llguidance::TokenParser;

use crate::ffi::TokenList;
use crate::grammar_tokens::Tokens;
use crate::guard::{Answer, guarded, one_line};

/// The engine's words for it.
pub const NO_TOKEN: &str = "NoExtensionBias";

pub struct BridgeMatcher {
    parser: TokenParser,
    tokens: Arc<Tokens>,
    /// An end token came. The parser is not told: to it the end is a state, not a token.
    ended: bool,
    /// The engine gave up; it does so for good.
    failed: Option<String>,
}

impl BridgeMatcher {
    pub fn new(parser: TokenParser, tokens: Arc<Tokens>) -> BridgeMatcher {
        BridgeMatcher { parser, tokens, ended: false, failed: None }
    }

    pub fn copy(&self) -> Box<BridgeMatcher> {
        let (parser, tokens) = (self.parser.clone(), self.tokens.clone());
        Box::new(BridgeMatcher { parser, tokens, ended: self.ended, failed: self.failed.clone() })
    }

    pub fn mask(&mut self, bits: &mut [u32]) -> Answer<()> {
        let words = self.tokens.known.len();
        if bits.len() != words {
            return Err(format!("[grammar] mask: expected {words} words, found {}", bits.len()));
        }
        self.run(|m| {
            bits.fill(0);
            if m.ended {
                return Ok(());
            }
            if m.parser.stopped() {
                m.tokens.ends.iter().for_each(|&id| bits[id as usize / 32] |= 1 << (id % 32));
                return Ok(());
            }
            let allowed = m.parser.compute_mask().map_err(|e| e.to_string())?;
            // A grammar may name ids that are no tokens.
            for ((out, allowed), known) in bits.iter_mut().zip(allowed.as_slice()).zip(&m.tokens.known) {
                *out = allowed & known;
            }
            if m.accepting() {
                m.tokens.ends.iter().for_each(|&id| bits[id as usize / 32] |= 1 << (id % 32));
            }
            Ok(())
        })
    }

    /// False: the grammar does not allow this token here, and nothing has changed.
    pub fn commit(&mut self, token: i32) -> Answer<bool> {
        self.run(|m| {
            let Some(id) = m.token(token) else { return Ok(false) };
            if m.tokens.ends.contains(&id) {
                let may = !m.ended && m.accepting();
                m.ended |= may;
                return Ok(may);
            }
            if m.ended || m.parser.stopped() || !m.parser.validate_token(id).map_err(|e| e.to_string())? {
                return Ok(false);
            }
            let back = m.parser.consume_token(id).map_err(|e| e.to_string())?;
            if back != 0 {
                return Err("a lexeme with a hidden end (stop=...) is not known here".into());
            }
            m.parser.check_stop().map_err(|e| e.to_string())?;
            Ok(true)
        })
    }

    /// How many of the tokens are allowed, one after the other.
    pub fn validate(&mut self, tokens: &[i32]) -> Answer<usize> {
        self.run(|m| {
            if m.ended {
                return Ok(0);
            }
            let known: Vec<u32> = tokens.iter().map_while(|&token| m.token(token)).collect();
            let text = known.iter().position(|id| m.tokens.ends.contains(id)).unwrap_or(known.len());
            if text == 0 {
                return Ok((!known.is_empty() && m.accepting()) as usize);
            }
            if m.parser.stopped() {
                return Ok(0);
            }
            // The end token is the parser's business here, as it knows whether the text before it is complete.
            let more = (text + 1).min(known.len());
            m.parser.validate_tokens_raw(&known[..more]).map_err(|e| e.to_string())
        })
    }

    pub fn rollback(&mut self, count: usize) -> Answer<()> {
        let made = self.parser.num_tokens() + self.ended as usize;
        if count > made {
            return Err(format!("[grammar] rollback: expected at most {made} tokens, found {count}"));
        }
        self.run(|m| {
            let text = count - (m.ended && count > 0) as usize;
            m.ended &= count == 0;
            m.parser.rollback(text).map_err(|e| e.to_string())?;
            // The engine knows its last mask by its place, but another text may lead to the same place.
            m.parser.invalidate_bias_cache();
            Ok(())
        })
    }

    /// The tokens that must come next, as the tokenizer would write them.
    pub fn forced(&mut self) -> Answer<Vec<i32>> {
        self.run(|m| {
            if m.ended || m.parser.stopped() {
                return Ok(Vec::new());
            }
            Ok(m.parser.compute_ff_tokens().into_iter().map(|id| id as i32).collect())
        })
    }

    pub fn accepts(&mut self) -> Answer<bool> {
        self.run(|m| Ok(m.ended || m.accepting()))
    }

    pub fn stopped(&self) -> bool {
        self.ended || self.failed.is_some() || self.parser.stopped()
    }

    /// A short way to the end from here: its tokens, or nothing if `limit` of them are not enough.
    pub fn ending(&self, limit: usize) -> Answer<Vec<TokenList>> {
        let mut copy = self.copy();
        let mut tokens = Vec::new();
        let mut bits = vec![0; self.tokens.known.len()];
        let mut used = [0u32; 256];
        while !copy.accepts()? {
            let mut next = copy.forced()?;
            if next.is_empty() {
                copy.mask(&mut bits)?;
                next.extend(copy.way_out(&bits, &mut used));
            }
            if next.is_empty() || tokens.len() + next.len() > limit {
                return Ok(Vec::new());
            }
            for id in next {
                if !copy.commit(id)? {
                    return Ok(Vec::new());
                }
                tokens.push(id);
            }
        }
        Ok(vec![TokenList { tokens }])
    }

    fn way_out(&self, bits: &[u32], used: &mut [u32; 256]) -> Option<i32> {
        let allowed = |id: u32| bits[id as usize / 32] >> (id % 32) & 1 == 1;
        let letter = |c: u8| self.tokens.letters.get(&c).copied().filter(|&id| allowed(id));
        // Both braces are allowed inside a text only, where they lead nowhere.
        let inside = letter(b'{').is_some() && letter(b'}').is_some();
        let way: &[u8] = if inside { b"\"" } else { b"}]\"" };
        if let Some(id) = way.iter().find_map(|&c| letter(c)) {
            return Some(id as i32);
        }
        // Ever others, as more of the same may never lead to the end: the comma before a property that is missing has to
        // come, or the @ of an address.
        let others = b",0@:.-/123456789abcdefghijklmnopqrstuvwxyzDHMSTWYABCEFGIJKLNOPQRUVXZ)>;!?'=#$%&*+<|~^_`\\{([ \n"
            .iter()
            .copied();
        if let Some(c) = others.filter(|&c| letter(c).is_some()).min_by_key(|&c| used[c as usize]) {
            used[c as usize] += 1;
            return letter(c).map(|id| id as i32);
        }
        let (word, i) = bits.iter().zip(0u32..).find(|(word, _)| **word != 0)?;
        Some((32 * i + word.trailing_zeros()) as i32)
    }

    fn accepting(&mut self) -> bool {
        // Stopped without an error: nothing can follow, as the text is complete.
        self.parser.stopped() || self.parser.is_accepting()
    }

    fn token(&self, token: i32) -> Option<u32> {
        u32::try_from(token).ok().filter(|&id| self.tokens.is_known(id))
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Self) -> Answer<T>) -> Answer<T> {
        if let Some(text) = &self.failed {
            return Err(text.clone());
        }
        guarded("grammar", "matcher", || work(self)).map_err(|text| {
            let text = match text.lines().next().unwrap_or_default() {
                NO_TOKEN => "[grammar] the tokenizer has no token for what has to come next".into(),
                text if text.starts_with("[grammar]") => text.to_owned(),
                text => format!("[grammar] {}", one_line(text, 300)),
            };
            self.failed = Some(text.clone());
            text
        })
    }
}
