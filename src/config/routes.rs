//! `ROUTES_FILE`: which accounts have an assistant of their own. It is read at the start and on SIGHUP, and used whole or
//! not at all. Keys and secrets are never in it: it names their files, which are read with it.

use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::read;
use crate::forwarder::RouteSettings;
use crate::forwarder::backend;
use crate::proxy::Proxies;
use crate::telemetry::redact;
use crate::wire::Account;

/// The most accounts in it.
const MOST: usize = 1_000;
/// The largest file, and the largest file of a secret.
const LARGEST: u64 = 1 << 20;
const LARGEST_SECRET: u64 = 64 << 10;
/// What can be said of an account.
const FIELDS: [&str; 5] = ["url", "api_key_file", "webhook_secret_file", "timeout", "concurrency"];

/// Where the routes are, and what counts for an account if its route does not say it.
#[derive(Debug, Clone)]
pub struct RoutesFile {
    /// `ROUTES_FILE`.
    pub path: PathBuf,
    pub(super) others: backend::Settings,
    pub(super) concurrency: usize,
    pub(super) proxies: Proxies,
}

/// Why the file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// The line; `None` if it is about the whole file.
    pub line: Option<usize>,
    /// What is so.
    pub what: String,
    /// What mends it.
    pub remedy: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// A problem at a place in the text.
type Problem = (Range<usize>, String, String);

fn problem(at: Range<usize>, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    (at, what.into(), remedy.into())
}

impl RoutesFile {
    /// Reads it, and the files that it names. Blocks.
    pub fn read(&self) -> Result<Vec<RouteSettings>, Refused> {
        let whole = |what: String, remedy: &str| Refused { line: None, what, remedy: remedy.to_owned() };
        let text = bounded(&self.path, LARGEST).map_err(|why| {
            whole(format!("it cannot be read: {why}"), "name a file that this user may read")
        })?;
        self.parse(&text).map_err(|(at, what, remedy)| {
            let before = text.get(..at.start).unwrap_or(&text);
            Refused { line: Some(before.matches('\n').count() + 1), what, remedy }
        })
    }

    fn parse(&self, text: &str) -> Result<Vec<RouteSettings>, Problem> {
        let table = DeTable::parse(text).map_err(|error| {
            let remedy = "write [account] and below it lines such as url = \"https://host\"";
            problem(error.span().unwrap_or(0..0), format!("it is no TOML: {}", error.message()), remedy)
        })?;
        let accounts = table.into_inner();
        if accounts.len() > MOST {
            let remedy = format!("name at most {MOST}; divide the accounts among several installations");
            return Err(problem(0..0, format!("it has {} accounts", accounts.len()), remedy));
        }
        accounts.iter().map(|(name, value)| self.route(name, value)).collect()
    }

    fn route(
        &self,
        name: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<RouteSettings, Problem> {
        let fields = value.get_ref().as_table();
        let fields = fields.ok_or_else(|| {
            let what = format!("{} stands in no account", redact::line(name.get_ref()));
            problem(name.span(), what, "write [account] above it; everything is said of an account")
        })?;
        let account = Account::parse(name.get_ref()).map_err(|error| {
            problem(
                name.span(),
                redact::line(&error.to_string()),
                "write the name as WHATSAPP_ACCOUNT has it",
            )
        })?;
        let mut route =
            RouteSettings { account, backend: self.others.clone(), concurrency: self.concurrency };
        for (key, value) in fields {
            self.field(&mut route, key, value)?;
        }
        route.backend.proxy = self.proxies.of(route.backend.url.as_str()).cloned();
        Ok(route)
    }

    fn field(
        &self,
        route: &mut RouteSettings,
        key: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Problem> {
        let (name, found) = (key.get_ref().as_ref(), value.get_ref());
        let bad = |takes: &str| {
            let what = format!("{name} of [{}] cannot be used", route.account);
            problem(value.span(), what, format!("it takes {takes}"))
        };
        let text = |takes: &str| found.as_str().ok_or_else(|| bad(takes));
        match name {
            "url" => {
                let takes = "http://host:port or https://host, without user and password: a key has a file of its own";
                let plain = |url: &backend::Url| url.username().is_empty() && url.password().is_none();
                route.backend.url = read::url(text(takes)?.trim()).filter(plain).ok_or_else(|| bad(takes))?;
            }
            "api_key_file" => {
                let key = self.secret(text("the path of a file")?).map_err(|why| bad(&why))?;
                if !key.as_deref().is_none_or(read::fits_a_header) {
                    return Err(bad("a file with printable ASCII: it goes into an HTTP header"));
                }
                route.backend.api_key = key.map(SecretString::from);
            }
            "webhook_secret_file" => {
                let secret = self.secret(text("the path of a file")?).map_err(|why| bad(&why))?;
                route.backend.webhook_secret = secret.map(SecretString::from);
            }
            "timeout" => {
                let takes = super::table::DURATION;
                let time = humantime::parse_duration(text(takes)?).ok().filter(|time| *time > Duration::ZERO);
                route.backend.timeout = time.ok_or_else(|| bad(takes))?;
            }
            "concurrency" => {
                let number = found.as_integer().filter(|number| number.radix() == 10);
                let number = number.and_then(|number| read::concurrency(number.as_str()));
                route.concurrency = number.ok_or_else(|| bad("a number from 1 to 100000, without quotes"))?;
            }
            unknown => return Err(unknown_field(unknown, key.span())),
        }
        Ok(())
    }

    /// The secret in a file; no path means none. A path that does not begin at the root begins at this file's directory.
    fn secret(&self, path: &str) -> Result<Option<String>, String> {
        if path.trim().is_empty() {
            return Ok(None);
        }
        let path = self.path.parent().unwrap_or(Path::new("")).join(path.trim());
        let takes = |why: String| format!("a file that this user may read, with the secret in it ({why})");
        let text = bounded(&path, LARGEST_SECRET).map_err(takes)?;
        let secret = super::sources::without_line_break(&text);
        if secret.trim().is_empty() {
            Err(takes("it is empty".to_owned()))
        } else {
            Ok(Some(secret.to_owned()))
        }
    }
}

fn unknown_field(name: &str, at: Range<usize>) -> Problem {
    let distance = |other: &&&str| strsim::damerau_levenshtein(name, other);
    let nearest =
        FIELDS.iter().min_by_key(distance).filter(|other| distance(other) <= (name.len() / 3).max(2));
    // Its value may be a secret that somebody put here.
    let remedy = match (name, nearest) {
        ("api_key" | "key", _) => {
            "put the key into a file of its own, and name that with api_key_file".to_owned()
        }
        ("webhook_secret" | "secret", _) => {
            "put the secret into a file of its own, and name that with webhook_secret_file".to_owned()
        }
        (_, Some(nearest)) => format!("was {nearest} meant?"),
        (_, None) => format!("an account has {}", FIELDS.join(", ")),
    };
    problem(at, format!("{} is not known", redact::line(name)), remedy)
}

/// The text of a file that is not larger than this.
fn bounded(path: &Path, largest: u64) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(largest + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= largest) {
        Ok(text)
    } else {
        Err(format!("it is larger than {} KiB", largest >> 10))
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
