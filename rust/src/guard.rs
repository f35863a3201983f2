//! No panic crosses into C++: cxx would abort the process. A panic of a library becomes an error like any other.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

pub type Answer<T> = Result<T, String>;

/// Runs `work`; a panic in it becomes `Err("[area] what: the library failed inside: ...")`.
pub fn guarded<T>(area: &str, what: &str, work: impl FnOnce() -> Answer<T>) -> Answer<T> {
    // The default hook prints the panic to standard error; the caller gets it as an error instead.
    static QUIET: Once = Once::new();
    if cfg!(not(test)) {
        QUIET.call_once(|| set_hook(Box::new(|_| {})));
    }
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(format!("[{area}] {what}: the library failed inside: {}", one_line(text, 300)))
    })
}

/// A text from outside made fit for an error message: one line, bounded, no control characters.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut line: String = text.chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        line.push_str("...");
    }
    line
}

/// A name that came over the border as bytes, for messages only.
pub fn lossy(name: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(name), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guarded("a", "b", || Ok(1)), Ok(1));
        assert_eq!(guarded::<()>("a", "b", || Err("e".into())), Err("e".into()));
        let text = guarded::<()>("a", "b", || panic!("one\n{}", 2)).unwrap_err();
        assert_eq!(text, "[a] b: the library failed inside: one 2");
        let text = guarded::<()>("a", "b", || std::panic::panic_any(3)).unwrap_err();
        assert_eq!(text, "[a] b: the library failed inside: no message");
    }

    #[test]
    fn lines_are_bounded_and_plain() {
        assert_eq!(one_line("a\nb\x1b\u{85}c", 100), "a b  c");
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüß", 3), "äöü...");
        assert_eq!(lossy(b"a\xff"), "a\u{fffd}");
    }
}
