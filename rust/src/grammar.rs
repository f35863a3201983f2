//! Grammars for constrained generation: llguidance, with bounds on what a hostile schema, regex or grammar can ask for,
//! and errors of one line that name the place.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use llguidance::TokenParser;
use llguidance::api::{GrammarInit, TopLevelGrammar};
use serde_json::Value;

use crate::ffi::{GrammarKind, GrammarRequest};
use crate::grammar_schema::{Wrong, locate, prepare, read};
use crate::grammar_tokens::{BridgeGrammarTokens, Tokens};
use crate::guard::{Answer, one_line};
use crate::halt::{Failure, Limits, on_large_stack};
use crate::matcher::{BridgeMatcher, NO_TOKEN};
use crate::regex_size::{check_patterns, check_regex};
use crate::tokenizer::utf8;

const AREA: &str = "grammar";
// The largest schemas in use (FHIR, package.json) have 100 kB to 3 MB, those of requests a few kB.
const MAX_SCHEMA: usize = 2 << 20;
const MAX_REGEX: usize = 16 << 10;
const MAX_LARK: usize = 256 << 10;
const MAX_CHOICES: usize = 1 << 20;
// Of a text that is forced letter by letter, at up to 80 microseconds each.
pub const MAX_TEXT: usize = 8 << 10;

// Brackets nest by the byte in Lark, and the engine's parser recurses. The pages are touched only when that happens.
const MIN_STACK: usize = 64 << 20;
const STACK_PER_BYTE: usize = 2048;
// What the engine's own limits miss is cut off by the clock, or stops for want of memory. A halted thread keeps what it
// has, so there are few chances.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_MEMORY: usize = 256 << 20;
const MAX_HALTED: u32 = 4;

pub struct BridgeGrammar {
    tokens: Arc<Tokens>,
    // What the first matcher learns about the lexer serves the next ones too, until it is a lot or they broke it; then
    // one starts afresh.
    parsers: Mutex<Parsers>,
    warnings: Vec<String>,
}

struct Parsers {
    fresh: TokenParser,
    shared: TokenParser,
}

pub fn grammar_new(tokens: &BridgeGrammarTokens, request: &GrammarRequest) -> Answer<Box<BridgeGrammar>> {
    let source = Source::of(request)?;
    let tokens = tokens.inner.clone();
    let name = source.name();
    let stack = MIN_STACK + source.size() * STACK_PER_BYTE;
    let slow = || format!("[{AREA}] {name}: it takes too long or too much memory");
    if tokens.halted.load(Ordering::Relaxed) >= MAX_HALTED {
        return Err(slow());
    }
    let shared = tokens.clone();
    let limits = Limits { stack, memory: MAX_MEMORY, patience: PATIENCE };
    let parsers = on_large_stack(AREA, name, &limits, move || {
        let mut fresh = source.compile(&shared).map_err(|wrong| {
            let text = one_line(&wrong.text, 500);
            if wrong.place.is_empty() { text } else { format!("{}: {text}", one_line(&wrong.place, 300)) }
        })?;
        fresh.start_without_prompt();
        // A first mask shows what cannot be worked with, and the next one is cheaper.
        let shared = fresh.deep_clone();
        match shared.clone().compute_mask() {
            Err(e) if e.to_string() == NO_TOKEN => {
                Err("nothing satisfies it, or nothing that the tokenizer can write".into())
            }
            Err(e) => Err(one_line(e.to_string().lines().next().unwrap_or_default(), 500)),
            Ok(_) => Ok(Parsers { fresh, shared }),
        }
    });
    match parsers {
        Ok(mut parsers) => {
            let warnings = parsers.fresh.grammar_warnings();
            Ok(Box::new(BridgeGrammar { tokens, parsers: Mutex::new(parsers), warnings }))
        }
        Err(Failure::Text(text)) => Err(text),
        Err(Failure::Stuck) => {
            tokens.halted.fetch_add(1, Ordering::Relaxed);
            Err(slow())
        }
    }
}

