//! Writes inbound messages as the edge does: the same payload, the same headers, each chat a list.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use bytes::Bytes;
use prost::Message as _;
use whatsapp_connector::wire::v1::{
    ChatKind, Identity, InboundMessage, Outcome, Reply, Text, inbound_message::Content, outcome,
};
use whatsapp_connector::wire::{ChatToken, Headers, header, id};

use crate::bus::{Bus, PATIENCE};
use crate::names;

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
        let (last, _) = bus.state(bus.subjects.stream_in()).await?;
        Ok(Self { bus, next: last + 1, ends: Vec::new(), unknown: 0, written: Vec::new() })
    }

    /// What was written so far is not looked at again.
    pub fn forget(&mut self) {
        self.written.clear();
    }

    /// Others have written what is no message since.
    pub async fn skip_to_the_end(&mut self) -> Result<()> {
        let (last, _) = self.bus.state(self.bus.subjects.stream_in()).await?;
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
            let (last, _) = self.bus.state(self.bus.subjects.stream_in()).await?;
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
        let token = ChatToken::phone(&phone);
        let message_id = names::message(chat, number);
        let now = names::now_ns() / 1_000_000;
        let jid = format!("{phone}@s.whatsapp.net");
        let inbound_id = id::inbound(&self.bus.account, &token, &phone, &message_id);
        let mut headers = Headers::cloud_event(&inbound_id, "InboundMessage", self.bus.account.as_str(), now);
        headers.set(header::MSG_ID, &inbound_id);
        headers.set(header::PREV_SEQ, &previous.to_string());
        headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &previous.to_string());
        headers.set(header::TRACEPARENT, &format!("00-{:032x}-{:016x}-01", self.next, self.next));
        let message = InboundMessage {
            account: self.bus.account.to_string(),
            chat: token.as_str().to_owned(),
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
        let subject = self.bus.subjects.message(&self.bus.account, &token);
        Ok((subject, map(&headers)?, Bytes::from(message.encode_to_vec())))
    }
}

/// An outcome for each of these messages, as if it had been answered.
pub async fn outcomes(bus: &Bus, of: &[Written]) -> Result<()> {
    let created = bus.jetstream.get_stream(bus.subjects.stream_in()).await?.cached_info().created;
    let created = created.unix_timestamp_nanos().to_string();
    let mut ends = vec![0_u64; of.iter().map(|one| one.chat).max().map_or(0, |most| most as usize + 1)];
    let (first, _) = bus.state(bus.subjects.stream_out()).await?;
    let client = bus.jetstream.client();
    for (place, one) in (first + 1..).zip(of) {
        let token = ChatToken::phone(&names::phone(one.chat));
        let message_id = names::message(one.chat, one.number);
        let inbound_id = id::inbound(&bus.account, &token, token.as_str(), &message_id);
        let outcome_id = id::outcome(&inbound_id);
        let now = names::now_ns() / 1_000_000;
        let mut headers = Headers::cloud_event(&outcome_id, "Outcome", bus.account.as_str(), now);
        let end = &mut ends[one.chat as usize];
        headers.set(header::MSG_ID, &outcome_id);
        headers.set(header::PREV_SEQ, &end.to_string());
        headers.set(header::IN_SEQ, &one.sequence.to_string());
        headers.set(header::IN_CREATED, &created);
        let outcome = Outcome {
            account: bus.account.to_string(),
            chat: token.as_str().to_owned(),
            chat_jid: format!("{}@s.whatsapp.net", token.as_str()),
            inbound_id,
            message_id,
            decided_at_ms: now,
            result: Some(outcome::Result::Reply(Reply { text: TEXT.to_owned(), ..Default::default() })),
            ..Default::default()
        };
        let subject = bus.subjects.reply(&bus.account, &token);
        let (headers, payload) = (map(&headers)?, Bytes::from(outcome.encode_to_vec()));
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

fn map(headers: &Headers) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        map.insert(name.parse::<async_nats::HeaderName>()?, value.parse::<async_nats::HeaderValue>()?);
    }
    Ok(map)
}
