//! `whatsapp-connector status`.

use std::io::{self, Write as _};

use clap::Args;

use super::{Report, look};
use crate::config::Config;
use crate::visit::{self, VisitError};
use crate::wire::Account;

/// How a running system is.
///
/// Exit code 0 if all is well, 1 if something wants a person: the last lines say what. Nothing is changed. Needs
/// NATS_URL, or a `run` on this machine.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this account, and all forwarders.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Why the exit code is not 0.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No bus.
    #[error(transparent)]
    Visit(#[from] VisitError),
    /// The report cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// So many things want a person.
    #[error("not all is well ({0})")]
    Wanted(usize),
}

/// Runs the command.
pub async fn run(args: StatusArgs, config: &Config) -> Result<(), StatusError> {
    let bus = visit::connect(config, "status").await?;
    let report = Report::of(look::look(&bus, &config.subjects, args.account.as_ref()).await);
    let text = match args.json {
        // Plain data always serialises.
        true => serde_json::to_string(&report).unwrap_or_default() + "\n",
        false => report.to_string(),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    match report.wants.len() {
        0 => Ok(()),
        wants => Err(StatusError::Wanted(wants)),
    }
}
