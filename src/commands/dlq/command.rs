//! `whatsapp-connector dlq ...`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{DlqError, Filter, Letters};
use crate::bus::Stored;
use crate::commands::bus_access;
use crate::config::Config;
use crate::stdout::{self, Printed};
use crate::wire::Account;

/// Dead letters: messages that were given up on.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// Shows which there are, oldest first.
    List {
        /// Which.
        #[command(flatten)]
        filter: FilterArgs,
        /// How.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Shows one.
    Show {
        /// Its id, from `dlq list`.
        id: u64,
        /// How.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Puts one, or all that match, at the end of its chat again, to be answered.
    Replay(WhichArgs),
    /// Throws one, or all that match, away for good.
    Drop(WhichArgs),
}

/// One, or all that match.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// Its id, from `dlq list`.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<u64>,
    /// All that match the filters.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Prints a JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Narrows them down.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only of this account.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
    /// Only with this reason.
    #[arg(long, value_parser = ["rejected", "failed", "unreadable", "crash-loop"])]
    reason: Option<String>,
    /// Only what came in during this time, such as 2h.
    #[arg(long, value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

/// How they are shown.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Prints a JSON object a line.
    #[arg(long)]
    json: bool,
    /// Shows what people wrote. It is left out otherwise.
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
            eprintln!("{} dead letters", found.len());
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
            None => letters.list(&self.filter.into()).await,
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

/// A reader who has gone ends nothing here: what was asked for is done for all of them.
fn done(what: &str, id: u64, json: bool) -> io::Result<()> {
    let _ = if json {
        stdout::line(serde_json::json!({ "id": id, "done": what }))?
    } else {
        stdout::line(format_args!("{what} {id}"))?
    };
    Ok(())
}
