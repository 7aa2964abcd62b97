//! Turns texts into values. Collects all bad settings, so that one message names all of them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::Bad;
use super::table::{Default, Given};
use crate::bus::{access, topology};
use crate::edge::Presence;
use crate::forwarder::backend::Url;
use crate::forwarder::eligible::{Groups, UnknownNumbers};
use crate::forwarder::{Format, Mode};
use crate::telemetry::{self, LogFormat};

/// Reads settings, and collects those that cannot be used.
#[derive(Debug, std::default::Default)]
pub(super) struct Check {
    /// Settings that cannot be used.
    pub bad: Vec<Bad>,
}

/// A wait that may be none at all, and is short.
pub(super) fn delay(text: &str) -> Option<Duration> {
    let longest = Duration::from_secs(60 * 60);
    humantime::parse_duration(text).ok().filter(|time| *time <= longest)
}

impl Check {
    /// This setting cannot be used; `got` may be shown.
    pub(super) fn bad(&mut self, name: &str, got: String, takes: &str) {
        self.bad.push(Bad { name: name.to_owned(), got, takes: takes.to_owned() });
    }

    /// Takes over what another module has read by itself.
    pub(super) fn all<T>(&mut self, read: Result<T, Vec<access::Bad>>) -> Option<T> {
        let bad = match read {
            Ok(value) => return Some(value),
            Err(bad) => bad,
        };
        for (name, got, takes) in bad {
            self.bad(name, got, takes);
        }
        None
    }

    /// The value, or the default. `None` if there is neither, or if the value is bad.
    pub(super) fn read<T>(&mut self, given: &Given, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let Given { setting, value } = given;
        let value = match (value, setting.default) {
            (Some(value), _) => value.as_str(),
            (None, Default::Value(default)) => default,
            (None, Default::Words(_)) => return None,
        };
        let read = read(value.trim());
        if read.is_none() {
            self.bad(setting.name, setting.show(value), setting.takes);
        }
        read
    }

    /// A duration above zero.
    pub(super) fn duration(&mut self, given: &Given) -> Option<Duration> {
        self.read(given, |text| humantime::parse_duration(text).ok().filter(|time| !time.is_zero()))
    }

    /// A path, or the default if there is one.
    pub(super) fn path(&mut self, given: &Given) -> Option<PathBuf> {
        self.read(given, |text| Some(PathBuf::from(text)))
    }

    /// Refuses a duration that does not fit others. `fits` is `None` if one of those is bad itself.
    pub(super) fn relation(
        &mut self,
        name: &str,
        got: Option<Duration>,
        fits: impl Fn(Duration) -> Option<bool>,
        takes: &str,
    ) {
        if let Some(got) = got
            && fits(got) == Some(false)
        {
            self.bad(name, humantime::format_duration(got).to_string(), takes);
        }
    }

    /// A build without the feature must not talk to WhatsApp if the operator wanted a simulator.
    pub(super) fn simulator(&mut self, given: &Given, can_simulate: bool) -> Option<String> {
        let Given { setting, value } = given;
        let url = value.clone()?;
        if !can_simulate {
            let takes = "nothing: this build talks to WhatsApp only; build with `--features simulator`";
            self.bad(setting.name, url.clone(), takes);
        } else if !url.starts_with("ws://") {
            self.bad(setting.name, url.clone(), "ws://127.0.0.1:7080/ws/chat");
        }
        Some(url)
    }

    /// A secret that goes into an HTTP header.
    pub(super) fn header(&mut self, given: &Given) -> Option<SecretString> {
        self.secret(given, |value| value.chars().all(|c| c.is_ascii() && !c.is_ascii_control()))
    }

    /// A token for logins. It is long enough that it cannot be guessed, and short enough for the head of a request.
    /// It has no space, because a space would end it in an `Authorization` header.
    pub(super) fn token(&mut self, given: &Given) -> Option<SecretString> {
        let fits = |value: &str| value.chars().all(|c| c.is_ascii_graphic());
        self.secret(given, |value| (16..=256).contains(&value.len()) && fits(value))
    }

    fn secret(&mut self, given: &Given, fits: impl Fn(&str) -> bool) -> Option<SecretString> {
        if !given.value.as_deref().is_none_or(fits) {
            self.bad(given.setting.name, given.setting.show(""), given.setting.takes);
        }
        secret(given)
    }
}

