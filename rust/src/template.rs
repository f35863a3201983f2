//! Chat templates: minijinja set up like transformers' ImmutableSandboxedEnvironment, with bounds on everything that a
//! hostile template can ask for. A step of the engine and every 64 bytes that it makes cost one unit of fuel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::guard::{Answer, lossy, one_line};
use crate::halt::{Failure, Limits, on_large_stack};
use crate::methods::more_methods;
use crate::tojson::{python_float, tojson};

// The longest templates in use (Llama 4, GPT-OSS, Gemma 4) have 10 to 20 kB.
const MAX_SOURCE: usize = 256 << 10;
const MAX_CONTEXT: usize = 64 << 20;
const MAX_OUTPUT: usize = 64 << 20;
// A conversation of 1,000 messages takes about 100,000 steps; a long one is paid for by its own length.
const FUEL: u64 = 1_000_000;
const FUEL_PER_BYTE: u64 = 4;
// Calls of macros; a loop level counts, too.
const MAX_CALLS: usize = 200;
const NAME: &str = "chat template";
const AREA: &str = "chat template";

pub struct BridgeTemplate {
    environment: Arc<Environment<'static>>,
    origin: String,
    halted: AtomicU32,
}

pub fn template_new(source: &[u8], origin: &[u8]) -> Answer<Box<BridgeTemplate>> {
    let origin = lossy(origin);
    if source.len() > MAX_SOURCE {
        let size = source.len();
        return Err(format!("[chat template] {origin}: expected at most {MAX_SOURCE} bytes, found {size}"));
    }
    let text = std::str::from_utf8(source)
        .map_err(|e| format!("[chat template] {origin}: not UTF-8 at byte {}", e.valid_up_to()))?;
    let text = plain_generation_tags(text);
    let stack = MIN_STACK + text.len() * STACK_PER_BYTE;
    let limits = Limits { stack, memory: usize::MAX, patience: PATIENCE };
    let environment = on_large_stack(AREA, &origin, &limits, move || {
        let mut environment = environment().map_err(|e| describe(&e))?;
        check_tags(&text, environment.syntax())?;
        environment.add_template_owned(NAME, text).map_err(|e| describe(&e))?;
        Ok(environment)
    });
    match environment {
        Ok(environment) => {
            Ok(Box::new(BridgeTemplate { environment: Arc::new(environment), origin, halted: AtomicU32::new(0) }))
        }
        Err(Failure::Text(text)) => Err(text),
        Err(Failure::Stuck) => Err(stuck_text(&origin)),
    }
}

impl BridgeTemplate {
    pub fn render(&self, context_json: &[u8]) -> Answer<String> {
        if self.halted.load(Ordering::Relaxed) >= MAX_HALTED {
            return Err(stuck_text(&self.origin));
        }
        if context_json.len() > MAX_CONTEXT {
            let size = context_json.len();
            return Err(format!(
                "[chat template] messages: expected at most {MAX_CONTEXT} bytes as JSON, found {size}"
            ));
        }
        let fuel = FUEL + FUEL_PER_BYTE * context_json.len() as u64;
        let context: serde_json::Value = serde_json::from_slice(context_json)
            .map_err(|e| format!("[chat template] messages: {}", one_line(&e.to_string(), 300)))?;
        let shared = self.environment.clone();
        let stack = MIN_STACK + fuel as usize * STACK_PER_FUEL;
        let patience = PATIENCE + Duration::from_millis(context_json.len() as u64 / BYTES_PER_MILLISECOND);
        let limits = Limits { stack, memory: usize::MAX, patience };
        let answer = on_large_stack(AREA, &self.origin, &limits, move || {
            let mut environment = (*shared).clone();
            environment.set_fuel(Some(fuel));
            let template = environment.get_template(NAME).map_err(|e| describe(&e))?;
            let mut out = Bounded { bytes: Vec::new() };
            template.render_captured_to(Serde(&context), &mut out).map_err(|e| {
                if out.bytes.len() >= MAX_OUTPUT { "the output is too large".into() } else { describe(&e) }
            })?;
            String::from_utf8(out.bytes).map_err(|e| e.to_string())
        });
        answer.map_err(|failure| match failure {
            Failure::Text(text) => text,
            Failure::Stuck => {
                self.halted.fetch_add(1, Ordering::Relaxed);
                stuck_text(&self.origin)
            }
        })
    }
}

// A template can nest values as deeply as it has steps ([[[...]]] in a loop), and dropping, printing or comparing such
// a value recurses in the library: up to STACK_PER_FUEL bytes a level. The pages are touched only when that happens.
// The parser bounds brackets and blocks, but not chains of operators ("not not not ..."), which nest by the byte.
const MIN_STACK: usize = 16 << 20;
const STACK_PER_BYTE: usize = 2048;
const STACK_PER_FUEL: usize = 640;

