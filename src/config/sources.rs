//! Where values come from: the environment, `.env` in the working directory, and files that `<NAME>_FILE`
//! names.
#![expect(clippy::disallowed_methods, reason = "before there is a runtime")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::earlier::{self, Earlier};
use super::{Bad, ConfigError, dotenv as grammar, table};
use crate::proxy::{self, Proxies};
use crate::telemetry::otel;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The process's environment.
    Environment,
    /// `.env` in the working directory.
    DotEnv,
}

impl Origin {
    /// Its name for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::DotEnv => ".env",
        }
    }
}

/// One variable.
#[derive(Clone)]
pub struct Variable {
    /// Its value; for a file, the file's content.
    pub value: String,
    /// Where the value, or the file's name, was set.
    pub origin: Origin,
    /// The file with the value, if there is one.
    pub file: Option<PathBuf>,
}

impl std::fmt::Debug for Variable {
    /// Its value may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable")
            .field("origin", &self.origin)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// All variables that are not blank. The environment wins over `.env`.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<String, Variable>,
    bad: Vec<Bad>,
    earlier: Vec<Earlier>,
}

impl std::fmt::Debug for Environment {
    /// Values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("names", &self.names().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// The variables of this process. An unreadable `.env` is an error, because a typing mistake must not silently
    /// become a default. To be called before there are threads.
    pub fn read() -> Result<Self, ConfigError> {
        let text = match std::fs::read(".env") {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(dotenv_error(&error.to_string())),
        };
        let environment = Self::of(dotenv(&text)?, own());
        environment.hand_on();
        Ok(environment)
    }

    /// Puts into the process's environment what libraries read from there by themselves: the variables of
    /// OpenTelemetry and of proxies, as far as they can be used. To be called before there are threads.
    fn hand_on(&self) {
        let get = |name: &str| self.get(name).map(|variable| variable.value.as_str());
        let theirs = |name: &str| name.starts_with("OTEL_") || proxy::NAMES.contains(&name);
        let of_file = self
            .variables
            .iter()
            .filter(|(name, variable)| variable.origin == Origin::DotEnv && theirs(name));
        let mut lines: Vec<String> =
            of_file.map(|(name, variable)| assignment(name, &variable.value)).collect();
        // A library would take fright at what is not known. The general address may be right for another signal.
        let (_, ignored) = otel::Settings::read(get);
        let ignored = ignored.iter().filter(|(name, ..)| *name != otel::ENDPOINT);
        lines.extend(ignored.map(|(name, ..)| assignment(name, "")));
        if let Some(no_proxy) = Proxies::read(get).0.no_proxy() {
            lines.extend(["NO_PROXY", "no_proxy"].map(|name| assignment(name, &no_proxy)));
        }
        // What was written for it is understood.
        let _ = dotenvy::from_read_override(lines.concat().as_bytes());
    }

    /// Merges two sources. The second wins; a blank value in it hides the first's.
    pub fn of(
        dotenv: impl IntoIterator<Item = (String, String)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let from =
            |origin| move |(name, value): (String, String)| (name, Variable { value, origin, file: None });
        let all = dotenv.into_iter().map(from(Origin::DotEnv));
        let all = all.chain(environment.into_iter().map(from(Origin::Environment)));
        let mut variables: BTreeMap<_, _> = all.collect();
        variables.retain(|_, variable| !variable.value.trim().is_empty());
        let earlier = earlier::understand(&mut variables);
        for setting in table::ALL.iter().filter(|setting| setting.file != table::File::Never) {
            if let Some(variable) = variables.get_mut(setting.name) {
                let length = without_line_break(&variable.value).len();
                variable.value.truncate(length);
            }
        }
        let mut environment = Self { variables, bad: Vec::new(), earlier };
        environment.open_files();
        environment
    }

