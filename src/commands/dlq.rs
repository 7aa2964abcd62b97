//! `whatsapp-connector dlq ...`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::bus::Stored;
use crate::commands::bus_access::{self, BusUnavailable};
use crate::config::Config;
use crate::operator::{Filter, Letters, LettersError};
use crate::stdout::{self, Printed};
use crate::wire::Account;

/// Why a command on dead letters failed.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// It was not done.
    #[error(transparent)]
    Letters(#[from] LettersError),
    /// The output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// The commands on dead letters: messages that were given up on.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// Lists dead letters, oldest first.
    List {
        /// Which dead letters.
        #[command(flatten)]
        filter: FilterArgs,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Shows one dead letter.
    Show {
        /// The dead letter's id, from `dlq list`.
        id: u64,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Puts a dead letter, or all that match, at the end of its chat again, to be answered.
    ///
    /// The message goes to the assistant like a new one, and the customer gets the answer. It stops being a dead
    /// letter as soon as the bus has stored it.
    Replay(WhichArgs),
    /// Deletes a dead letter, or all that match, for good.
    Drop(WhichArgs),
}

/// One dead letter, or all that match.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// The dead letter's id, from `dlq list`.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<u64>,
    /// All dead letters that match the filters; without a filter, all there are.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Prints one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Filters for dead letters.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only dead letters of this account.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
    /// Only dead letters with this reason.
    #[arg(long, value_parser = ["rejected", "failed", "unreadable", "crash-loop"])]
    reason: Option<String>,
    /// Only messages that came in within this time, such as 2h.
    #[arg(long, value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

/// How dead letters are shown.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Prints one JSON object per line.
    #[arg(long)]
    json: bool,
    /// Shows what customers wrote. Without it, their words are left out.
    #[arg(long)]
    text: bool,
}

/// Runs the command.
pub async fn run(command: Dlq, config: &Config) -> Result<ExitCode, DlqError> {
    let bus = bus_access::connect(config, "dlq").await?;
    let letters = Letters::new(bus, config.subjects.clone());
    match command {
        Dlq::List { filter, output } => {
            let found = letters.list(&filter.into()).await?;
            for letter in &found {
                if print(&letters, letter, &output)? == Printed::Closed {
                    break;
                }
            }
            let noun = if found.len() == 1 { "dead letter" } else { "dead letters" };
            eprintln!("{} {noun}", found.len());
        }
        Dlq::Show { id, output } => {
            let _ = print(&letters, &letters.get(id).await?, &output)?;
        }
        Dlq::Replay(which) => {
            let json = which.json;
            for letter in which.find(&letters).await? {
                letters.replay(&letter).await?;
                done("replayed", letter.sequence, json)?;
            }
        }
        Dlq::Drop(which) => {
            let json = which.json;
            for letter in which.find(&letters).await? {
                letters.discard(&letter).await?;
                done("dropped", letter.sequence, json)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl WhichArgs {
    async fn find(self, letters: &Letters) -> Result<Vec<Stored>, DlqError> {
        match self.id {
            Some(id) => Ok(vec![letters.get(id).await?]),
            None => Ok(letters.list(&self.filter.into()).await?),
        }
    }
}

impl From<FilterArgs> for Filter {
    fn from(args: FilterArgs) -> Self {
        Self { account: args.account, reason: args.reason, since: args.since }
    }
}

fn print(letters: &Letters, stored: &Stored, output: &OutputArgs) -> io::Result<Printed> {
    let letter = letters.describe(stored, output.text);
    if output.json {
        // Plain data always serialises.
        stdout::line(serde_json::to_string(&letter).unwrap_or_default())
    } else {
        stdout::line(letter)
    }
}

/// A reader that closes the output does not end the command: it handles every dead letter that it was asked to.
fn done(what: &str, id: u64, json: bool) -> io::Result<()> {
    let _ = if json {
        stdout::line(serde_json::json!({ "id": id, "done": what }))?
    } else {
        stdout::line(format_args!("{what} {id}"))?
    };
    Ok(())
}
