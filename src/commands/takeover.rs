//! `whatsapp-connector takeover` and `resume`: an operator silences the assistant in one chat, or has it answer again.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::bus_access::{self, BusUnavailable};
use crate::bus::Of;
use crate::config::Config;
use crate::operator::takeover::{self, Change, NotChanged, chat};
use crate::stdout;
use crate::wire::{Account, ChatToken};

/// Whose chat it is.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// The chat: a phone number in digits, a JID such as 987@lid, or a chat's token on the bus, such as group-1203.
    #[arg(long, value_parser = chat)]
    pub(super) chat: ChatToken,
    /// The account whose chat it is. Without it: WHATSAPP_ACCOUNT.
    #[arg(long, value_parser = Account::parse)]
    pub(super) account: Option<Account>,
}

/// What `takeover` takes.
#[derive(Debug, Args)]
pub struct TakeoverArgs {
    #[command(flatten)]
    of: ChatArgs,
    /// For how long, up to TAKEOVER_MAX. Without it: TAKEOVER.
    #[arg(long = "for", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverCommandError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// Nobody would look at it.
    #[error("TAKEOVER is off. Set it for the edge and the forwarders, and here: TAKEOVER=30m")]
    Off,
    /// It may not last so long.
    #[error("--for takes 1s up to TAKEOVER_MAX, which is {}", humantime::format_duration(*.0))]
    TooLong(Duration),
    /// It is not known that the bus has it.
    #[error(transparent)]
    NotStored(#[from] NotChanged),
    /// The result cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl TakeoverCommandError {
    /// Is a setting or the command line to blame?
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Off | Self::TooLong(_))
    }
}

/// Runs `takeover`.
pub async fn take_over(args: &TakeoverArgs, config: &Config) -> Result<ExitCode, TakeoverCommandError> {
    let settings = config.edge.takeover.ok_or(TakeoverCommandError::Off)?;
    let lasts = args.lasts.unwrap_or(settings.each);
    if !takeover::is_possible(lasts, settings) {
        return Err(TakeoverCommandError::TooLong(settings.most));
    }
    change(&args.of, config, Change::TakeOver(lasts)).await
}

/// Runs `resume`.
pub async fn resume(args: &ChatArgs, config: &Config) -> Result<ExitCode, TakeoverCommandError> {
    change(args, config, Change::Resume).await
}

async fn change(args: &ChatArgs, config: &Config, change: Change) -> Result<ExitCode, TakeoverCommandError> {
    let bus = bus_access::connect(config, change.name()).await?;
    let account = args.account.as_ref().unwrap_or(&config.edge.account);
    let of = Of { subjects: &config.subjects, account, chat: &args.chat };
    let holds = takeover::change(&bus, of, change).await?;
    let line = serde_json::to_string(&holds).map_err(io::Error::from)?;
    let _ = stdout::line(&line)?;
    Ok(ExitCode::SUCCESS)
}