/// A secret, as it is.
pub(super) fn secret(given: &Given) -> Option<SecretString> {
    given.value.clone().map(SecretString::from)
}

/// `create`, `verify` or `off`.
pub(super) fn provision(text: &str) -> Option<topology::Provision> {
    match text {
        "create" => Some(topology::Provision::Create),
        "verify" => Some(topology::Provision::Verify),
        "off" => Some(topology::Provision::Off),
        _ => None,
    }
}

/// Copies of a stream.
pub(super) fn replicas(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| [1, 3, 5].contains(count))
}

/// Bytes of a stream. A size below one large message is a mistake, such as `64` for `64MiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let size: bytesize::ByteSize = text.parse().ok()?;
    (bytesize::MIB..=i64::MAX.unsigned_abs()).contains(&size.as_u64()).then_some(size.as_u64())
}

/// Calls at once.
pub(super) fn concurrency(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| (1..=100_000).contains(count))
}

/// `unavailable` or `available`.
pub(super) fn presence(text: &str) -> Option<Presence> {
    match text {
        "unavailable" => Some(Presence::Unavailable),
        "available" => Some(Presence::Available),
        _ => None,
    }
}

/// `answer` or `shadow`.
pub(super) fn mode(text: &str) -> Option<Mode> {
    match text {
        "answer" => Some(Mode::Answer),
        "shadow" => Some(Mode::Shadow),
        _ => None,
    }
}

/// `text` or `markdown`.
pub(super) fn format(text: &str) -> Option<Format> {
    match text {
        "text" => Some(Format::Text),
        "markdown" => Some(Format::Markdown),
        _ => None,
    }
}

/// Are files fetched: `off` or `inbound`.
pub(super) fn media(text: &str) -> Option<bool> {
    ["off", "inbound"].iter().position(|known| text == *known).map(|at| at == 1)
}

