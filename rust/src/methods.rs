//! Python's string methods that minijinja's pycompat lacks or does otherwise, as chat templates use them.

use minijinja::value::{Kwargs, from_args};
use minijinja::{Error, ErrorKind, State, Value};

pub fn more_methods(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Err(Error::from(ErrorKind::UnknownMethod));
    let Some(text) = value.as_str() else { return unknown() };
    state.consume_fuel(1 + text.len() as u64 / 64)?;
    match method {
        "split" | "rsplit" => {
            let (separator, limit, options): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = separator.or(options.get::<Option<Value>>("sep")?).filter(|value| !value.is_none());
            let limit = limit.or(options.get::<Option<i64>>("maxsplit")?).unwrap_or(-1);
            options.assert_all_used()?;
            let separator = match &separator {
                None => None,
                Some(value) => match value.as_str() {
                    Some(text) if !text.is_empty() => Some(text),
                    _ => return Err(wrong("split: expected a separator that is a string and not empty")),
                },
            };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let parts = split(text, separator, limit, method == "rsplit");
            state.consume_fuel(parts.len() as u64)?;
            Ok(parts.into_iter().map(Value::from).collect())
        }
        // The library makes a text of any width before it is paid for.
        "format" if has_wide_field(text) => Err(wrong("format: the width is too large")),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(wrong("partition: empty separator"));
            }
            let last = method == "rpartition";
            let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text.find(part).ok_or_else(|| wrong("index: substring not found"))?;
            Ok(Value::from(text[..at].chars().count()))
        }
        "casefold" => {
            let () = from_args(args)?;
            Ok(Value::from(text.to_lowercase()))
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            Ok(Value::from(text.chars().map(swap).collect::<String>()))
        }
        _ => unknown(),
    }
}

/// Python's str.split and str.rsplit: at most `limit` cuts; without a separator at runs of white space.
fn split<'a>(text: &'a str, separator: Option<&str>, limit: usize, from_right: bool) -> Vec<&'a str> {
    let Some(separator) = separator else { return split_at_space(text, limit, from_right) };
    let cuts = limit.saturating_add(1);
    if !from_right {
        return text.splitn(cuts, separator).collect();
    }
    let mut parts: Vec<&str> = text.rsplitn(cuts, separator).collect();
    parts.reverse();
    parts
}

fn split_at_space(text: &str, limit: usize, from_right: bool) -> Vec<&str> {
    // What is left after the last cut keeps the white space at its far end.
    let near = if from_right { str::trim_end } else { str::trim_start };
    let mut parts = Vec::new();
    let mut rest = near(text);
    while !rest.is_empty() {
        let cut = if from_right { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        let Some(at) = cut.filter(|_| parts.len() < limit) else {
            parts.push(rest);
            break;
        };
        let width = rest[at..].chars().next().map_or(1, char::len_utf8);
        let (before, after) = (&rest[..at], &rest[at + width..]);
        parts.push(if from_right { after } else { before });
        rest = near(if from_right { before } else { after });
    }
    if from_right {
        parts.reverse();
    }
    parts
}

/// Whether a field such as {:>9} asks for five digits or more, or for a width that is an argument.
fn has_wide_field(text: &str) -> bool {
    text.replace("{{", "").split('{').skip(1).any(|field| {
        let (field, closed) = field.split_once('}').map_or((field, false), |(field, _)| (field, true));
        let Some((_, spec)) = field.split_once(':') else { return false };
        !closed || spec.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4)
    })
}

fn wrong(text: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.to_owned())
}

#[cfg(test)]
mod tests;
