//! `whatsapp-connector send`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use prost::Message as _;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::file::{self, FileError};
use super::request::MessageArgs;
use crate::bus::{AppendError, Bus, ReadError, Record};
use crate::commands::bus_access::{self, BusUnavailable};
use crate::config::Config;
use crate::stdout;
use crate::wire::state::rank;
use crate::wire::v1::{Receipt, ReceiptStatus, SendMessage, send_message};
use crate::wire::{Account, Headers, header, id, kind, now_ms};

/// What `send` sends. The command's help is at [`Command::Send`](crate::commands::Command::Send).
#[derive(Debug, Args)]
pub struct SendArgs {
    #[command(flatten)]
    message: MessageArgs,
    /// The account whose number sends it. Without it: WHATSAPP_ACCOUNT.
    #[arg(long, value_parser = Account::parse)]
    account: Option<Account>,
    /// Your own name of this one message. The same name again is the same message, and a phone shows it once. Without it,
    /// one is made up.
    #[arg(long, value_parser = name)]
    id: Option<String>,
    /// Waits until the message has come so far, or has failed.
    #[arg(long, value_enum)]
    wait: Option<Until>,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// What `--wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// WhatsApp's server has it
    Accepted,
    /// The person's phone has it
    Delivered,
    /// The person has read it; not everybody lets others know
    Read,
}

impl Until {
    fn status(self) -> ReceiptStatus {
        match self {
            Self::Accepted => ReceiptStatus::Accepted,
            Self::Delivered => ReceiptStatus::Delivered,
            Self::Read => ReceiptStatus::Read,
        }
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let legal = !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic());
    if legal { Ok(text.to_owned()) } else { Err("1 to 256 characters of ASCII, without blanks") }
}

/// Why the exit code is not 0.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No bus.
    #[error(transparent)]
    Access(#[from] BusUnavailable),
    /// It is not known that the request is stored.
    #[error(
        "the request may not be stored: {0}. The same command with --id {1} says it again, and sends it once"
    )]
    NotStored(AppendError, String),
    /// The streams do not answer.
    #[error(transparent)]
    Bus(#[from] ReadError),
    /// The result cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    /// The file is not where the edge would look for it.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is given, and a kind that has none.
    #[error("--file does not go with this --kind; leave --kind out, or name one that goes with a file")]
    NoFile,
    /// Nobody can be written to there.
    #[error("--to is no phone number in digits, and no JID such as 987@lid or 120363@g.us")]
    Recipient,
    /// It failed, or did not come so far in time. The output says which.
    #[error("the message has not come so far")]
    NotThere,
}

/// How often the bus is asked for news.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long the request may take to be stored.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known at the end, as it is printed. Nothing in it names a person.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    whatsapp_id: String,
    sequence: u64,
    /// The bus had the request already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// Before this time it would fail again.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Runs the command.
pub async fn run(args: &SendArgs, config: &Config) -> Result<ExitCode, SendError> {
    let chat = args.message.chat().ok_or(SendError::Recipient)?;
    let bus = bus_access::connect(config, "send").await?;
    let now = now_ms();
    let id = args.id.clone().unwrap_or_else(|| format!("send-{now}-{}", std::process::id()));
    let subjects = &config.subjects;
    let account = args.account.as_ref().unwrap_or(&config.edge.account);
    // Only who waits has to be allowed to read.
    let before = match args.wait {
        Some(_) => bus.stream_state(&subjects.stream_in()).await?.last,
        None => 0,
    };
    let mut headers = Headers::default();
    headers.set(header::MSG_ID, &id);
    let key = match &args.message.file {
        Some(path) if args.message.kind().of_file().is_some() => file::put(&bus, subjects, path).await?,
        Some(_) => return Err(SendError::NoFile),
        None => String::new(),
    };
    let request = args.message.request(now, &key);
    let is_long = is_long(&request);
    let payload = request.encode_to_vec().into();
    let record = Record { subject: subjects.send(account, &chat), headers, payload };
    let never = CancellationToken::new();
    let stored = tokio::time::timeout(PATIENCE, bus.append_until_known(&record, &never)).await;
    let stored =
        stored.unwrap_or_else(|_elapsed| Err(AppendError::Unknown("nats-server does not answer".to_owned())));
    let stored = stored.map_err(|error| SendError::NotStored(error, id.clone()))?;
    let whatsapp_id = id::whatsapp(&id);
    let mut best = Receipt::default();
    let mut there = true;
    if let Some(until) = args.wait {
        // What became of an earlier request with this id was told before.
        let from = if stored.duplicate { 1 } else { before + 1 };
        let mut news = News {
            bus: &bus,
            stream: subjects.stream_in(),
            subject: subjects.receipt(account, &chat),
            request_id: &id,
            last: (!is_long).then(|| whatsapp_id.clone()),
        };
        there = news.wait(until, from, args.timeout, &mut best).await?;
    }
    let state = match best.status() {
        ReceiptStatus::Unspecified => "stored".to_owned(),
        status => kind::code(status.as_str_name(), "RECEIPT_STATUS_"),
    };
    let Receipt { reason, detail, until_ms, .. } = best;
    let until = (until_ms != 0).then(|| header::rfc3339_ms(until_ms));
    let (sequence, duplicate) = (stored.sequence, stored.duplicate);
    let shown = Shown { id, whatsapp_id, sequence, duplicate, state, reason, detail, until };
    // Plain data always serialises.
    let _ = stdout::line(serde_json::to_string(&shown).unwrap_or_default())?;
    if there { Ok(ExitCode::SUCCESS) } else { Err(SendError::NotThere) }
}

/// May it become several messages? A unit has no more than three bytes, so this is on the safe side.
fn is_long(request: &SendMessage) -> bool {
    matches!(&request.content, Some(send_message::Content::Text(text)) if text.body.len() > 4_096)
}

/// The receipts of one chat.
struct News<'a> {
    bus: &'a Bus,
    stream: String,
    subject: String,
    request_id: &'a str,
    /// The WhatsApp id of its last message, which says how far it has come; `None`: not known yet.
    last: Option<String>,
}

impl News<'_> {
    /// Waits until the message has come so far. Returns whether it has; `best` is how far it has come.
    async fn wait(
        &mut self,
        until: Until,
        from: u64,
        timeout: Duration,
        best: &mut Receipt,
    ) -> Result<bool, ReadError> {
        let (mut next, end) = (from, Instant::now() + timeout);
        loop {
            while let Some(stored) = self.bus.next_from(&self.stream, &self.subject, next).await? {
                next = stored.sequence + 1;
                let Ok(receipt) = Receipt::decode(stored.payload) else { continue };
                let is_named = receipt.request_id == self.request_id;
                if is_named && receipt.status() == ReceiptStatus::Accepted {
                    self.last = receipt.message_ids.last().cloned();
                }
                // After a restart of the edge it names no request.
                let is_it = is_named || receipt.message_ids.iter().any(|id| Some(id) == self.last.as_ref());
                if is_it && rank(receipt.status()) > rank(best.status()) {
                    *best = receipt;
                }
                if best.status() != ReceiptStatus::Failed && rank(best.status()) >= rank(until.status()) {
                    return Ok(true);
                }
            }
            if best.status() == ReceiptStatus::Failed || Instant::now() >= end {
                return Ok(false);
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
