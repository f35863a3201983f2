//! JSON schemas before the engine sees them: references in the one form that it knows, its own options, and, when it
//! refuses a schema, where in it the reason is.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::grammar::{MAX_TEXT, ends_in_escape};

/// The engine's "x-guidance" stands for all of its options; those of a schema from outside are not heeded.
const OPTIONS: &str = "x-guidance";
// Formats are annotations where a reader does not know them.
const FORMATS: [&str; 10] =
    ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];
// The engine's own dates have a 29th of February and a 60th second at any time.
const YEAR: &str = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})";
const LEAP_YEAR: &str = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
const DAYS: &str = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|\
                    02-(?:0[1-9]|1[0-9]|2[0-8])";
const TIME: &str = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?\
                    (?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
// Bounded, so that a model cannot write white space for ever: what programs that indent put between two tokens.
const WHITE_SPACE: &str = r" |\r?\n[ \t]{0,64}";
// Stands for the / in a name, as the engine takes every / in a reference for a border.
const SLASH: &str = "\u{2215}";

pub struct Wrong {
    pub place: String,
    pub text: String,
}

pub fn read(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|e| e.to_string())
}

/// The schema as the engine takes it. compact: no white space but one space after , and :.
pub fn prepare(mut schema: Value, compact: bool) -> Result<Value, Wrong> {
    match &schema {
        Value::Bool(true) => schema = json!({}),
        Value::Object(_) => (),
        other => {
            let text = match other {
                Value::Bool(false) => "nothing satisfies it".into(),
                _ => format!("expected an object, found {}", kind_of(other)),
            };
            return Err(Wrong { place: "#".into(), text });
        }
    }
    let id = schema["$id"].as_str().map(str::to_owned);
    let mut references = Vec::new();
    walk(&mut schema, &mut String::from("#"), &mut |fields, place| {
        normalize(fields, id.as_deref())
            .map(|reference| references.extend(reference.map(|r| (place.to_owned(), r))))
            .map_err(|text| Wrong { place: place.to_owned(), text })
    })?;
    if let Some((place, reference)) = references.into_iter().find(|(_, r)| find(&schema, r).is_none()) {
        return Err(Wrong { place, text: format!("$ref: there is no {}", reference.replace(SLASH, "~1")) });
    }
    let options = if compact {
        json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false, "coerce_one_of": true})
    } else {
        json!({"whitespace_pattern": WHITE_SPACE, "coerce_one_of": true})
    };
    if let Value::Object(fields) = &mut schema {
        fields.insert(OPTIONS.into(), options);
    }
    Ok(schema)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Each schema of a document, with its place; values that are data are left out.
fn walk<E>(
    schema: &mut Value,
    place: &mut String,
    visit: &mut impl FnMut(&mut Map<String, Value>, &str) -> Result<(), E>,
) -> Result<(), E> {
    let Value::Object(fields) = schema else { return Ok(()) };
    visit(fields, place)?;
    let length = place.len();
    for (key, value) in fields.iter_mut() {
        if matches!(key.as_str(), "const" | "enum" | "default" | "examples") {
            continue;
        }
        let named = matches!(key.as_str(), "properties" | "patternProperties" | "$defs" | "definitions");
        place.push('/');
        place.push_str(key);
        let inner = place.len();
        match value {
            Value::Object(schemas) if named => {
                for (name, value) in schemas.iter_mut() {
                    place.push('/');
                    place.push_str(name);
                    walk(value, place, visit)?;
                    place.truncate(inner);
                }
            }
            Value::Array(schemas) => {
                for (i, value) in schemas.iter_mut().enumerate() {
                    place.push_str(&format!("/{i}"));
                    walk(value, place, visit)?;
                    place.truncate(inner);
                }
            }
            other => walk(other, place, visit)?,
        }
        place.truncate(length);
    }
    Ok(())
}

