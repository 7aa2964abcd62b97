//! Writes inbound messages as the edge does: the same payload, the same headers, each chat a list.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use bytes::Bytes;
use prost::Message as _;

use crate::bus::{Bus, PATIENCE};
use crate::names;
use crate::wire::v1::{
    ChatKind, Identity, InboundMessage, Outcome, Reply, Text, inbound_message::Content, outcome,
};
use crate::wire::{self, EXPECTED, IN_CREATED, IN_SEQ, PREV_SEQ, STREAM_IN, STREAM_OUT};

/// After so many the writer waits until the last one is known to be stored: the server drops what it cannot keep up
/// with.
const WINDOW: usize = 256;
const TEXT: &str = "Hola, ¿tienen una mesa para cuatro personas mañana a las nueve de la noche? Gracias";

/// In which order the chats write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Everybody one message, then everybody the next.
    InTurn,
    /// So many in a row of one chat, then of the next.
    InRows(u32),
}

/// A message that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its chat.
    pub chat: u32,
    /// Which of the chat's messages.
    pub number: u32,
    /// Its place in the stream.
    pub sequence: u64,
}

/// The only one who writes inbound messages.
#[derive(Debug)]
pub struct Writer<'a> {
    bus: &'a Bus,
    next: u64,
    /// Of each chat: its last message's place, and how many it has.
    ends: Vec<(u64, u32)>,
    unknown: usize,
    /// All that was written since [`Writer::forget`].
    pub written: Vec<Written>,
}

impl<'a> Writer<'a> {
    /// Goes on where the stream ends.
    pub async fn new(bus: &'a Bus) -> Result<Self> {
        let (last, _) = bus.state(STREAM_IN).await?;
        Ok(Self { bus, next: last + 1, ends: Vec::new(), unknown: 0, written: Vec::new() })
    }

    /// What was written so far is not looked at again.
    pub fn forget(&mut self) {
        self.written.clear();
    }

    /// Others have written what is no message since.
    pub async fn skip_to_the_end(&mut self) -> Result<()> {
        let (last, _) = self.bus.state(STREAM_IN).await?;
        self.next = last + 1;
        Ok(())
    }

    /// So many chats, each so many messages. Returns when all are stored.
    pub async fn write(&mut self, chats: u32, each: u32, pattern: Pattern) -> Result<()> {
        let row = match pattern {
            Pattern::InTurn => 1,
            Pattern::InRows(row) => row.max(1),
        };
        let mut left = each;
        while left > 0 {
            let row = row.min(left);
            for chat in 0..chats {
                for _ in 0..row {
                    self.one(chat).await?;
                }
            }
            left -= row;
        }
        self.all_stored().await
    }

    /// One message of a chat. It is stored soon.
    pub async fn one(&mut self, chat: u32) -> Result<()> {
        let index = usize::try_from(chat)?;
        if self.ends.len() <= index {
            self.ends.resize(index + 1, (0, 0));
        }
        let (previous, number) = self.ends[index];
        let (subject, headers, payload) = self.message(chat, number, previous)?;
        self.unknown += 1;
        let client = self.bus.jetstream.client();
        if self.unknown < WINDOW {
            client.publish_with_headers(subject, headers, payload).await?;
        } else {
            self.unknown = 0;
            let stored = self.bus.jetstream.publish_with_headers(subject, headers, payload).await?.await?;
            ensure!(stored.sequence == self.next, "stored at {}, not at {}", stored.sequence, self.next);
        }
        self.ends[index] = (self.next, number + 1);
        self.written.push(Written { chat, number, sequence: self.next });
        self.next += 1;
        Ok(())
    }

    /// Sends what is in the client's buffer.
    pub async fn flush(&self) -> Result<()> {
        self.bus.jetstream.client().flush().await.context("the bus")
    }

    /// Waits until all is stored.
    pub async fn all_stored(&mut self) -> Result<()> {
        self.flush().await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (last, _) = self.bus.state(STREAM_IN).await?;
            if last + 1 == self.next {
                self.unknown = 0;
                return Ok(());
            }
            ensure!(
                last < self.next && Instant::now() < deadline,
                "the stream ends at {last}, and {} was written last",
                self.next - 1
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn message(&self, chat: u32, number: u32, previous: u64) -> Result<(String, HeaderMap, Bytes)> {
        let phone = names::phone(chat);
        let message_id = names::message(chat, number);
        let now = names::now_ns() / 1_000_000;
        let jid = format!("{phone}@s.whatsapp.net");
        let previous = previous.to_string();
        let trace = format!("00-{:032x}-{:016x}-01", self.next, self.next);
        let more = [(PREV_SEQ, previous.as_str()), (EXPECTED, &previous), ("traceparent", &trace)];
        let id = wire::inbound_id(&phone, &message_id);
        let headers = wire::headers(&id, "InboundMessage", now, &more)?;
        let subject = wire::message_subject(&phone);
        let message = InboundMessage {
            account: wire::ACCOUNT.to_owned(),
            chat: phone.clone(),
            chat_jid: jid.clone(),
            message_id,
            sender: Some(Identity { jid, phone, lid: String::new() }),
            push_name: "Ana".to_owned(),
            chat_kind: ChatKind::Direct.into(),
            sent_at_ms: now,
            received_at_ms: now,
            content: Some(Content::Text(Text { body: TEXT.to_owned() })),
            ..Default::default()
        };
        Ok((subject, headers, Bytes::from(message.encode_to_vec())))
    }
}

/// An outcome for each of these messages, as if it had been answered.
pub async fn outcomes(bus: &Bus, of: &[Written]) -> Result<()> {
    let created = bus.jetstream.get_stream(STREAM_IN).await?.cached_info().created;
    let created = created.unix_timestamp_nanos().to_string();
    let mut ends = vec![0_u64; of.iter().map(|one| one.chat).max().map_or(0, |most| most as usize + 1)];
    let (first, _) = bus.state(STREAM_OUT).await?;
    let client = bus.jetstream.client();
    for (place, one) in (first + 1..).zip(of) {
        let phone = names::phone(one.chat);
        let message_id = names::message(one.chat, one.number);
        let inbound_id = wire::inbound_id(&phone, &message_id);
        let now = names::now_ns() / 1_000_000;
        let end = &mut ends[one.chat as usize];
        let (previous, of) = (end.to_string(), one.sequence.to_string());
        let more = [(PREV_SEQ, previous.as_str()), (IN_SEQ, &of), (IN_CREATED, &created)];
        let headers = wire::headers(&format!("{inbound_id}/outcome"), "Outcome", now, &more)?;
        let subject = wire::outcome_subject(&phone);
        let outcome = Outcome {
            account: wire::ACCOUNT.to_owned(),
            chat_jid: format!("{phone}@s.whatsapp.net"),
            chat: phone,
            inbound_id,
            message_id,
            decided_at_ms: now,
            result: Some(outcome::Result::Reply(Reply { text: TEXT.to_owned(), ..Default::default() })),
            ..Default::default()
        };
        let payload = Bytes::from(outcome.encode_to_vec());
        if place % WINDOW as u64 == 0 {
            let stored = bus.jetstream.publish_with_headers(subject, headers, payload).await?.await?;
            ensure!(stored.sequence == place, "stored at {}, not at {place}", stored.sequence);
        } else {
            client.publish_with_headers(subject, headers, payload).await?;
        }
        *end = place;
    }
    client.flush().await.context("the bus")
}
