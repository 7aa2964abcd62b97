//! `whatsapp-connector opt-out`: an operator sees who wants nothing unasked, and changes it.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::bus_access::{self, BusUnavailable};
use super::takeover::ChatArgs;
use crate::bus::{AppendError, Bus, ChangeError, Of, ReadError, StoredOptOut};
use crate::config::Config;
use crate::stdout::{self, Printed};
use crate::wire::header::rfc3339_ms;
use crate::wire::opt_out;
use crate::wire::v1::{OptOut, OptOutState};
use crate::wire::{Account, ChatToken, kind, now_ms};

/// How long the bus may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is done.
#[derive(Debug, Clone, Subcommand)]
pub enum OptOutCommand {
    /// Prints who wants nothing unasked: a line of JSON for each chat, with its whole number.
    List(ListArgs),
    /// Nothing unasked is sent to this chat from now on. Prints what holds then, as JSON.
    Add(ChatArgs),
    /// What services ask for is sent to this chat again. Prints what holds then, as JSON.
    Remove(ChatArgs),
}

/// Whose.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// The account whose chats they are. Without it: WHATSAPP_ACCOUNT.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum OptOutError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// Nobody would look at it.
    #[error("OPT_OUT_WORDS is not set. Set it for the edge, and here: OPT_OUT_WORDS=stop,baja")]
    Off,
    /// What holds is not known.
    #[error("who wants nothing unasked cannot be read: {0}")]
    Unread(#[from] ReadError),
    /// It is not known that the bus has it.
    #[error("it may not be stored: {0}")]
    NotStored(#[from] ChangeError),
    /// It holds, and services do not hear of it.
    #[error("it is stored, but it is not told on the bus: {0}")]
    NotTold(#[from] AppendError),
    /// It is not known what the bus has.
    #[error("it may not be done: nats-server does not answer")]
    Timeout,
    /// The result cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// What holds, as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<String>,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl Shown {
    fn of(chat: Option<String>, holds: Option<&OptOut>) -> Self {
        let Some(holds) = holds else {
            return Self { chat, state: "none".to_owned(), cause: None, since: None };
        };
        Self {
            chat,
            state: kind::code(holds.state().as_str_name(), "OPT_OUT_STATE_"),
            cause: Some(kind::code(holds.cause().as_str_name(), "OPT_OUT_CAUSE_")),
            since: Some(rfc3339_ms(holds.at_ms)),
        }
    }

    /// Returns whether somebody reads on.
    fn print(&self) -> Result<bool, OptOutError> {
        let line = serde_json::to_string(self).map_err(io::Error::from)?;
        Ok(stdout::line(&line)? == Printed::All)
    }
}

/// Runs `opt-out`.
pub async fn run(command: &OptOutCommand, config: &Config) -> Result<ExitCode, OptOutError> {
    if config.edge.opt_out.is_none() {
        return Err(OptOutError::Off);
    }
    let bus = bus_access::connect(config, "opt-out").await?;
    match command {
        OptOutCommand::List(args) => list(args, config, &bus).await?,
        OptOutCommand::Add(args) => change(args, config, &bus, OptOutState::Out).await?,
        OptOutCommand::Remove(args) => change(args, config, &bus, OptOutState::In).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &ListArgs, config: &Config, bus: &Bus) -> Result<(), OptOutError> {
    let account = args.account.as_ref().unwrap_or(&config.edge.account);
    let mut from = Some(1);
    while let Some(at) = from {
        let page = tokio::time::timeout(PATIENCE, bus.opt_outs(&config.subjects, Some(account), at)).await;
        let (held, next) = page.map_err(|_elapsed| OptOutError::Timeout)??;
        for (_, chat, StoredOptOut { opt_out, .. }) in held {
            // A person has one line, by whichever address comes first.
            let is_first = opt_out.chats.first().is_none_or(|first| first == chat.as_str());
            let is_out = opt_out.state() == OptOutState::Out;
            if is_out && is_first && !Shown::of(Some(chat.as_str().to_owned()), Some(&opt_out)).print()? {
                return Ok(());
            }
        }
        from = next;
    }
    Ok(())
}

async fn change(args: &ChatArgs, config: &Config, bus: &Bus, state: OptOutState) -> Result<(), OptOutError> {
    let account = args.account.as_ref().unwrap_or(&config.edge.account);
    let of = Of { subjects: &config.subjects, account, chat: &args.chat };
    let is_so = |stored: &StoredOptOut| stored.opt_out.state() == state;
    // Who has said nothing wants it already.
    let changes = |before: Option<&StoredOptOut>| !before.map_or(state == OptOutState::In, is_so);
    let next = |before: Option<&StoredOptOut>| {
        let chats = before.map_or_else(Vec::new, |stored| stored.opt_out.chats.clone());
        changes(before).then(|| OptOut { chats, ..opt_out::asked_for(state) })
    };
    let never = CancellationToken::new();
    let changed = async {
        let before = bus.opt_out(of).await?;
        let holds = bus.opt(of, next, &never).await?;
        // The person's other address has a value of its own.
        let chats = before.as_ref().map_or(&[][..], |stored| stored.opt_out.chats.as_slice());
        let others = chats.iter().filter_map(|chat| ChatToken::parse(chat).ok());
        for other in others.filter(|other| *other != args.chat) {
            bus.opt(Of { chat: &other, ..of }, next, &never).await?;
        }
        let sequence = before.map(|stored| stored.sequence);
        if let Some(stored) = holds.as_ref().filter(|stored| Some(stored.sequence) != sequence) {
            let id = format!("{account}/{}/opt-out/{}-{}", args.chat.as_str(), now_ms(), std::process::id());
            bus.tell_of_opt_out(of, &id, stored.opt_out.clone(), &never).await?;
        }
        Ok::<_, OptOutError>(holds)
    };
    let holds = tokio::time::timeout(PATIENCE, changed).await.map_err(|_elapsed| OptOutError::Timeout)??;
    Shown::of(None, holds.as_ref().map(|stored| &stored.opt_out)).print()?;
    Ok(())
}