/// The reference of a schema, if it has one, in the engine's form.
fn normalize(fields: &mut Map<String, Value>, id: Option<&str>) -> Result<Option<String>, String> {
    fields.shift_remove(OPTIONS);
    if let Some(name) = fields.get("format").and_then(Value::as_str) {
        let pattern = pattern_of(name).filter(|_| !fields.contains_key("pattern"));
        if pattern.is_some() || !FORMATS.contains(&name) {
            fields.shift_remove("format");
        }
        fields.extend(pattern.map(|pattern| ("pattern".into(), json!(pattern))));
    }
    for key in ["$defs", "definitions"] {
        if let Some(Value::Object(inner)) = fields.get_mut(key)
            && inner.keys().any(|name| name.contains('/'))
        {
            *inner = std::mem::take(inner).into_iter().map(|(name, v)| (name.replace('/', SLASH), v)).collect();
        }
    }
    check_values(fields)?;
    let Some(Value::String(reference)) = fields.get_mut("$ref") else { return Ok(None) };
    let local = id.and_then(|id| reference.strip_prefix(id.trim_end_matches('#'))).unwrap_or(reference);
    let Some(path) = local.strip_prefix('#').filter(|path| path.is_empty() || path.starts_with('/')) else {
        return Err(format!("$ref: expected one that begins with #/, found {reference:?}"));
    };
    *reference = path.split('/').skip(1).fold("#".into(), |all, part| all + "/" + &name_of(part));
    Ok(Some(reference.clone()))
}

fn pattern_of(format: &str) -> Option<String> {
    let date = format!("(?:{YEAR}-(?:{DAYS})|{LEAP_YEAR}-02-29)");
    match format {
        "date" => Some(format!("^{date}$")),
        "time" => Some(format!("^{TIME}$")),
        "date-time" => Some(format!("^{date}T{TIME}$")),
        _ => None,
    }
}

// The engine counts in doubles, which know all whole numbers up to here.
const MAX_WHOLE: u64 = (1 << 53) - 1;

/// Values that the engine takes but gets wrong, or is slow with.
fn check_values(fields: &mut Map<String, Value>) -> Result<(), String> {
    for key in ["const", "enum"] {
        fields.get(key).map_or(Ok(()), |value| check_data(key, value))?;
    }
    for pattern in fields.get("pattern").and_then(Value::as_str).into_iter().chain(names(fields, "patternProperties")) {
        check_length("pattern", pattern)?;
        if ends_in_escape(pattern) {
            return Err("pattern, the last \\ escapes nothing".into());
        }
    }
    names(fields, "properties").try_for_each(|name| check_length("properties", name))?;
    let whole = fields.get("type") == Some(&json!("integer"));
    for (key, sign) in [("maximum", 1.0), ("exclusiveMaximum", 1.0), ("minimum", -1.0), ("exclusiveMinimum", -1.0)] {
        let Some(bound) = fields.get_mut(key) else { continue };
        let (exact, value) = (bound.is_i64() || bound.is_u64(), bound.as_f64().unwrap_or(0.0));
        if (exact || whole) && value.abs() > MAX_WHOLE as f64 {
            // A stricter bound is as good, a looser one is not.
            if value * sign < 0.0 {
                return Err(format!("{key}: expected a whole number of at most {MAX_WHOLE}, found {bound}"));
            }
            *bound = json!(sign as i64 * MAX_WHOLE as i64);
        }
    }
    Ok(())
}

fn names<'a>(fields: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a str> {
    fields.get(key).and_then(Value::as_object).into_iter().flat_map(|named| named.keys().map(String::as_str))
}

fn check_length(key: &str, text: &str) -> Result<(), String> {
    if text.len() <= MAX_TEXT {
        return Ok(());
    }
    Err(format!("{key}: expected texts of at most {MAX_TEXT} bytes, found {}", text.len()))
}

fn check_data(key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => check_length(key, text),
        Value::Number(n) if !n.is_f64() && n.as_f64().is_some_and(|x| x.abs() > MAX_WHOLE as f64) => {
            Err(format!("{key}: expected whole numbers of at most {MAX_WHOLE}, found {n}"))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_data(key, item)),
        Value::Object(fields) => {
            fields.iter().try_for_each(|(name, value)| check_length(key, name).and_then(|()| check_data(key, value)))
        }
        _ => Ok(()),
    }
}

/// One name of a JSON pointer inside a URI.
fn name_of(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, more @ ..] = rest {
        let code = more.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).replace("~1", SLASH).replace("~0", "~")
}

fn find<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    reference.split('/').skip(1).try_fold(root, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })
}

const ROOT: &str = "$root";
const SEARCH: Duration = Duration::from_millis(300);

