//! `whatsapp-connector tap`.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Kind, Line, Tap};
use crate::bus::ReadError;
use crate::commands::bus_access::{self, BusUnavailable};
use crate::config::Config;
use crate::wire::{Account, now_ms};

/// Which messages `tap` prints, and how. The command's help is at [`Command::Tap`](crate::commands::Command::Tap).
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Only messages of this account.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
    /// Only messages of this kind; may be given several times.
    #[arg(long = "kind", value_enum)]
    kinds: Vec<Kind>,
    /// Only messages that were stored within this time, such as 2h, by this machine's clock.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    since: Duration,
    /// Goes on and prints new messages as they come, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// Shows what customers and the assistant wrote. Without it, their words are left out.
    #[arg(long)]
    text: bool,
    /// Ends after this many lines.
    #[arg(long)]
    limit: Option<u64>,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// A stream does not answer.
    #[error("{0}: {1}")]
    Bus(String, ReadError),
    /// The lines cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// How often `--follow` asks for new messages.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Runs the command.
pub async fn run(args: &TapArgs, config: &Config) -> Result<ExitCode, TapError> {
    let bus = bus_access::connect(config, "tap").await?;
    let since = i64::try_from(args.since.as_millis()).unwrap_or(i64::MAX);
    let since_ms = now_ms().saturating_sub(since).max(0);
    let mut tap = Tap::new(bus, config.subjects.clone(), args.account.as_ref(), &args.kinds, since_ms);
    match print(&mut tap, args, config, &mut BufWriter::new(io::stdout().lock())).await {
        // The reader has closed the output: it has seen enough.
        Err(TapError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        ended => ended?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn print(tap: &mut Tap, args: &TapArgs, config: &Config, out: &mut impl Write) -> Result<(), TapError> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut told = false;
    while left > 0 {
        match tap.next().await {
            Ok(Some((stream, stored))) => {
                let line = Line::of(&config.subjects, stream, &stored, args.text);
                // Plain data always serialises.
                writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())?;
                left -= 1;
                told = false;
                continue;
            }
            Ok(None) if !args.follow => break,
            Ok(None) => told = false,
            Err((stream, error @ ReadError::Unanswered(_))) if args.follow => {
                if !told {
                    eprintln!(
                        "whatsapp-connector: {stream}: {error}; `tap` goes on when nats-server answers again"
                    );
                    told = true;
                }
            }
            Err((stream, error)) => return Err(TapError::Bus(stream, error)),
        }
        out.flush()?;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(out.flush()?)
}
