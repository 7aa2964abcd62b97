//! Keeps phone numbers out of logs and traces.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wire::ChatToken;

/// `LOG_PII=full`: the operator wants whole numbers.
static LIFTED: AtomicBool = AtomicBool::new(false);

/// Turns masks off from now on.
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

/// The same, but `LOG_PII` does not change it. For output that is not a log.
pub fn cut(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut digits = String::new();
    for c in text.chars().map(Some).chain(std::iter::once(None)) {
        if let Some(digit) = c.filter(char::is_ascii_digit) {
            digits.push(digit);
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
        safe.extend(c);
    }
    safe
}

/// `text` in one line and without terminal commands, so that any sender's text can be printed.
pub fn line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Phone numbers as people write them, separated by commas, each cut down to `…` and its last four digits. Characters
/// that cannot be in a phone number are shown, so that the operator can see a typing mistake.
pub fn numbers(text: &str) -> String {
    text.split(',').map(number).collect::<Vec<_>>().join(",")
}

fn number(text: &str) -> String {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let Some(cut) = digits.checked_sub(4).filter(|cut| *cut > 0) else { return text.to_owned() };
    let mut seen = 0;
    let mut shown = String::new();
    for c in text.chars().filter(|c| !" +-().".contains(*c)) {
        if c.is_ascii_digit() {
            seen += 1;
            if seen == 1 {
                shown.push('…');
            }
        }
        if !c.is_ascii_digit() || seen > cut {
            shown.push(c);
        }
    }
    shown
}

/// Addresses, separated by commas, with `mask` in place of the user, password or token before an `@`. These may hold a
/// comma, so a part without a scheme counts as part of the address before it.
pub fn addresses(text: &str, mask: &str) -> String {
    let mut addresses: Vec<String> = Vec::new();
    for part in text.split(',') {
        match addresses.last_mut().filter(|_| !part.contains("://")) {
            Some(address) => {
                address.push(',');
                address.push_str(part);
            }
            None => addresses.push(part.to_owned()),
        }
    }
    addresses.iter().map(|address| without_user(address, mask)).collect::<Vec<_>>().join(",")
}

fn without_user(address: &str, mask: &str) -> String {
    let Some((user, host)) = address.rsplit_once('@') else { return address.to_owned() };
    let scheme = user.find("://").and_then(|end| user.get(..end + 3)).unwrap_or_default();
    format!("{scheme}{mask}{host}")
}

/// What WhatsApp tells once, and nobody else may read: the client library logs whole refusals, and the code that links a
/// number.
const ONCE_ONLY: [&str; 2] = ["appeal_token=", "phone confirmation. Code: "];

/// `line` without the values of tokens.
fn without_tokens(line: &str) -> std::borrow::Cow<'_, str> {
    let mut safe = std::borrow::Cow::Borrowed(line);
    for name in ONCE_ONLY.iter().filter(|name| line.contains(**name)) {
        safe = without(&safe, name).into();
    }
    safe
}

fn without(line: &str, name: &str) -> String {
    let mut safe = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(name) {
        safe.push_str(before);
        safe.push_str(name);
        safe.push('…');
        let is_quote = |c: char| matches!(c, '"' | '\'' | '\\');
        let value = after.trim_start_matches(is_quote);
        let end = value.find(|c: char| is_quote(c) || c.is_whitespace() || c == '>');
        rest = end.and_then(|end| value.get(end..)).unwrap_or_default();
    }
    safe.push_str(rest);
    safe
}

