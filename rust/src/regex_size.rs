//! How large a regex becomes when its repetitions are written out: `(a{1000}){1000}` is a short way to ask for
//! gigabytes and seconds.

use regex_syntax::hir::{Hir, HirKind};
use serde_json::Value;

// Takes under a second. A text of at most so many letters is well below.
const MAX_SIZE: u64 = 20_000;

/// An error for one that is too large. What is no regex passes: the engine says more about that.
pub fn check_regex(text: &str) -> Result<(), String> {
    let Ok(hir) = regex_syntax::Parser::new().parse(text) else { return Ok(()) };
    match size(&hir) {
        n if n <= MAX_SIZE => Ok(()),
        n => Err(format!("expected at most {MAX_SIZE} letters when repetitions are written out, found {n}")),
    }
}

/// The first pattern of a JSON schema that is too large, with its error.
pub fn check_patterns(schema: &Value) -> Result<(), (String, String)> {
    let check = |text: &str| check_regex(text).map_err(|error| (text.to_owned(), error));
    match schema {
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            match (key.as_str(), value) {
                ("pattern", Value::String(text)) => check(text)?,
                ("patternProperties", Value::Object(patterns)) => patterns.keys().try_for_each(|text| check(text))?,
                _ => {}
            }
            check_patterns(value)
        }),
        Value::Array(items) => items.iter().try_for_each(check_patterns),
        _ => Ok(()),
    }
}

// As deep as the parser lets them nest, which is 250.
fn size(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1,
        HirKind::Literal(text) => text.0.len() as u64,
        HirKind::Capture(group) => size(&group.sub),
        HirKind::Repetition(many) => {
            size(&many.sub).saturating_mul(u64::from(many.max.unwrap_or(many.min).max(many.min).max(1)))
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(size).fold(0, u64::saturating_add),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_repetitions_ask_for() {
        assert!(check_regex("(a{1000}){1000}").unwrap_err().contains("1000000"));
        assert!(check_regex("((((a{99}){99}){99}){99}){99}").is_err());
        assert!(check_regex("(x+|y{0,100}z){1,100}[a-z]{4,64}").is_ok());
        assert!(check_regex("(").is_ok());
        let schema = serde_json::json!({"properties": {"pattern": {"items": [{"pattern": "((ab){999}){999}"}]}}});
        assert_eq!(check_patterns(&schema).unwrap_err().0, "((ab){999}){999}");
    }
}
