//! `whatsapp-connector status`.

use std::process::ExitCode;

use clap::Args;

use crate::commands::bus_access::{self, BusUnavailable};
use crate::config::Config;
use crate::operator::{Counting, Report, collect};
use crate::stdout;
use crate::wire::Account;

/// What `status` prints. The command's help is at [`Command::Status`](crate::commands::Command::Status).
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this account. Forwarders serve all accounts and are always shown.
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
    /// This many things need a person.
    #[error("not all is well ({0})")]
    Wanted(usize),
}

/// Runs the command.
pub async fn run(args: &StatusArgs, config: &Config) -> Result<ExitCode, StatusError> {
    let bus = bus_access::connect(config, "status").await?;
    let report = Report::of(collect(&bus, &config.subjects, args.account.as_ref(), Counting::On).await);
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