// What fuel misses is cut off by the clock: printing or comparing [[x, x], [x, x]] doubles with each level, within one
// step. A halted thread keeps its memory, so a template gets few chances; more than one, as the machine may be to blame.
const PATIENCE: Duration = Duration::from_millis(1500);
const MAX_HALTED: u32 = 3;
const BYTES_PER_MILLISECOND: u64 = 1000;

fn stuck_text(origin: &str) -> String {
    format!("[chat template] {origin}: it takes too long")
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(MAX_CALLS);
    environment.set_unknown_method_callback(|state, value, method, args| {
        match more_methods(state, value, method, args) {
            Err(e) if e.kind() == ErrorKind::UnknownMethod => unknown_method_callback(state, value, method, args),
            other => other,
        }
    });
    environment.add_filter("tojson", tojson);
    // These two write nested values with an indentation that no fuel pays for; Jinja has neither in a chat template.
    environment.remove_filter("pprint");
    environment.remove_global("debug");
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    // Python's strings and dicts have a length and items, so Jinja calls them sequences.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
    });
    // The library writes all digits of 1e-7 and 1e20.
    environment.set_formatter(|out, state, value| match python_float(value) {
        Some(text) => out.write_str(&text).map_err(Error::from),
        None => escape_formatter(out, state, value),
    });
    // MiniMax's template tells null from a list by it.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    Ok(environment)
}

// The engine folds constants again at every level of an expression, before any fuel is counted: the work grows with the
// square of a tag's tokens ("1~1~1..." of 100 kB took 9 minutes). Real templates sum up to some 100,000.
const MAX_TAG_WORK: u64 = 2_000_000;

fn check_tags(source: &str, syntax: &SyntaxConfig) -> Result<(), String> {
    let (mut tokens, mut work) = (0u64, 0u64);
    for item in tokenize(source, false, syntax.clone()) {
        match item.map_err(|e| describe(&e))?.0 {
            Token::BlockStart | Token::VariableStart => tokens = 0,
            Token::TemplateData(_) => (),
            _ => {
                work += 2 * tokens + 1;
                tokens += 1;
            }
        }
        if work > MAX_TAG_WORK {
            return Err("its expressions are too long".into());
        }
    }
    Ok(())
}

const RAISED: &str = "raised by the template: ";

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// Local time through the C library, as Python's datetime.now().strftime().
fn strftime_now(state: &State, format: &str) -> Result<String, Error> {
    let wrong = |text: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {text}"));
    state.consume_fuel(100)?;
    if format.len() > 1000 || format.contains('\0') {
        return Err(wrong("expected a format of at most 1000 characters"));
    }
    // The space keeps strftime's 0 ("does not fit") apart from an empty text.
    let pattern = std::ffi::CString::new(format!("{format} ")).map_err(|_| wrong("a NUL in the format"))?;
    let mut buffer = vec![0u8; 16 << 10];
    // SAFETY: plain C calls on buffers that live through them; strftime writes at most the length that it is given.
    let length = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(wrong("no local time"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), pattern.as_ptr(), &parts)
    };
    if length == 0 {
        return Err(wrong("the text is too long"));
    }
    buffer.truncate(length - 1);
    String::from_utf8(buffer).map_err(|_| wrong("the text is not UTF-8"))
}

/// `{% generation %}` marks the assistant's part for training: a scope of its own and nothing else when rendering.
fn plain_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let inside = &rest[at + 2..];
        let open = if inside.starts_with(['-', '+']) { &inside[..1] } else { "" };
        let word = inside[open.len()..].trim_start();
        let (tag, plain) = match word {
            w if w.starts_with("generation") => ("generation", "with"),
            w if w.starts_with("endgeneration") => ("endgeneration", "endwith"),
            _ => ("", ""),
        };
        let after = word[tag.len()..].trim_start();
        out.push_str(&rest[..at + 2]);
        if !tag.is_empty() && after.trim_start_matches(['-', '+']).starts_with("%}") {
            out.push_str(&format!("{open} {plain} "));
            rest = after;
        } else {
            rest = inside;
        }
    }
    out + rest
}

fn describe(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return "it takes too many steps or too much memory".into();
    }
    let detail = error.detail().unwrap_or("");
    // What the template's author wrote for the user stands alone; a raise inside a macro is a cause of the cause.
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(e) = cause {
        if let Some(raised) = e.downcast_ref::<Error>().and_then(Error::detail).and_then(|d| d.strip_prefix(RAISED)) {
            return format!("{RAISED}{}", one_line(raised, 1000));
        }
        cause = e.source();
    }
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    one_line(&format!("{line}{}: {detail}", error.kind()), 500)
}

struct Bounded {
    bytes: Vec<u8>,
}

impl std::io::Write for Bounded {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + data.len() > MAX_OUTPUT {
            self.bytes.resize(MAX_OUTPUT, b' ');
            return Err(std::io::Error::other("the output is too large"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub mod tests;