/// Where in `schema` (prepared) the engine finds `error`: `compile` tells the error of a schema, if any. The innermost
/// part that gives the same one alone, as far as the time allows.
pub fn locate(schema: &Value, error: &str, compile: impl Fn(Value) -> Option<String>) -> String {
    let start = Instant::now();
    let mut moved = schema.clone();
    move_references(&mut moved);
    let mut document = Map::new();
    for key in ["$schema", OPTIONS] {
        if let Some(value) = schema.get(key) {
            document.insert(key.into(), value.clone());
        }
    }
    document.insert(ROOT.into(), moved);
    let fails = |place: &str| {
        let mut document = document.clone();
        document.insert("$ref".into(), json!(format!("#/{ROOT}{place}")));
        compile(Value::Object(document)).is_some_and(|found| found == error)
    };
    let mut place = String::new();
    let mut visited = HashSet::new();
    'down: while visited.insert(place.clone()) {
        let here = find(schema, &format!("#{place}"));
        for inner in here.map(|here| parts(here, &place)).unwrap_or_default() {
            if start.elapsed() > SEARCH {
                break 'down;
            }
            if !visited.contains(&inner) && fails(&inner) {
                place = inner;
                continue 'down;
            }
        }
    }
    format!("#{place}")
}

/// The places of the schemas that one is made of.
fn parts(schema: &Value, place: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => all.push(reference.trim_start_matches('#').to_owned()),
            (
                "properties" | "patternProperties" | "prefixItems" | "anyOf" | "allOf" | "oneOf" | "items",
                Value::Array(_) | Value::Object(_),
            ) if key != "items" || value.is_array() => {
                let names: Vec<String> = match value {
                    Value::Object(named) => named.keys().cloned().collect(),
                    _ => (0..value.as_array().map_or(0, Vec::len)).map(|i| i.to_string()).collect(),
                };
                let plain = names.iter().filter(|name| !name.contains('/'));
                all.extend(plain.map(|name| format!("{place}/{key}/{name}")));
            }
            ("items" | "additionalProperties" | "additionalItems", Value::Object(_)) => {
                all.push(format!("{place}/{key}"));
            }
            _ => (),
        }
    }
    all
}

fn move_references(schema: &mut Value) {
    let _ = walk(schema, &mut String::new(), &mut |fields, _| {
        if let Some(Value::String(reference)) = fields.get_mut("$ref") {
            *reference = format!("#/{ROOT}{}", reference.trim_start_matches('#'));
        }
        Ok::<(), ()>(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(schema: Value) -> Value {
        let mut schema = prepare(schema, false).unwrap_or_else(|wrong| panic!("{}: {}", wrong.place, wrong.text));
        assert!(schema.as_object_mut().unwrap().shift_remove(OPTIONS).is_some());
        schema
    }

    #[test]
    fn references_in_one_form() {
        let schema = json!({"$id": "http://x/y#", "$defs": {"a/b": {"type": "null"}, "c d": {}},
            "properties": {"p": {"$ref": "http://x/y#/$defs/a~1b"}, "q": {"$ref": "#/%24defs/c%20d"}, "r": {"$ref": "#"}}});
        let schema = prepared(schema);
        let properties = &schema["properties"];
        assert_eq!(properties["p"]["$ref"], format!("#/$defs/a{SLASH}b"));
        assert_eq!(find(&schema, properties["p"]["$ref"].as_str().unwrap()), Some(&json!({"type": "null"})));
        assert_eq!((&properties["q"]["$ref"], &properties["r"]["$ref"]), (&json!("#/$defs/c d"), &json!("#")));
        assert_eq!(name_of("%7E0~1%2"), format!("~{SLASH}%2"));
    }

    #[test]
    fn data_is_left_alone() {
        let data = json!({"$ref": "#/none", "format": "x"});
        let schema = json!({"const": data, "enum": [data], "default": data, "examples": [data]});
        assert_eq!(prepared(schema.clone()), schema);
        assert_eq!(
            prepared(json!({"items": [{"format": "x"}, {"format": "uuid"}]})),
            json!({"items": [{}, {"format": "uuid"}]})
        );
    }

    #[test]
    fn the_innermost_place() {
        let bad = json!({"type": "bad"});
        let schema = json!({"$defs": {"d": {"anyOf": [{}, bad]}}, "properties": {"a": {}, "b": {"items": {"$ref": "#/$defs/d"}}}});
        let compile = |document: Value| {
            let text = document["$ref"].as_str().unwrap().to_owned();
            let found = find(&document, &text).unwrap().to_string();
            (found.contains("bad") || found.contains("$defs/d")).then(|| "wrong".to_owned())
        };
        assert_eq!(locate(&schema, "wrong", compile), "#/$defs/d/anyOf/1");
        assert_eq!(locate(&schema, "another error", compile), "#");
        let circle = json!({"items": {"$ref": "#"}});
        assert_eq!(locate(&circle, "wrong", |_| Some("wrong".into())), "#/items");
    }
}
