//! What is on the bus, read as any other service of the platform would read it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{
    self,
    consumer::{FromConsumer as _, PullConsumer, pull},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use whatsapp_connector::wire::v1::{
    InboundMessage, OptOut, Outcome, Receipt, ReceiptStatus, SendMessage, SessionEvent, Takeover,
};
use whatsapp_connector::wire::{Account, Subjects, header};

use super::{PATIENCE, eventually};

/// How many messages are asked for at a time.
const AT_ONCE: usize = 64;

/// A message as a stream has it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// When the server stored it, in unix seconds.
    pub stored_at: f64,
    headers: async_nats::HeaderMap,
    payload: bytes::Bytes,
}

impl Entry {
    /// One header.
    pub fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.as_str())
    }

    /// One header that is a sequence.
    pub fn sequence_in(&self, name: &str) -> u64 {
        let value = self.header(name).unwrap_or_else(|| panic!("no {name} on {}", self.subject));
        value.parse().unwrap_or_else(|_| panic!("{name}: {value} on {}", self.subject))
    }

    /// The payload of an inbound message.
    pub fn inbound(&self) -> InboundMessage {
        InboundMessage::decode(self.payload.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", self.subject))
    }

    /// The payload of an outcome.
    pub fn outcome(&self) -> Outcome {
        Outcome::decode(self.payload.clone()).unwrap_or_else(|error| panic!("{}: {error}", self.subject))
    }

    /// The payload of a receipt.
    pub fn receipt(&self) -> Receipt {
        Receipt::decode(self.payload.clone()).unwrap_or_else(|error| panic!("{}: {error}", self.subject))
    }

    /// The trace id in its trace context.
    pub fn trace_id(&self) -> String {
        trace_id(
            self.header(header::TRACEPARENT).unwrap_or_else(|| panic!("no traceparent on {}", self.subject)),
        )
    }

    /// The chat's token, the last one of the subject.
    pub fn chat(&self) -> &str {
        self.subject.rsplit('.').next().unwrap_or_default()
    }
}

/// The 32 hex digits of a `traceparent`.
pub fn trace_id(traceparent: &str) -> String {
    let id = traceparent.split('-').nth(1).unwrap_or_default();
    let legal = id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()) && id.contains(|c| c != '0');
    assert!(legal, "`{traceparent}` is no W3C trace context");
    id.to_owned()
}

/// The three streams.
#[derive(Debug, Clone)]
pub struct Streams {
    jetstream: jetstream::Context,
    subjects: Subjects,
    account: Account,
}

impl Streams {
    /// Connects with the default prefix and account name; `url` may be several, separated by commas.
    pub async fn connect(url: &str) -> Self {
        Self::connect_as(url, async_nats::ConnectOptions::new()).await
    }

    /// The same for a nats-server that does not let everybody in.
    pub async fn connect_as(url: &str, options: async_nats::ConnectOptions) -> Self {
        let servers: Vec<&str> = url.split(',').collect();
        let options = options.connection_timeout(PATIENCE);
        let client = options.connect(servers).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let mut jetstream = jetstream::new(client);
        // More than a busy machine needs, and less than a wait for which a lost question is asked again.
        jetstream.set_timeout(Duration::from_secs(20));
        Self {
            jetstream,
            subjects: Subjects::new("wa").expect("a prefix"),
            account: Account::parse("default").expect("an account"),
        }
    }

