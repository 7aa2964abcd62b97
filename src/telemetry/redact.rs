//! Keeps phone numbers out of logs and traces.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wire::ChatToken;

/// `LOG_PII=full`: the operator wants to see whole numbers.
static LIFTED: AtomicBool = AtomicBool::new(false);

/// From now on nothing is masked.
pub fn lift() {
    LIFTED.store(true, Ordering::Relaxed);
}

/// A chat as logs and traces may show it: `…5678`.
pub fn chat(token: &ChatToken) -> String {
    if LIFTED.load(Ordering::Relaxed) { token.as_str().to_owned() } else { token.masked() }
}

/// Runs of at least this many digits may be a phone number or a hidden id.
const SHORTEST: usize = 7;

/// `text` with every long run of digits cut down to `…` and its last four.
pub fn text(text: &dyn std::fmt::Display) -> String {
    let text = text.to_string();
    if LIFTED.load(Ordering::Relaxed) { text } else { cut(&text) }
}

/// The same whatever `LOG_PII` says: for what is no log.
pub fn cut(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut digits = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        match digits.len().checked_sub(4) {
            Some(cut) if digits.len() >= SHORTEST => {
                safe.push('…');
                safe.push_str(digits.get(cut..).unwrap_or_default());
            }
            _ => safe.push_str(&digits),
        }
        digits.clear();
        if c != '\0' {
            safe.push(c);
        }
    }
    safe
}

/// A writer that lets nothing through unredacted. The log layer writes a line at a time.
#[derive(Debug)]
pub struct Redacted<W: Write>(pub W);

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(text(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_and_hidden_ids_are_cut_down() {
        assert_eq!(text(&"to 5491112345678@s.whatsapp.net: 463"), "to …5678@s.whatsapp.net: 463");
        assert_eq!(text(&"5491112345678"), "…5678");
        assert_eq!(text(&"2026-11-23T06:45:48.123456Z"), "2026-11-23T06:45:48.123456Z");
    }
}