    /// Reads the file of each secret that is in one. Files that may change are read later, for each connection.
    fn open_files(&mut self) {
        for setting in table::ALL {
            let Some(pointer) = setting.pointer() else { continue };
            let Some(Variable { value: path, origin, .. }) = self.variables.get(&pointer).cloned() else {
                continue;
            };
            match self.variables.get(setting.name) {
                Some(direct) if direct.origin == origin => {
                    let takes = format!("nothing while {} is set: only one of the two counts", setting.name);
                    self.variables.remove(&pointer);
                    self.bad.push(Bad { name: pointer, got: path, takes });
                    continue;
                }
                // The environment wins over `.env`, whichever of the two names it uses.
                Some(direct) if direct.origin == Origin::Environment => {
                    self.variables.remove(&pointer);
                    continue;
                }
                _ => {}
            }
            if setting.file == table::File::EachConnection {
                self.variables.remove(setting.name);
                continue;
            }
            match read_secret(&path) {
                Ok(value) => {
                    let variable = Variable { value, origin, file: Some(path.into()) };
                    self.variables.insert(setting.name.to_owned(), variable);
                }
                Err(why) => {
                    let takes = format!("a file that this user may read, with the secret in it ({why})");
                    self.bad.push(Bad { name: pointer, got: path, takes });
                }
            }
        }
    }

    /// The variable `name`.
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.variables.get(name)
    }

    /// The same, with another value of one variable.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        let variable = Variable { value: value.to_owned(), origin: Origin::Environment, file: None };
        changed.variables.insert(name.to_owned(), variable);
        changed
    }

    /// The names of all variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// All variables that are set.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().map(|(name, variable)| (name.clone(), variable.value.clone()))
    }

    /// The names of the service that this one replaces, as far as they are set.
    pub(super) fn earlier(&self) -> &[Earlier] {
        &self.earlier
    }

    /// What could not be read.
    pub(super) fn bad(&self) -> &[Bad] {
        &self.bad
    }
}

/// The variables of a `.env` file with this text, in its order.
pub fn dotenv(text: &[u8]) -> Result<Vec<(String, String)>, ConfigError> {
    let text = std::str::from_utf8(text).map_err(|_| dotenv_error("it is not UTF-8"))?;
    // The line may hold a secret, so it is not shown.
    grammar::parse(text).map_err(|line| dotenv_error(&format!("line {line} cannot be read")))
}

/// A line that dotenvy understands as this value. It is what sets a variable of the process.
fn assignment(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('\n', "\\n");
    format!("{name}=\"{value}\"\n")
}

/// A value that is not UTF-8 is not one of this program's settings.
fn own() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The line break that editors, `echo` and command substitutions leave at the end is not part of a secret.
pub(super) fn without_line_break(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

fn read_secret(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path.trim()).map_err(|error| error.to_string())?;
    let secret = without_line_break(&text);
    if secret.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(secret.to_owned()) }
}

