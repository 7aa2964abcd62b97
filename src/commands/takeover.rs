//! `whatsapp-connector takeover` and `resume`: an operator silences the assistant in one chat, or has it answer again.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::bus_access::{self, BusUnavailable};
use crate::bus::{ChangeError, Of, StoredTakeover};
use crate::config::Config;
use crate::stdout;
use crate::wire::header::rfc3339_ms;
use crate::wire::v1::Takeover;
use crate::wire::v1::TakeoverState;
use crate::wire::{Account, ChatToken, kind, now_ms, takeover};

/// How long the bus may take.
const PATIENCE: Duration = Duration::from_secs(10);

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
    #[error("it may not be stored: {0}")]
    NotStored(#[from] ChangeError),
    /// The same.
    #[error("it may not be stored: nats-server does not answer")]
    Timeout,
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

fn chat(text: &str) -> Result<ChatToken, String> {
    let is_number = |user: &str| !user.is_empty() && user.chars().all(|c| c.is_ascii_digit());
    match text.split_once('@') {
        Some((user, "s.whatsapp.net")) if is_number(user) => Ok(ChatToken::phone(user)),
        Some((user, "lid")) if is_number(user) => Ok(ChatToken::lid(user)),
        Some((user, "g.us")) if !user.is_empty() => Ok(ChatToken::group(user)),
        Some(_) => Err("a phone number in digits, a JID, or a chat's token".to_owned()),
        None => ChatToken::parse(text).map_err(|error| error.to_string()),
    }
}

/// What holds now, as it is printed. It names nobody.
#[derive(Debug, Serialize)]
struct Shown {
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl Shown {
    fn of(stored: Option<&StoredTakeover>) -> Self {
        let Some(StoredTakeover { takeover, .. }) = stored else {
            return Self { state: "none".to_owned(), began_at: None, until: None };
        };
        Self {
            state: kind::code(takeover.state().as_str_name(), "TAKEOVER_STATE_"),
            began_at: Some(rfc3339_ms(takeover.began_at_ms)),
            until: Some(rfc3339_ms(takeover.until_ms)),
        }
    }
}

/// Runs `takeover`.
pub async fn take_over(args: &TakeoverArgs, config: &Config) -> Result<ExitCode, TakeoverCommandError> {
    let settings = config.edge.takeover.ok_or(TakeoverCommandError::Off)?;
    let lasts = args.lasts.unwrap_or(settings.each);
    if lasts < Duration::from_secs(1) || lasts > settings.most {
        return Err(TakeoverCommandError::TooLong(settings.most));
    }
    change(&args.of, config, "takeover", |_before| Some(takeover::asked_for(lasts))).await
}

/// Runs `resume`.
pub async fn resume(args: &ChatArgs, config: &Config) -> Result<ExitCode, TakeoverCommandError> {
    let is_on = |stored: &&StoredTakeover| stored.takeover.state() != TakeoverState::Ended;
    change(args, config, "resume", |before| {
        before.filter(is_on).map(|stored| takeover::resumed(&stored.takeover))
    })
    .await
}

async fn change(
    args: &ChatArgs,
    config: &Config,
    command: &str,
    next: impl Fn(Option<&StoredTakeover>) -> Option<Takeover>,
) -> Result<ExitCode, TakeoverCommandError> {
    let bus = bus_access::connect(config, command).await?;
    let account = args.account.as_ref().unwrap_or(&config.edge.account);
    let of = Of { subjects: &config.subjects, account, chat: &args.chat };
    let id = format!("{account}/{}/{command}/{}-{}", args.chat.as_str(), now_ms(), std::process::id());
    let never = CancellationToken::new();
    let changed = tokio::time::timeout(PATIENCE, bus.take_over(of, &id, next, &never)).await;
    let holds = changed.map_err(|_elapsed| TakeoverCommandError::Timeout)??;
    let line = serde_json::to_string(&Shown::of(holds.as_ref())).map_err(io::Error::from)?;
    let _ = stdout::line(&line)?;
    Ok(ExitCode::SUCCESS)
}