/// `off`, `mention` or `all`.
pub(super) fn groups(text: &str) -> Option<Groups> {
    match text {
        "off" => Some(Groups::Off),
        "mention" => Some(Groups::Mention),
        "all" => Some(Groups::All),
        _ => None,
    }
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Option<bool> {
    ["off", "on"].iter().position(|known| text == *known).map(|at| at == 1)
}

/// `silent` or `chat`.
pub(super) fn unknown_numbers(text: &str) -> Option<UnknownNumbers> {
    match text {
        "silent" => Some(UnknownNumbers::Silent),
        "chat" => Some(UnknownNumbers::Chat),
        _ => None,
    }
}

/// `pretty` or `json`.
pub(super) fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "pretty" => Some(LogFormat::Pretty),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

/// Is it `full`?
pub(super) fn full_pii(text: &str) -> Option<bool> {
    ["masked", "full"].iter().position(|known| text == *known).map(|at| at == 1)
}

/// A filter of log lines.
pub(super) fn filter(text: &str) -> Option<String> {
    telemetry::check_filter(text).is_ok().then(|| text.to_owned())
}

/// An address of HTTP.
pub(super) fn url(text: &str) -> Option<Url> {
    let url: Url = text.parse().ok()?;
    (["http", "https"].contains(&url.scheme()) && url.host_str().is_some()).then_some(url)
}

/// Phone numbers, separated by commas.
pub(super) fn numbers(text: &str) -> Option<HashSet<String>> {
    text.split(',').map(str::trim).filter(|number| !number.is_empty()).map(digits).collect()
}

/// The digits of a phone number, however people write it.
pub(super) fn digits(text: &str) -> Option<String> {
    let number: String = text.chars().filter(|c| !" +-().".contains(*c)).collect();
    (number.len() >= 5 && number.len() <= 20 && number.chars().all(|c| c.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::super::table::{File, Setting, Shown, Side};
    use super::*;

    const PLAIN: Setting = Setting {
        name: "PLAIN",
        default: Default::Words("nothing"),
        takes: "what it takes",
        side: Side::Both,
        since: "0.1.0",
        shown: Shown::Whole,
        file: File::Never,
    };

    fn given(value: Option<&str>) -> Given {
        Given { setting: PLAIN, value: value.map(str::to_owned) }
    }

    /// What becomes of a value, and whether it is named as bad.
    fn checked<T>(value: Option<&str>, read: impl Fn(&mut Check, &Given) -> Option<T>) -> (Option<T>, bool) {
        let mut check = Check::default();
        let got = read(&mut check, &given(value));
        assert!(check.bad.len() <= 1, "it is said twice: {:?}", check.bad);
        (got, !check.bad.is_empty())
    }

    /// A secret is kept as it is, even one that is named as bad: then nothing starts.
    fn secret_checked(value: &str, read: impl Fn(&mut Check, &Given) -> Option<SecretString>) -> bool {
        let (got, is_bad) = checked(Some(value), read);
        assert_eq!(got.unwrap().expose_secret(), value);
        !is_bad
    }

    #[test]
    fn a_bad_value_is_named_with_what_it_takes_and_the_default_needs_no_value() {
        let mut check = Check::default();
        let number = |text: &str| text.parse::<u32>().ok();
        assert_eq!(check.read(&given(Some(" 7 ")), number), Some(7));
        assert_eq!(check.read(&given(None), number), None);
        let setting = Setting { default: Default::Value("5"), ..PLAIN };
        assert_eq!(check.read(&Given { setting, value: None }, number), Some(5));
        assert_eq!(check.bad, []);
        assert_eq!(check.read(&given(Some("seven")), number), None);
        let bad = |got: &str| Bad { name: "PLAIN".into(), got: got.into(), takes: "what it takes".into() };
        assert_eq!(check.bad, [bad("seven")]);
        let setting = Setting { shown: Shown::Never, ..PLAIN };
        check.read(&Given { setting, value: Some("seven".into()) }, number);
        assert_eq!(check.bad, [bad("seven"), bad("***")]);
    }

    #[test]
    fn a_delay_may_be_none_and_is_an_hour_at_most() {
        assert_eq!(delay("0s"), Some(Duration::ZERO));
        assert_eq!(delay("1h"), Some(Duration::from_secs(3_600)));
        for text in ["", "5", "61m", "3601s", "-1s", "99999999999999999999h"] {
            assert_eq!(delay(text), None, "{text}");
        }
    }

    #[test]
    fn what_another_room_has_read_is_taken_or_named() {
        let mut check = Check::default();
        assert_eq!(check.all(Ok(7)), Some(7));
        assert_eq!(check.bad, []);
        let bad = ["A", "B"].map(|name| (name, "x".to_owned(), "what it takes"));
        assert_eq!(check.all::<u32>(Err(bad.into())), None);
        let names: Vec<_> = check.bad.iter().map(|bad| bad.name.as_str()).collect();
        assert_eq!(names, ["A", "B"]);
    }

    #[test]
    fn a_time_is_more_than_nothing() {
        let read = |text| checked(Some(text), Check::duration);
        assert_eq!(read("1ms"), (Some(Duration::from_millis(1)), false));
        assert_eq!(read("5m"), (Some(Duration::from_secs(300)), false));
        for text in ["0s", "0ms", "5", "soon", ""] {
            assert_eq!(read(text), (None, true), "{text}");
        }
    }

    #[test]
    fn a_time_is_refused_only_if_it_is_known_not_to_fit() {
        let (one, takes) = (Some(Duration::from_secs(1)), "less");
        for (got, fits, is_bad) in [
            (one, Some(false), true),
            (one, Some(true), false),
            (one, None, false),
            (None, Some(false), false),
        ] {
            let mut check = Check::default();
            check.relation("PLAIN", got, |_| fits, takes);
            let bad = Bad { name: "PLAIN".into(), got: "1s".into(), takes: takes.into() };
            assert_eq!(check.bad, if is_bad { vec![bad] } else { vec![] }, "{got:?} {fits:?}");
        }
    }

    #[test]
    fn a_path_and_a_simulator_are_where_they_are_said_to_be() {
        assert_eq!(checked(Some("./data"), Check::path), (Some(PathBuf::from("./data")), false));
        let url = "ws://127.0.0.1:7080/ws/chat";
        let simulator =
            |value, can_simulate| checked(value, |check, given| check.simulator(given, can_simulate));
        assert_eq!(simulator(Some(url), true), (Some(url.to_owned()), false));
        assert_eq!(simulator(Some(url), false), (Some(url.to_owned()), true));
        assert_eq!(simulator(Some("http://h"), true), (Some("http://h".to_owned()), true));
        assert_eq!(simulator(None, true), (None, false));
    }

    #[test]
    fn what_goes_into_a_header_is_printable_ascii() {
        for (value, fits) in [
            ("topsecret", true),
            ("top secret ~!", true),
            ("", true),
            ("tópsecret", false),
            ("top\nsecret", false),
            ("top\u{7f}secret", false),
        ] {
            assert_eq!(secret_checked(value, Check::header), fits, "{value:?}");
        }
        let (none, is_bad) = checked(None, Check::header);
        assert!(none.is_none() && !is_bad);
    }

    #[test]
    fn a_token_is_neither_short_nor_long_nor_has_it_a_space() {
        let of = |characters| "x".repeat(characters);
        for (value, fits) in [
            (of(15), false),
            (of(16), true),
            (of(256), true),
            (of(257), false),
            ("0123456789 abcdef".to_owned(), false),
            ("0123456789\u{e9}abcdef".to_owned(), false),
        ] {
            assert_eq!(secret_checked(&value, Check::token), fits, "{value}");
        }
    }

    #[test]
    fn words_are_taken_as_they_are_and_no_others() {
        use topology::Provision::{Create, Off, Verify};
        let provisions = ["create", "verify", "off", "", "Create"].map(provision);
        assert_eq!(provisions, [Some(Create), Some(Verify), Some(Off), None, None]);
        let modes = ["answer", "shadow", "", "Shadow"].map(mode);
        assert_eq!(modes, [Some(Mode::Answer), Some(Mode::Shadow), None, None]);
        let formats = ["pretty", "json", "", "xml"].map(log_format);
        assert_eq!(formats, [Some(LogFormat::Pretty), Some(LogFormat::Json), None, None]);
        assert_eq!(["on", "off", "", "On"].map(switch), [Some(true), Some(false), None, None]);
        assert_eq!(["masked", "full", "", "none"].map(full_pii), [Some(false), Some(true), None, None]);
        assert_eq!(filter("off,whatsapp_connector=debug").as_deref(), Some("off,whatsapp_connector=debug"));
        assert_eq!(filter("a=b=c"), None);
    }

    #[test]
    fn numbers_are_taken_between_their_bounds() {
        let copies = ["0", "1", "2", "3", "4", "5", "6", "three"].map(replicas);
        assert_eq!(copies, [None, Some(1), None, Some(3), None, Some(5), None, None]);
        let calls = ["0", "1", "100000", "100001", "-1", "many"].map(concurrency);
        assert_eq!(calls, [None, Some(1), Some(100_000), None, None, None]);
        let bytes =
            ["1048575", "1048576", "1MiB", "9223372036854775807", "9223372036854775808", "big"].map(size);
        let mib = Some(1 << 20);
        assert_eq!(bytes, [None, mib, mib, Some(i64::MAX.unsigned_abs()), None, None]);
    }

    #[test]
    fn an_address_of_http_has_its_scheme_and_a_host() {
        for text in ["http://localhost:8000/", "https://host/path"] {
            assert_eq!(url(text).unwrap().as_str(), text);
        }
        for text in ["ftp://host", "localhost:8000", "host", "http://", "file:///etc", ""] {
            assert_eq!(url(text), None, "{text}");
        }
    }

    #[test]
    fn a_phone_number_has_five_to_twenty_digits_however_it_is_written() {
        for (text, want) in [
            ("+54 9 (11) 1234-5678", Some("5491112345678")),
            ("011.4321.8765", Some("01143218765")),
            ("12345", Some("12345")),
            ("1234", None),
            ("12345678901234567890", Some("12345678901234567890")),
            ("123456789012345678901", None),
            ("54911x", None),
            ("", None),
        ] {
            assert_eq!(digits(text).as_deref(), want, "{text}");
        }
        let all = |text| {
            numbers(text).map(|numbers| {
                let mut numbers: Vec<_> = numbers.into_iter().collect();
                numbers.sort();
                numbers.join(" ")
            })
        };
        assert_eq!(all("54911, +1 555,,").as_deref(), None, "one of them is too short");
        assert_eq!(all("54911, +1 5551,,").as_deref(), Some("15551 54911"));
        assert_eq!(all(" , ").as_deref(), Some(""));
    }
}
