//! `whatsapp-connector link`, `unlink` and `check-number`: asks the edge of an account, which runs with `SERVICE=on`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::bus_access::{self, BusUnavailable};
use crate::bus::{AskError, Bus};
use crate::config::Config;
use crate::stdout;
use crate::wire::service::{Act, LinkRequest, NumberReply, NumberRequest, UnlinkRequest};
use crate::wire::{Account, Subjects};

/// How long the edge may take. It answers sooner, if only with what is in its way.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `link` takes.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// The account to link. Without it: WHATSAPP_ACCOUNT.
    #[arg(long, value_parser = Account::parse)]
    pub(super) account: Option<Account>,
    /// Asks WhatsApp for a code to type into the phone of this number, in place of the QR code.
    #[arg(long)]
    pub(super) phone: Option<String>,
}

/// What `unlink` takes.
#[derive(Debug, Args)]
pub struct UnlinkArgs {
    /// The account to unlink. It has to be named, because a person with the phone has to link it again.
    #[arg(long, value_parser = Account::parse)]
    account: Account,
}

/// What `check-number` takes.
#[derive(Debug, Args)]
pub struct CheckNumberArgs {
    /// The phone number with its country code.
    number: String,
    /// The account that asks. Without it: WHATSAPP_ACCOUNT.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
}

/// Why the exit code is not 0.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// No edge.
    #[error(
        "no edge of the account `{0}` answers: one has to run with SERVICE=on, and hold the account's lease"
    )]
    Nobody(Account),
    /// It says why not.
    #[error("{0}")]
    Refused(String),
    /// There is no answer.
    #[error("the edge may not have done it: {0}")]
    Unanswered(String),
    /// Nobody has this number there. The output says so.
    #[error("the number is not on WhatsApp")]
    NotThere,
    /// The result cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs `link`.
pub async fn link(args: &LinkArgs, config: &Config) -> Result<ExitCode, ServiceError> {
    let account = args.account.as_ref().unwrap_or(&config.edge.account);
    ask(config, account, Act::Link, &LinkRequest { phone: args.phone.clone() }).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `unlink`.
pub async fn unlink(args: &UnlinkArgs, config: &Config) -> Result<ExitCode, ServiceError> {
    let request = UnlinkRequest { account: args.account.to_string() };
    ask(config, &args.account, Act::Unlink, &request).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `check-number`.
pub async fn check_number(args: &CheckNumberArgs, config: &Config) -> Result<ExitCode, ServiceError> {
    let account = args.account.as_ref().unwrap_or(&config.edge.account);
    let request = NumberRequest { number: args.number.clone() };
    let answer = ask(config, account, Act::CheckNumber, &request).await?;
    let found: NumberReply = serde_json::from_slice(&answer).unwrap_or_default();
    if found.on_whatsapp { Ok(ExitCode::SUCCESS) } else { Err(ServiceError::NotThere) }
}

/// Asks, and prints the answer.
async fn ask(
    config: &Config,
    account: &Account,
    act: Act,
    request: &impl Serialize,
) -> Result<Vec<u8>, ServiceError> {
    let bus = bus_access::connect(config, act.name()).await?;
    let answer = asked(&bus, &config.subjects, account, act, request).await?;
    let _ = stdout::line(String::from_utf8_lossy(&answer))?;
    Ok(answer)
}

/// What the edge answers.
pub(super) async fn asked(
    bus: &Bus,
    subjects: &Subjects,
    account: &Account,
    act: Act,
    request: &impl Serialize,
) -> Result<Vec<u8>, ServiceError> {
    let subject = subjects.service(account, act.name());
    // Plain data always serialises.
    let request = serde_json::to_vec(request).unwrap_or_default();
    let answer = bus.ask_one(&subject, request, PATIENCE).await.map_err(|error| match error {
        AskError::Nobody => ServiceError::Nobody(account.clone()),
        AskError::Refused { text, .. } => ServiceError::Refused(text),
        AskError::Bus(error) => ServiceError::Unanswered(error.to_string()),
    })?;
    Ok(answer.to_vec())
}