/// A writer that lets nothing through unredacted. The log layer writes a line at a time.
#[derive(Debug)]
pub struct Redacted<W: Write>(pub W);

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(text(&without_tokens(&String::from_utf8_lossy(line))).as_bytes())?;
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
    fn what_people_write_commands_no_terminal() {
        assert_eq!(line("\u{1b}[2Jhola\nsegunda\u{9b}m ¡👍!"), r"\u{1b}[2Jhola\nsegunda\u{9b}m ¡👍!");
    }

    #[test]
    fn a_token_for_an_appeal_is_left_out() {
        for (line, shown) in [
            ("nothing", "nothing"),
            ("<failure appeal_token=\"Ab+/1=\" vt=\"2\"/>", "<failure appeal_token=…\" vt=\"2\"/>"),
            ("{\"m\":\"<f appeal_token=\\\"Ab1\\\" vt=1>\"}", "{\"m\":\"<f appeal_token=…\\\" vt=1>\"}"),
            ("appeal_token='A' appeal_token=B", "appeal_token=…' appeal_token=…"),
            (
                "{\"m\":\"waiting for phone confirmation. Code: ABCD1234\"}",
                "{\"m\":\"waiting for phone confirmation. Code: …\"}",
            ),
        ] {
            assert_eq!(without_tokens(line), shown, "{line}");
        }
    }

    #[test]
    fn numbers_are_cut_down_however_they_are_written() {
        for (written, shown) in [
            ("5491112345678", "…5678"),
            ("+54 9 11 1234-5678, (011) 4321.8765", "…5678,…8765"),
            ("54-911-1234-567x8", "…567x8"),
            ("abc,1234", "abc,1234"),
            ("12345", "…2345"),
        ] {
            assert_eq!(numbers(written), shown);
        }
    }

    #[test]
    fn an_address_is_shown_without_its_login_even_with_a_comma_in_it() {
        for (written, shown) in [
            ("nats://me:pass@host:4222,nats://b:1", "nats://host:4222,nats://b:1"),
            ("nats://a:1, tls://me:p@b:2", "nats://a:1, tls://b:2"),
            ("token@host", "host"),
            ("token@nats://host", "nats://host"),
            ("nats://me:pa,ss@host", "nats://host"),
            ("nats://to,k,en@host,nats://b", "nats://host,nats://b"),
            ("a:1,b:2", "a:1,b:2"),
        ] {
            assert_eq!(addresses(written, ""), shown);
        }
        assert_eq!(addresses("nats://me:p@h", "***@"), "nats://***@h");
    }

    #[test]
    fn phone_numbers_and_hidden_ids_are_cut_down() {
        assert_eq!(text(&"to 5491112345678@s.whatsapp.net: 463"), "to …5678@s.whatsapp.net: 463");
        assert_eq!(text(&"5491112345678"), "…5678");
        assert_eq!(text(&"5491112345678\x00123"), "…5678\x00123");
        assert_eq!(text(&"2026-11-23T06:45:48.123456Z"), "2026-11-23T06:45:48.123456Z");
    }

    #[test]
    fn seven_digits_may_be_a_phone_number_and_six_are_none() {
        for (given, shown) in [("123456", "123456"), ("1234567", "…4567"), ("1234", "1234"), ("", "")] {
            assert_eq!(cut(given), shown);
        }
    }

    #[test]
    fn a_chat_is_masked_and_nothing_passes_a_redacted_writer_whole() {
        assert_eq!(chat(&ChatToken::phone("5491112345678")), "…5678");
        let mut written = Redacted(io::BufWriter::new(Vec::new()));
        let line = b"to 5491112345678 \xff\n";
        assert_eq!(written.write(line).unwrap(), line.len(), "all of it counts as written");
        assert_eq!(written.0.get_ref(), b"", "the writer below has not flushed it yet");
        written.flush().unwrap();
        assert_eq!(String::from_utf8_lossy(written.0.get_ref()), "to …5678 \u{fffd}\n");
    }

    /// It counts for a whole process, so this is one of its own: this test's program, told to run the next one.
    #[test]
    fn whoever_wants_whole_numbers_gets_them() {
        let program = std::env::current_exe().unwrap();
        let next = concat!(module_path!(), "::once_lifted_nothing_is_masked");
        let next = next.split_once("::").unwrap().1;
        let run = std::process::Command::new(program).args(["--exact", "--ignored", next]).output().unwrap();
        assert!(String::from_utf8_lossy(&run.stdout).contains("1 passed"), "{run:?}");
    }

    #[test]
    #[ignore = "lifts the masks of its whole process: whoever_wants_whole_numbers_gets_them runs it"]
    fn once_lifted_nothing_is_masked() {
        lift();
        assert_eq!(text(&"to 5491112345678"), "to 5491112345678");
        assert_eq!(chat(&ChatToken::phone("5491112345678")), "5491112345678");
        assert_eq!(cut("to 5491112345678"), "to …5678", "what is no log is cut down all the same");
    }
}
