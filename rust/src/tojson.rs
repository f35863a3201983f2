//! `tojson` as transformers defines it for chat templates: Python's json.dumps, not Jinja's HTML-safe filter.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

// Python's own encoder gives up near its recursion limit of 1000.
const MAX_DEPTH: usize = 500;
// A byte of JSON costs more to make than the byte of text that the engine charges for.
const BYTES_PER_FUEL: usize = 16;

pub fn tojson(state: &State, value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(flag) => flag,
        None => options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(count) if count.is_none() => None,
        Some(count) => Some(" ".repeat(usize::try_from(i64::try_from(count)?.clamp(0, 64)).unwrap_or(0))),
    };
    let (mut comma, mut colon) = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(pair) = options.get::<Option<Value>>("separators")?.filter(|pair| !pair.is_none()) {
        let parts: Vec<Value> = pair.try_iter()?.take(3).collect();
        let [Some(first), Some(second)] = [0, 1].map(|i| parts.get(i).and_then(Value::as_str)) else {
            return Err(wrong("tojson: separators: expected two strings"));
        };
        (comma, colon) = (first.to_owned(), second.to_owned());
    }
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut writer = Writer { state, out: String::new(), paid: 0, ensure_ascii, indent, comma, colon, sort_keys };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    out: String,
    paid: usize,
    ensure_ascii: bool,
    indent: Option<String>,
    comma: String,
    colon: String,
    sort_keys: bool,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(wrong("tojson: the value is nested too deeply"));
        }
        // Paid while it grows, so that an endless or huge value stops early.
        self.state.consume_fuel(1 + ((self.out.len() - self.paid) / BYTES_PER_FUEL) as u64)?;
        self.paid = self.out.len();
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.items('[', ']', value.try_iter()?.checked(), depth, |writer, item| {
                    writer.value(&item?, depth + 1)
                })?
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.checked().collect::<Result<Vec<Value>, Error>>()?;
                if self.sort_keys {
                    keys.sort();
                }
                self.items('{', '}', keys.into_iter(), depth, |writer, key| {
                    writer.key(&key)?;
                    let colon = writer.colon.clone();
                    writer.out.push_str(&colon);
                    writer.value(&value.get_item(&key)?, depth + 1)
                })?
            }
            kind => return Err(wrong(&format!("tojson: a value of kind {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn items<T>(
        &mut self,
        open: char,
        close: char,
        items: impl Iterator<Item = T>,
        depth: usize,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                let comma = self.comma.clone();
                self.out.push_str(&comma);
            }
            empty = false;
            self.line(depth + 1);
            write(self, item)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None => self.out.push_str("\"null\""),
            ValueKind::Bool => self.out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
            ValueKind::Number => self.string(&number(key)),
            kind => return Err(wrong(&format!("tojson: a key of kind {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' => self.escape(c as u16),
                c if self.ensure_ascii && c > '~' => {
                    for &unit in c.encode_utf16(&mut [0; 2]).iter() {
                        self.escape(unit);
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, unit: u16) {
        let _ = write!(self.out, "\\u{unit:04x}");
    }
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(x) if x.is_nan() => "NaN".into(),
        Ok(x) if x.is_infinite() => if x > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        _ => python_float(value).unwrap_or_else(|| value.to_string()),
    }
}

/// Python's repr of a float; minijinja's Display never uses an exponent.
pub fn python_float(value: &Value) -> Option<String> {
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    let x = f64::try_from(value.clone()).ok()?;
    if !x.is_finite() {
        return Some(format!("{x}").to_lowercase());
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        Some(if plain.contains('.') { plain } else { plain + ".0" })
    } else {
        Some(format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()))
    }
}

fn wrong(text: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.to_owned())
}

#[cfg(test)]
mod tests;