impl BridgeGrammar {
    pub fn matcher(&self) -> Box<BridgeMatcher> {
        let mut parsers = self.parsers.lock().unwrap_or_else(PoisonError::into_inner);
        let states = parsers.fresh.limits.max_lexer_states / 2;
        // A panic inside the engine leaves its lock poisoned, and then asking panics too.
        let usable = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let stats = parsers.shared.parser.lexer_stats();
            !stats.error && stats.num_states < states
        }));
        if !usable.unwrap_or(false) {
            parsers.shared = parsers.fresh.deep_clone();
        }
        Box::new(BridgeMatcher::new(parsers.shared.clone(), self.tokens.clone()))
    }

    pub fn warnings(&self) -> Vec<String> {
        self.warnings.iter().map(|text| one_line(text, 300)).collect()
    }
}

enum Source {
    Schema { text: String, compact: bool },
    Regex(String),
    Lark(String),
    Choice(Vec<String>),
}

impl Source {
    fn of(request: &GrammarRequest) -> Answer<Source> {
        let (name, most) = match request.kind {
            GrammarKind::JsonSchema => ("JSON schema", MAX_SCHEMA),
            GrammarKind::Regex => ("regex", MAX_REGEX),
            GrammarKind::Lark => ("Lark grammar", MAX_LARK),
            _ => ("choice", MAX_CHOICES),
        };
        let size = request.source.text.len();
        if size > most {
            return Err(format!("[{AREA}] {name}: expected at most {most} bytes, found {size}"));
        }
        let text = utf8(request.source.text)
            .map_err(|at| format!("[{AREA}] {name}: expected UTF-8, found an invalid byte at {at}"))?;
        Ok(match request.kind {
            GrammarKind::JsonSchema => Source::Schema { text: text.into(), compact: request.compact },
            GrammarKind::Regex => Source::Regex(text.into()),
            GrammarKind::Lark => Source::Lark(text.into()),
            _ => {
                let mut begin = 0;
                let mut all = Vec::with_capacity(request.source.ends.len());
                for &end in request.source.ends {
                    let one = text.get(begin..end);
                    all.push(
                        one.ok_or_else(|| format!("[{AREA}] choice: expected UTF-8, found half a letter"))?.into(),
                    );
                    begin = end;
                }
                Source::Choice(all)
            }
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Source::Schema { .. } => "JSON schema",
            Source::Regex(_) => "regex",
            Source::Lark(_) => "Lark grammar",
            Source::Choice(_) => "choice",
        }
    }

    fn size(&self) -> usize {
        match self {
            Source::Schema { text, .. } => text.len(),
            Source::Regex(text) | Source::Lark(text) => text.len(),
            Source::Choice(all) => all.iter().map(String::len).sum(),
        }
    }

    fn compile(self, tokens: &Tokens) -> Result<TokenParser, Wrong> {
        let nowhere = |text: String| Wrong { place: String::new(), text };
        match self {
            Source::Schema { text, compact } => {
                let schema = prepare(read(text.as_bytes()).map_err(nowhere)?, compact)?;
                check_patterns(&schema)
                    .map_err(|(pattern, text)| Wrong { place: format!("pattern {pattern}"), text })?;
                build(tokens, TopLevelGrammar::from_json_schema(schema.clone())).map_err(|error| {
                    let compile = |part: Value| compiles(tokens, TopLevelGrammar::from_json_schema(part)).err();
                    let place = locate(&schema, &error, compile);
                    Wrong { place, ..describe(&error) }
                })
            }
            Source::Regex(text) => {
                if text.is_empty() {
                    return Err(nowhere("expected a pattern, found nothing".into()));
                }
                check_regex(&text).map_err(nowhere)?;
                if ends_in_escape(&text) {
                    return Err(nowhere("the last \\ escapes nothing".into()));
                }
                let pattern = without_anchors(&text);
                build(tokens, TopLevelGrammar::from_regex(pattern))
                    .map_err(|error| nowhere(describe(&error).text.trim_start_matches(IN_PATTERN).into()))
            }
            Source::Lark(text) => build(tokens, TopLevelGrammar::from_lark(text)).map_err(|error| describe(&error)),
            Source::Choice(all) => {
                if let Some(long) = all.iter().find(|text| text.len() > MAX_TEXT) {
                    return Err(nowhere(format!("expected texts of at most {MAX_TEXT} bytes, found {}", long.len())));
                }
                if all.is_empty() || all.iter().any(String::is_empty) {
                    let found = if all.is_empty() { "none" } else { "an empty one" };
                    return Err(nowhere(format!("expected texts, found {found}")));
                }
                let quoted = all.iter().map(|text| quote(text)).collect::<Vec<_>>().join("\n | ");
                let grammar = TopLevelGrammar::from_lark(format!("start: ANY\nANY: {quoted}\n"));
                build(tokens, grammar).map_err(|error| Wrong { place: String::new(), ..describe(&error) })
            }
        }
    }
}

/// A text as Lark writes it.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The whole text has to match in any case, so ^ and $ around a pattern say nothing new; the engine knows neither.
fn without_anchors(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    pattern.strip_suffix('$').filter(|rest| !ends_in_escape(rest)).unwrap_or(pattern)
}

/// The engine would leave the last \ out.
pub fn ends_in_escape(pattern: &str) -> bool {
    pattern.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

fn build(tokens: &Tokens, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
    let internal = compiles(tokens, grammar)?;
    tokens.factory.create_parser_from_init_default(internal).map_err(|e| e.to_string())
}

fn compiles(tokens: &Tokens, grammar: TopLevelGrammar) -> Result<GrammarInit, String> {
    let environment = tokens.factory.tok_env().clone();
    GrammarInit::Serialized(grammar)
        .to_internal(Some(environment), tokens.factory.limits().clone())
        .map(|(grammar, lexer)| GrammarInit::Internal(grammar, lexer))
        .map_err(|e| e.to_string())
}

const REGEX_ERROR: &str = "regex parse error:\n";
const IN_PATTERN: &str = "pattern, ";

/// The engine's words: "at LINE(COLUMN): text", with the line itself below.
fn describe(error: &str) -> Wrong {
    let (place, rest) = split_place(error).unwrap_or((String::new(), error));
    let first = rest.lines().next().unwrap_or_default();
    let text = match (rest.split_once(REGEX_ERROR), first.strip_prefix("Unimplemented keys: ")) {
        (Some((_, shown)), _) => in_pattern(shown),
        (None, Some(keys)) => format!("keywords that are not known here: {}", keys.trim_matches(['[', ']'])),
        (None, None) => first.trim_start_matches("Unsatisfiable schema: ").to_owned(),
    };
    Wrong { place, text }
}

/// The regex crate shows the pattern and a ^ below, both after four spaces.
fn in_pattern(shown: &str) -> String {
    let text = shown.split("error: ").nth(1).unwrap_or(shown).lines().next().unwrap_or_default();
    let mark = shown.lines().find(|line| line.trim_start().starts_with('^')).and_then(|line| line.find('^'));
    match mark.and_then(|at| at.checked_sub(4)) {
        Some(at) => format!("{IN_PATTERN}column {}: {text}", at + 1),
        None => format!("{IN_PATTERN}{text}"),
    }
}

fn split_place(error: &str) -> Option<(String, &str)> {
    let (place, text) = error.strip_prefix("at ").unwrap_or(error).split_once("): ")?;
    let (line, column) = place.split_once('(')?;
    let (line, column) = (line.parse::<usize>().ok()?, column.parse::<usize>().ok()?);
    Some((format!("line {line} column {column}"), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_become_ours() {
        let parts = |error: &str| {
            let wrong = describe(error);
            (wrong.place, wrong.text)
        };
        let lark = "at 2(7): unknown name: \"b\"\n   1 | start: b\n\n<non-verbose/>";
        assert_eq!(parts(lark), ("line 2 column 7".into(), "unknown name: \"b\"".into()));
        assert_eq!(parts("3(1): lexer error\nx"), ("line 3 column 1".into(), "lexer error".into()));
        let regex = "in regex: regex parse error:\n    a(b\n     ^\nerror: unclosed group";
        assert_eq!(parts(regex), (String::new(), "pattern, column 2: unclosed group".into()));
        assert_eq!(parts("at x(y): z").1, "at x(y): z");
        assert_eq!(parts("Unimplemented keys: [\"not\"]").1, "keywords that are not known here: \"not\"");
        assert_eq!(parts(""), (String::new(), String::new()));
    }

    #[test]
    fn anchors_and_quotes() {
        for (pattern, plain) in [("^a$", "a"), ("a\\$", "a\\$"), ("a\\\\$", "a\\\\"), ("^", ""), ("a|b", "a|b")] {
            assert_eq!(without_anchors(pattern), plain);
        }
        assert!(ends_in_escape("\\\\\\") && !ends_in_escape("\\\\") && !ends_in_escape(""));
        assert_eq!(quote("a\"\\\n\x7fä"), "\"a\\\"\\\\\\u000a\\u007fä\"");
    }
}
