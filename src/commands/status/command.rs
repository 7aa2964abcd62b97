//! `whatsapp-connector status`.

use std::process::ExitCode;

use clap::Args;

use super::{Report, collect};
use crate::commands::bus_access::{self, BusUnavailable};
use crate::config::Config;
use crate::stdout;
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
    Access(#[from] BusUnavailable),
    /// The report cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    /// So many things want a person.
    #[error("not all is well ({0})")]
    Wanted(usize),
}

/// Runs the command.
pub async fn run(args: &StatusArgs, config: &Config) -> Result<ExitCode, StatusError> {
    let bus = bus_access::connect(config, "status").await?;
    let report = Report::of(collect::collect(&bus, &config.subjects, args.account.as_ref()).await);
    let text = match args.json {
        // Plain data always serialises.
        true => serde_json::to_string(&report).unwrap_or_default() + "\n",
        false => report.to_string(),
    };
    let _ = stdout::print(text)?;
    match report.wants.len() {
        0 => Ok(ExitCode::SUCCESS),
        wants => Err(StatusError::Wanted(wants)),
    }
}
