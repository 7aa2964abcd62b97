//! Turns texts into values. Collects all bad settings, so that one message names all of them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::Bad;
use super::table::{Default, Given};
use crate::bus::{access, topology};
use crate::edge::{Interactive, Presence};
use crate::forwarder::backend::{Fields, Url};
use crate::forwarder::eligible::{Groups, UnknownNumbers};
use crate::forwarder::{Format, Mode};
use crate::pool::Which;
use crate::telemetry::{self, LogFormat};
use crate::wire::Account;

/// Reads settings, and collects those that cannot be used.
#[derive(Debug, std::default::Default)]
pub(super) struct Check {
    /// Settings that cannot be used.
    pub bad: Vec<Bad>,
}

/// Can it be the value of an HTTP header?
pub(super) fn fits_a_header(value: &str) -> bool {
    value.chars().all(|c| c.is_ascii() && !c.is_ascii_control())
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
        self.secret(given, fits_a_header)
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

/// A short wait for a file, that may be none at all.
pub(super) fn media_wait(text: &str) -> Option<Duration> {
    let longest = Duration::from_secs(60);
    humantime::parse_duration(text).ok().filter(|time| *time <= longest)
}

/// How long a burst of texts may take.
pub(super) fn join_max(text: &str) -> Option<Duration> {
    let longest = Duration::from_secs(10 * 60);
    humantime::parse_duration(text).ok().filter(|time| *time <= longest)
}

/// How long an address is good.
pub(super) fn ttl(text: &str) -> Option<Duration> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
    humantime::parse_duration(text).ok().filter(|time| bounds.contains(time))
}

/// A model's name. It goes into a form, between its lines.
pub(super) fn model(text: &str) -> Option<String> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

/// `basic` or `full`.
pub(super) fn fields(text: &str) -> Option<Fields> {
    match text {
        "basic" => Some(Fields::Basic),
        "full" => Some(Fields::Full),
        _ => None,
    }
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

/// Which files there are: `off` is none, `inbound` those that people send, `all` also those that are sent to them.
pub(super) fn media(text: &str) -> Option<Option<bool>> {
    match text {
        "off" => Some(None),
        "inbound" => Some(Some(false)),
        "all" => Some(Some(true)),
        _ => None,
    }
}

/// `text` or `native`.
pub(super) fn interactive(text: &str) -> Option<Interactive> {
    match text {
        "text" => Some(Interactive::Text),
        "native" => Some(Interactive::Native),
        _ => None,
    }
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

/// `off`, or for how long.
pub(super) fn takeover(text: &str) -> Option<Option<Duration>> {
    if text == "off" {
        return Some(None);
    }
    humantime::parse_duration(text).ok().filter(|time| *time >= Duration::from_secs(1)).map(Some)
}

/// `nats` or `file`.
pub(super) fn on_bus(text: &str) -> Option<bool> {
    ["file", "nats"].iter().position(|known| text == *known).map(|at| at == 1)
}

/// `*`, or accounts separated by commas.
pub(super) fn which(text: &str) -> Option<Which> {
    if text.trim() == "*" {
        return Some(Which::All);
    }
    let names = text.split(',').map(|name| Account::parse(name.trim()).ok());
    Some(Which::These(names.collect::<Option<_>>()?))
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Option<bool> {
    ["off", "on"].iter().position(|known| text == *known).map(|at| at == 1)
}

/// The origin of a page, as browsers write it.
pub(super) fn origin(text: &str) -> Option<String> {
    let url: Url = text.parse().ok()?;
    let is_one = ["http", "https"].contains(&url.scheme()) && url.origin().ascii_serialization() == text;
    is_one.then(|| text.to_owned())
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
pub(crate) fn digits(text: &str) -> Option<String> {
    let number: String = text.chars().filter(|c| !" +-().".contains(*c)).collect();
    (number.len() >= 5 && number.len() <= 20 && number.chars().all(|c| c.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
