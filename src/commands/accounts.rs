//! `whatsapp-connector accounts ...`: the accounts of a pool of edges.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::time::Instant;

use super::bus_access::{self, BusUnavailable};
use super::service::{self, LinkArgs, ServiceError};
use crate::bus::topology::{Provision, Role, TopologyError};
use crate::bus::{Bus, ReadError};
use crate::config::{Config, digits};
use crate::edge::rate;
use crate::operator::accounts::{NotChanged, Wanted, Wishes, change, remove};
use crate::operator::{AccountReport, InPool, Report, collect_pool};
use crate::stdout::{self, Printed};
use crate::wire::Account;
use crate::wire::service::{Act, LinkRequest, UnlinkRequest};

/// So long after `add` an edge may take to have the account, and WhatsApp to send a code.
const LINKS: Duration = Duration::from_secs(45);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(300);

/// What is done with the accounts of a pool.
#[derive(Debug, Subcommand)]
pub enum AccountsCommand {
    /// Adds an account to the pool, or changes it. Prints what holds then, as JSON.
    ///
    /// Makes the bucket WA_ACCOUNTS and the account's consumer if they are missing and NATS_PROVISION=create. Without that, run
    /// `provision` first. A setting that is not given stays as it is. An edge that works for the account begins anew with a change.
    ///
    ///   whatsapp-connector accounts add shop --send-total 20/1s --link
    #[command(verbatim_doc_comment)]
    Add(AddArgs),
    /// Lists the accounts of the pool: which edge has each, whether it is online, and what waits for it.
    List(ListArgs),
    /// No edge works for the account until `resume`. Its session stays, and what is to be sent waits.
    Pause(NameArgs),
    /// An edge works for the account again.
    Resume(NameArgs),
    /// Takes an account out of the pool. Prints what is left of it, as JSON.
    ///
    /// Its edge lets it go, and then its lease is removed. Its session stays on the bus, where nobody can delete it: added again, the
    /// account goes on as it was. With --unlink its number is unlinked first, and what is left of the session is of no use. Its
    /// consumer stays too, so that nothing is sent twice if it is added again.
    #[command(verbatim_doc_comment)]
    Remove(RemoveArgs),
    /// Prints how to link an account's number, as `whatsapp-connector link --account NAME` does.
    Link(LinkOneArgs),
}

/// Which account.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The account's name: 1 to 64 of a-z, 0-9, `_` and `-`.
    #[arg(value_parser = Account::parse)]
    name: Account,
}

/// What `accounts add` takes.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    of: NameArgs,
    /// The phone number with its country code: the edge asks WhatsApp for a code to type into this phone. `none`: it shows a QR code
    /// only.
    #[arg(long, value_parser = phone)]
    pair_phone: Option<Wish>,
    /// In place of SEND_PER_CHAT of the edges, such as 20/10s, or `off`. `default`: as the edges' setting says.
    #[arg(long, value_parser = limit)]
    send_per_chat: Option<Wish>,
    /// In place of SEND_TOTAL of the edges, such as 50/1s, or `off`. `default`: as the edges' setting says.
    #[arg(long, value_parser = limit)]
    send_total: Option<Wish>,
    /// Waits until an edge has the account, and prints how to link it, as `accounts link` does.
    #[arg(long)]
    link: bool,
}

/// What `accounts list` takes.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Prints one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// What `accounts remove` takes.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    of: NameArgs,
    /// Unlinks the number first. A person with the phone has to link it again if the account comes back. The edge runs with
    /// SERVICE=on.
    #[arg(long)]
    unlink: bool,
}

/// What `accounts link` takes.
#[derive(Debug, Args)]
pub struct LinkOneArgs {
    #[command(flatten)]
    of: NameArgs,
    /// Asks WhatsApp for a code to type into the phone of this number, in place of the QR code.
    #[arg(long)]
    phone: Option<String>,
}

/// What an option says; `None` takes it away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish(Option<String>);

fn phone(text: &str) -> Result<Wish, String> {
    if text == "none" {
        return Ok(Wish(None));
    }
    let takes = "it takes a phone number in digits, with its country code, or none";
    digits(text).map(|digits| Wish(Some(digits))).ok_or_else(|| takes.to_owned())
}