fn dotenv_error(why: &str) -> ConfigError {
    let takes = "lines of NAME=value in UTF-8; quote values with spaces".to_owned();
    ConfigError(vec![Bad { name: ".env".to_owned(), got: format!("({why})"), takes }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dotenv: &[(&str, &str)], environment: &[(&str, &str)]) -> Environment {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Environment::of(owned(dotenv), owned(environment))
    }

    fn value(environment: &Environment, name: &str) -> Option<(String, Origin, bool)> {
        let variable = environment.get(name)?;
        Some((variable.value.clone(), variable.origin, variable.file.is_some()))
    }

    #[test]
    fn the_environment_wins_and_what_is_blank_in_it_hides() {
        let found = of(&[("A", "1"), ("B", "1"), ("C", "1")], &[("B", "2"), ("C", " ")]);
        assert_eq!(value(&found, "A"), Some(("1".to_owned(), Origin::DotEnv, false)));
        assert_eq!(value(&found, "B"), Some(("2".to_owned(), Origin::Environment, false)));
        assert_eq!(value(&found, "C"), None);
    }

    #[test]
    fn a_secret_may_be_in_a_file_and_the_environment_still_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "from the file\r\n").unwrap();
        let path = path.to_str().unwrap();
        let in_file = |origin| Some(("from the file".to_owned(), origin, true));
        let found = of(&[], &[("API_KEY_FILE", path)]);
        assert_eq!(value(&found, "API_KEY"), in_file(Origin::Environment));
        let found = of(&[("API_KEY", "old")], &[("API_KEY_FILE", path)]);
        assert_eq!(value(&found, "API_KEY"), in_file(Origin::Environment));
        let found = of(&[("API_KEY_FILE", path)], &[("API_KEY", "new")]);
        assert_eq!(value(&found, "API_KEY"), Some(("new".to_owned(), Origin::Environment, false)));
        // One that may change is not read here, and still the environment wins.
        let found = of(&[("NATS_TOKEN", "old")], &[("NATS_TOKEN_FILE", path)]);
        assert_eq!(value(&found, "NATS_TOKEN"), None);
        assert_eq!(value(&found, "NATS_TOKEN_FILE"), Some((path.to_owned(), Origin::Environment, false)));
        let found = of(&[("NATS_TOKEN_FILE", path)], &[("NATS_TOKEN", "new")]);
        assert_eq!(value(&found, "NATS_TOKEN"), Some(("new".to_owned(), Origin::Environment, false)));
        assert_eq!(value(&found, "NATS_TOKEN_FILE"), None);
        // What is no secret has no file.
        let found = of(&[], &[("FALLBACK_TEXT_FILE", path)]);
        assert_eq!(value(&found, "FALLBACK_TEXT"), None);
    }

    #[test]
    fn two_names_for_one_secret_and_a_file_without_one_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        let bad = |environment: Environment| {
            environment.bad().iter().map(|bad| format!("{} {}", bad.name, bad.takes)).collect::<Vec<_>>()
        };
        let found = bad(of(&[], &[("API_KEY", "a"), ("API_KEY_FILE", "b")]));
        assert!(found[0].contains("API_KEY_FILE nothing while API_KEY is set"), "{found:?}");
        let found = bad(of(&[], &[("NATS_TOKEN", "a"), ("NATS_TOKEN_FILE", "b")]));
        assert!(found[0].contains("NATS_TOKEN_FILE nothing while NATS_TOKEN is set"), "{found:?}");
        let found = bad(of(&[], &[("API_KEY_FILE", empty.to_str().unwrap())]));
        assert!(found[0].contains("it is empty"), "{found:?}");
        let found = bad(of(&[], &[("API_KEY_FILE", "./no-such-file")]));
        assert!(found[0].contains("No such file"), "{found:?}");
    }

    #[test]
    fn a_line_break_at_the_end_of_a_secret_is_not_a_part_of_it_and_spaces_are() {
        for setting in table::ALL.iter().filter(|setting| setting.file != table::File::Never) {
            let found = of(&[], &[(setting.name, "two words \r\n\n")]);
            assert_eq!(found.get(setting.name).unwrap().value, "two words ", "{}", setting.name);
        }
        let found = of(&[], &[("FALLBACK_TEXT", "one\n")]);
        assert_eq!(found.get("FALLBACK_TEXT").unwrap().value, "one\n");
        assert!(of(&[], &[("API_KEY", "\n")]).get("API_KEY").is_none());
    }

    #[test]
    fn what_is_handed_on_is_understood_as_it_was_meant() {
        for value in ["", "b", "a b", "pa$sword-1${HOME}", "\\$\"'\\n#", "one\ntwo", " # no comment"] {
            let line = assignment("OTEL_A", value);
            let read: Result<Vec<_>, _> = dotenvy::from_read_iter(line.as_bytes()).collect();
            assert_eq!(read.unwrap(), [("OTEL_A".to_owned(), value.to_owned())], "{line}");
        }
    }
}