    /// Makes the inbound stream as somebody else would who thinks of another duplicate window.
    pub async fn make_inbound(&self, duplicate_window: Duration) {
        let config = jetstream::stream::Config {
            name: self.subjects.stream_in(),
            subjects: vec![self.subjects.all_in()],
            max_age: Duration::from_secs(7 * 86_400),
            duplicate_window,
            allow_direct: true,
            ..Default::default()
        };
        self.jetstream.create_stream(config).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same, with the edge of another account.
    pub fn of_account(self, account: &str) -> Self {
        Self { account: Account::parse(account).expect("an account"), ..self }
    }

    /// An operator purges what `WA_IN` has on these subjects of the default account, `message.5491` or so.
    pub async fn purge_in(&self, subject: &str) {
        let purged = self.inbound().await.purge().filter(format!("wa.in.default.{subject}")).await;
        purged.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same for `WA_OUT`.
    pub async fn purge_out(&self, subject: &str) {
        let purged = self.outbound().await.purge().filter(format!("wa.out.default.{subject}")).await;
        purged.unwrap_or_else(|error| panic!("{error}"));
    }

    /// `WA_IN`.
    pub async fn inbound(&self) -> jetstream::stream::Stream {
        let stream = self.jetstream.get_stream(self.subjects.stream_in()).await;
        stream.unwrap_or_else(|error| panic!("{error}"))
    }

    /// `WA_OUT`.
    pub async fn outbound(&self) -> jetstream::stream::Stream {
        let stream = self.jetstream.get_stream(self.subjects.stream_out()).await;
        stream.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The place of a chat's last user message; `None`: there is none.
    pub async fn last_of(&self, chat: &str) -> Option<u64> {
        let subject = format!("wa.in.default.message.{chat}");
        let last = self.inbound().await.direct_get_last_for_subject(subject).await;
        last.ok().map(|message| message.sequence)
    }

    /// JetStream itself.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// User messages of all chats.
    pub async fn messages(&self) -> Vec<Entry> {
        let mut entries = self.all(&self.subjects.stream_in()).await;
        entries.retain(|entry| entry.subject.contains(".message."));
        entries
    }

    /// Waits until `count` updates are stored: what is about a message or a chat, and no message.
    pub async fn updated(&self, count: usize) {
        eventually(format!("{count} updates in WA_IN"), PATIENCE, async || {
            let updates = self.count(&self.subjects.stream_in(), ".update.").await;
            if updates >= count { Ok(()) } else { Err(format!("{updates}")) }
        })
        .await;
    }

    /// Updates of all chats: edits, revokes, reactions.
    pub async fn updates(&self) -> Vec<Entry> {
        let mut entries = self.all(&self.subjects.stream_in()).await;
        entries.retain(|entry| entry.subject.contains(".update."));
        entries
    }

    /// Outcomes of all chats.
    pub async fn outcomes(&self) -> Vec<Entry> {
        let mut entries = self.all(&self.subjects.stream_out()).await;
        entries.retain(|entry| entry.subject.contains(".reply."));
        entries
    }

    /// How many outcomes and send requests there are.
    pub async fn count_out(&self) -> usize {
        let stream = self.jetstream.get_stream(self.subjects.stream_out()).await;
        let stream = stream.unwrap_or_else(|error| panic!("{error}"));
        usize::try_from(stream.cached_info().state.messages).expect("a count")
    }

    /// Another service wants this to be sent, and names it `id`. Returns whether the bus knew the id.
    pub async fn send(&self, id: &str, request: &SendMessage) -> bool {
        self.send_to(&request.to, id, request).await
    }

    /// Somebody stores these bytes.
    pub async fn publish(&self, subject: &str, payload: &'static [u8]) {
        let stored = self.jetstream.publish(subject.to_owned(), payload.into()).await;
        stored.expect("a request").await.expect("a stored message");
    }

    /// The same, in this chat.
    pub async fn send_to(&self, chat: &str, id: &str, request: &SendMessage) -> bool {
        self.send_as("default", chat, id, request).await
    }

    /// The same, for this account.
    pub async fn send_as(&self, account: &str, chat: &str, id: &str, request: &SendMessage) -> bool {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header::MSG_ID, id);
        let subject = format!("wa.out.{account}.send.{chat}");
        let payload = request.encode_to_vec().into();
        let sent = self.jetstream.publish_with_headers(subject, headers, payload).await;
        sent.expect("a request").await.expect("a stored request").duplicate
    }

    /// What the edge did not send, or WhatsApp did not take.
    pub async fn failed_sends(&self) -> Vec<Receipt> {
        let mut receipts = self.receipts().await;
        receipts.retain(|receipt| receipt.status() == ReceiptStatus::Failed);
        receipts
    }

    /// What people's phones have said of messages.
    pub async fn phones_receipts(&self) -> Vec<Receipt> {
        let mut receipts = self.receipts().await;
        let of_phone =
            |receipt: &Receipt| !matches!(receipt.status(), ReceiptStatus::Accepted | ReceiptStatus::Failed);
        receipts.retain(of_phone);
        receipts
    }

    /// All receipts.
    pub async fn receipts(&self) -> Vec<Receipt> {
        let mut entries = self.all(&self.subjects.stream_in()).await;
        entries.retain(|entry| entry.subject.contains(".receipt."));
        entries.iter().filter_map(|entry| Receipt::decode(entry.payload.clone()).ok()).collect()
    }

    /// All receipts, as the stream has them.
    pub async fn all_receipts(&self) -> Vec<Entry> {
        let mut entries = self.all(&self.subjects.stream_in()).await;
        entries.retain(|entry| entry.subject.contains(".receipt."));
        entries
    }

    /// Who has taken over which chat, and when that was over.
    pub async fn takeovers(&self) -> Vec<Takeover> {
        let mut entries = self.all(&self.subjects.stream_in()).await;
        entries.retain(|entry| entry.subject.contains(".takeover."));
        entries.iter().filter_map(|entry| Takeover::decode(entry.payload.clone()).ok()).collect()
    }

    /// Who was told to want nothing unasked, or to want it again.
    pub async fn opt_outs(&self) -> Vec<OptOut> {
        let mut entries = self.all(&self.subjects.stream_in()).await;
        entries.retain(|entry| entry.subject.contains(".opt-out."));
        entries.iter().filter_map(|entry| OptOut::decode(entry.payload.clone()).ok()).collect()
    }

    /// What the edge told of its session.
    pub async fn session_events(&self) -> Vec<SessionEvent> {
        let mut entries = self.all(&self.subjects.stream_in()).await;
        entries.retain(|entry| entry.subject.ends_with(".session"));
        entries.iter().filter_map(|entry| SessionEvent::decode(entry.payload.clone()).ok()).collect()
    }

    /// How many messages the edge has in hand: taken from the bus and not acknowledged.
    pub async fn in_the_edges_hand(&self) -> usize {
        let consumer = self.subjects.consumer_edge(&self.account);
        let found = self.consumer(&self.subjects.stream_out(), &consumer).await;
        found.unwrap_or_else(|error| panic!("{consumer}: {error}")).cached_info().num_ack_pending
    }

    /// An operator raises the limit of what the forwarders may have in hand.
    pub async fn let_the_forwarders_have(&self, count: i64) {
        let (stream, consumer) = (self.subjects.stream_in(), self.subjects.consumer_forwarder());
        let found = self.consumer(&stream, &consumer).await.unwrap_or_else(|error| panic!("{error}"));
        let config = found.cached_info().config.clone();
        let config = pull::Config::try_from_consumer_config(config).expect("a pull consumer");
        let raised = pull::Config { max_ack_pending: count, ..config };
        let stream = self.jetstream.get_stream(stream).await.expect("the stream");
        stream.update_consumer(raised).await.expect("another limit");
    }

    /// Waits until the forwarders have so many messages in hand.
    pub async fn in_the_forwarders_hand(&self, count: usize) {
        let (stream, consumer) = (self.subjects.stream_in(), self.subjects.consumer_forwarder());
        eventually(format!("{count} messages in the forwarders' hand"), PATIENCE, async || {
            let found = self.consumer(&stream, &consumer).await?.cached_info().num_ack_pending;
            if found == count { Ok(()) } else { Err(format!("{found}")) }
        })
        .await;
    }

    /// Dead letters of all chats.
    pub async fn dead_letters(&self) -> Vec<Entry> {
        self.all(&self.subjects.stream_dlq()).await
    }

    /// The deaths that are counted against messages, by their sequence in `WA_IN`.
    pub async fn deaths(&self) -> BTreeMap<u64, u32> {
        let bucket = self.jetstream.get_key_value(self.subjects.bucket_attempts()).await.expect("the bucket");
        let keys = bucket.keys().await.expect("the keys");
        let keys: Vec<String> = keys.try_collect().await.expect("the keys");
        let mut deaths = BTreeMap::new();
        for key in keys {
            let sequence = key.rsplit('.').next().and_then(|sequence| sequence.parse().ok());
            let value = bucket.get(&key).await.expect("a value").unwrap_or_default();
            let marks = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<u32>().ok());
            // The first delivery's has no mark.
            let found = sequence.zip(marks).map(|(sequence, marks)| (sequence, marks + 1));
            deaths.extend(Some(found.unwrap_or_else(|| panic!("{key}: {value:?}"))));
        }
        deaths
    }

    /// Waits until `count` user messages are stored.
    pub async fn received(&self, count: usize) {
        let what = format!("{count} messages in WA_IN");
        eventually(what, PATIENCE, async || {
            let found = self.count(&self.subjects.stream_in(), ".message.").await;
            if found >= count { Ok(()) } else { Err(format!("{found}")) }
        })
        .await;
    }

    /// Waits until `count` outcomes are stored.
    pub async fn decided(&self, count: usize) {
        let what = format!("{count} outcomes in WA_OUT");
        eventually(what, PATIENCE, async || {
            let found = self.count(&self.subjects.stream_out(), ".reply.").await;
            if found >= count { Ok(()) } else { Err(format!("{found}")) }
        })
        .await;
    }

    /// Waits until `count` messages are stored, and neither the forwarders nor the edge have anything
    /// left to do: from then on nothing more can happen by itself.
    pub async fn settled(&self, count: usize) {
        self.received(count).await;
        self.idle(&self.subjects.stream_in(), &self.subjects.consumer_forwarder()).await;
        let out = self.subjects.stream_out();
        for edge in self.edges().await {
            self.idle(&out, &edge).await;
        }
    }

    /// The consumer of the account's edge; those of all accounts, where this one has none.
    async fn edges(&self) -> Vec<String> {
        let own = self.subjects.consumer_edge(&self.account);
        let out = self.jetstream.get_stream(self.subjects.stream_out()).await;
        let Ok(out) = out else { return vec![own] };
        let names: Vec<String> = out.consumer_names().filter_map(async |name| name.ok()).collect().await;
        let others: Vec<String> = names.into_iter().filter(|name| name.starts_with("edge-")).collect();
        if others.is_empty() || others.contains(&own) { vec![own] } else { others }
    }

    /// What the forwarders' consumer and the edge's have left to do, if anything.
    pub async fn left(&self) -> Result<(), String> {
        self.nothing_left(&self.subjects.stream_in(), &self.subjects.consumer_forwarder()).await?;
        for edge in self.edges().await {
            self.nothing_left(&self.subjects.stream_out(), &edge).await?;
        }
        Ok(())
    }

    async fn idle(&self, stream: &str, consumer: &str) {
        let what = format!("the consumer {consumer} to have nothing left");
        eventually(what, PATIENCE, async || self.nothing_left(stream, consumer).await).await;
    }

    async fn nothing_left(&self, stream: &str, consumer: &str) -> Result<(), String> {
        let found = self.consumer(stream, consumer).await?;
        let info = found.cached_info();
        match (info.num_pending, info.num_ack_pending) {
            (0, 0) => self.is_at_the_end(stream, info).await,
            (waiting, in_hand) => {
                Err(format!("{consumer}: {waiting} not delivered, {in_hand} not acknowledged"))
            }
        }
    }

    /// For a moment, a consumer that was just made, or whose server was, says that nothing waits.
    async fn is_at_the_end(&self, stream: &str, info: &Info) -> Result<(), String> {
        let all =
            [&info.config.filter_subjects[..], std::slice::from_ref(&info.config.filter_subject)].concat();
        let messages = self.jetstream.get_stream(stream).await.map_err(|error| error.to_string())?;
        for subject in all.into_iter().filter(|subject| !subject.is_empty()) {
            match messages.get_last_raw_message_by_subject(&subject).await {
                Ok(last) if last.sequence > info.delivered.stream_sequence => {
                    return Err(format!("{}: message {} is not delivered", info.name, last.sequence));
                }
                Ok(_) => {}
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    async fn consumer(&self, stream: &str, name: &str) -> Result<PullConsumer, String> {
        self.jetstream.get_consumer_from_stream(name, stream).await.map_err(|error| error.to_string())
    }

    /// How many messages with `part` in their subject there are: one question, however many they are.
    async fn count(&self, name: &str, part: &str) -> usize {
        let Ok(stream) = self.jetstream.get_stream(name).await else { return 0 };
        let Ok(subjects) = stream.info_with_subjects(">").await else { return 0 };
        // They come in pages, and a subject that is new in between moves others to the next page: each counts once.
        let counts: BTreeMap<String, usize> = subjects.try_collect().await.unwrap_or_default();
        counts.iter().filter(|(subject, _)| subject.contains(part)).map(|(_, count)| count).sum()
    }

    async fn all(&self, name: &str) -> Vec<Entry> {
        // A stream that nobody has made yet holds nothing.
        let Ok(stream) = self.jetstream.get_stream(name).await else { return Vec::new() };
        let state = stream.cached_info().state.clone();
        let sequences = state.first_sequence.max(1)..=state.last_sequence;
        let entries = stream::iter(sequences).map(async |sequence| {
            let message = stream
                .direct_get(sequence)
                .await
                .unwrap_or_else(|error| panic!("{name} holds no message {sequence}: {error}"));
            Entry {
                sequence,
                subject: message.subject.to_string(),
                stored_at: message.time.unix_timestamp_nanos() as f64 / 1e9,
                headers: message.headers,
                payload: message.payload,
            }
        });
        entries.buffered(AT_ONCE).collect().await
    }
}