fn limit(text: &str) -> Result<Wish, String> {
    if text == "default" {
        return Ok(Wish(None));
    }
    let takes = "it takes so many in so long, such as 20/10s: 1 to 100000 in 1s to 24h; or off, or default";
    rate::limit(text).map(|_| Wish(Some(text.to_owned()))).ok_or_else(|| takes.to_owned())
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// What the account needs on the bus is not there.
    #[error(
        "{0}. For a user who may not make it, run `whatsapp-connector provision --account {1}`, and set NATS_PROVISION=verify here"
    )]
    Topology(TopologyError, Account),
    /// It may not be changed.
    #[error(transparent)]
    NotChanged(#[from] NotChanged),
    /// There is nothing to list.
    #[error("the accounts cannot be read: {0}. If there is no pool yet, `accounts add` makes it")]
    Unread(ReadError),
    /// An edge does not do what is asked.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It was to be unlinked first.
    #[error("nothing is removed, because the number is not unlinked: {0}")]
    NotUnlinked(ServiceError),
    /// The output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs `accounts`.
pub async fn run(command: &AccountsCommand, config: &Config) -> Result<ExitCode, AccountsError> {
    if let AccountsCommand::Link(LinkOneArgs { of, phone }) = command {
        let args = LinkArgs { account: Some(of.name.clone()), phone: phone.clone() };
        return Ok(service::link(&args, config).await?);
    }
    let bus = bus_access::connect(config, "accounts").await?;
    match command {
        AccountsCommand::Add(args) => add(args, config, &bus).await?,
        AccountsCommand::List(args) => list(args, config, &bus).await?,
        AccountsCommand::Pause(of) => set(&of.name, &Wanted::Pause, config, &bus).await?,
        AccountsCommand::Resume(of) => set(&of.name, &Wanted::Resume, config, &bus).await?,
        AccountsCommand::Remove(args) => take_out(args, config, &bus).await?,
        // See above.
        AccountsCommand::Link(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(account: &Account, wanted: &Wanted, config: &Config, bus: &Bus) -> Result<(), AccountsError> {
    let holds = change(bus, &config.subjects, account, wanted).await?;
    print(&serde_json::to_value(holds).map_err(io::Error::from)?)
}

fn print(line: &Value) -> Result<(), AccountsError> {
    let _ = stdout::line(line)?;
    Ok(())
}

async fn add(args: &AddArgs, config: &Config, bus: &Bus) -> Result<(), AccountsError> {
    let account = &args.of.name;
    let lacking = |error| AccountsError::Topology(error, account.clone());
    if config.topology.provision == Provision::Create {
        bus.ensure(&config.subjects, &config.topology, Role::Pool).await.map_err(lacking)?;
    }
    bus.ensure_edge(&config.subjects, &config.topology, account).await.map_err(lacking)?;
    let of = |wish: &Option<Wish>| wish.clone().map(|Wish(value)| value);
    let wishes = Wishes {
        pair_phone: of(&args.pair_phone),
        send_per_chat: of(&args.send_per_chat),
        send_total: of(&args.send_total),
    };
    set(account, &Wanted::Set(wishes), config, bus).await?;
    if args.link {
        let by_code = matches!(args.pair_phone, Some(Wish(Some(_))));
        link_once_taken(account, by_code, config, bus).await?;
    }
    Ok(())
}

/// Prints how to link the account, once an edge has it and knows.
async fn link_once_taken(
    account: &Account,
    by_code: bool,
    config: &Config,
    bus: &Bus,
) -> Result<(), AccountsError> {
    let until = Instant::now() + LINKS;
    loop {
        let request = LinkRequest { phone: None };
        let answer = service::asked(bus, &config.subjects, account, Act::Link, &request).await;
        let is_late = Instant::now() >= until;
        match answer {
            Err(error @ ServiceError::Nobody(_)) if is_late => return Err(error.into()),
            // No edge has it yet.
            Err(ServiceError::Nobody(_)) => {}
            Err(error) => return Err(error.into()),
            Ok(answer) => {
                let link: Value = serde_json::from_slice(&answer).unwrap_or_default();
                if is_late || is_known(&link, by_code) {
                    // As `link` prints it.
                    let _ = stdout::line(String::from_utf8_lossy(&answer))?;
                    return Ok(());
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Does it say how to link, or that there is no need?
fn is_known(link: &Value, by_code: bool) -> bool {
    match link["state"].as_str().unwrap_or_default() {
        "unlinked" | "qr-ready" => !link[if by_code { "code" } else { "qr" }].is_null(),
        "starting" | "connecting" | "standby" => false,
        _ => true,
    }
}

async fn take_out(args: &RemoveArgs, config: &Config, bus: &Bus) -> Result<(), AccountsError> {
    let account = &args.of.name;
    if args.unlink {
        let request = UnlinkRequest { account: account.to_string() };
        let unlinked = service::asked(bus, &config.subjects, account, Act::Unlink, &request).await;
        unlinked.map_err(AccountsError::NotUnlinked)?;
    }
    let removed = remove(bus, &config.subjects, account, |line| eprintln!("{line}")).await?;
    let mut line = serde_json::to_value(&removed).map_err(io::Error::from)?;
    let session = if args.unlink { "of no use: the number is unlinked" } else { "as it was" };
    line["stays"] = serde_json::json!({
        "session": format!("{session}; nobody may delete records of {}", config.subjects.stream_session()),
        "consumer": config.subjects.consumer_edge(account),
    });
    if removed.still_held_by.is_some() {
        line["detail"] = "an edge goes on renewing its lease, which does no harm: it has not seen yet that the account is \
                          removed; the same command, a while later, removes the lease"
            .into();
    }
    print(&line)
}

async fn list(args: &ListArgs, config: &Config, bus: &Bus) -> Result<(), AccountsError> {
    let seen = collect_pool(bus, &config.subjects).await.map_err(AccountsError::Unread)?;
    let report = Report::of(seen);
    let accounts: Vec<_> = report.accounts.iter().filter(|account| account.pool.is_some()).collect();
    if args.json {
        for account in accounts {
            let line = serde_json::to_string(account).map_err(io::Error::from)?;
            if stdout::line(line)? == Printed::Closed {
                break;
            }
        }
        return Ok(());
    }
    let _ = stdout::print(table(&accounts))?;
    if let Some(pool) = report.pool {
        eprintln!("{} accounts, {} edges with room for {}", pool.accounts, pool.edges, pool.capacity);
    }
    Ok(())
}

/// For people, in columns.
fn table(accounts: &[&AccountReport]) -> String {
    let head = ["ACCOUNT", "STATE", "EDGE", "WAITING", "TO DO"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(accounts.iter().map(|one| row(one))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |[account, state, edge, lag, action]: &[String; 5]| {
        let [a, b, c, d] = widths;
        format!("{account:a$}  {state:b$}  {edge:c$}  {lag:>d$}  {action}\n")
    };
    rows.iter().map(line).collect()
}

fn row(account: &AccountReport) -> [String; 5] {
    let none = InPool { paused: false, edge: None, parked_on: Vec::new() };
    let pool = account.pool.as_ref().unwrap_or(&none);
    let state = match () {
        () if pool.paused => "paused",
        () if pool.edge.is_none() && !pool.parked_on.is_empty() => "parked",
        () if pool.edge.is_none() && account.lease.is_none() => "free",
        // What the bus says last of an edge that is gone is not so any more.
        () if !account.live => "no answer",
        () => &account.link,
    };
    let edge = pool.edge.clone().or_else(|| account.lease.clone()).unwrap_or_else(|| "-".to_owned());
    let lag = account.consumer.as_ref().map_or_else(|| "-".to_owned(), |consumer| consumer.lag.to_string());
    let action = if account.live { account.action.clone() } else { "-".to_owned() };
    [account.account.clone(), state.to_owned(), edge, lag, action]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_numbers_are_what_the_settings_take() {
        assert_eq!(limit("20/10s"), Ok(Wish(Some("20/10s".to_owned()))));
        assert_eq!(limit("off"), Ok(Wish(Some("off".to_owned()))));
        assert_eq!(limit("default"), Ok(Wish(None)));
        for bad in ["20", "fast", "0/1s", ""] {
            assert!(limit(bad).unwrap_err().contains("20/10s"), "{bad}");
        }
        assert_eq!(phone("+54 9 11 1234-5678"), Ok(Wish(Some("5491112345678".to_owned()))));
        assert_eq!(phone("none"), Ok(Wish(None)));
        assert!(phone("Ana").unwrap_err().contains("country code"));
    }

    #[test]
    fn it_is_waited_for_until_there_is_something_to_scan_or_to_type() {
        let known = |state: &str, qr: Option<&str>, code: Option<&str>, by_code| {
            is_known(&serde_json::json!({"state": state, "qr": qr, "code": code}), by_code)
        };
        assert!(!known("starting", None, None, false) && !known("unlinked", None, None, false));
        assert!(known("qr-ready", Some("2@x"), None, false) && !known("qr-ready", Some("2@x"), None, true));
        assert!(known("qr-ready", Some("2@x"), Some("ABCD1234"), true));
        assert!(known("online", None, None, true) && known("banned", None, None, false));
    }
}
