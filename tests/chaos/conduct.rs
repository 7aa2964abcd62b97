//! One round: the plan on real parts, then peace, then everything that is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::beside::{self, Beside};
use crate::cast::{Blow, Cast, Ground, Life};
use crate::cluster::Cluster;
use crate::hands::{Hand, Hands};
use crate::letters::{File, Kind, Letter};
use crate::plan::{ACK_WAIT, JOIN_MAX, JOIN_WITHIN, Menu, Plan, Step};
use crate::proxy::{Asked, POISON, Proxy};
use crate::services;
use crate::support::heart::{self, Stall, unix_seconds};
use crate::support::oracle::{Evidence, Written};
use crate::support::{Addressing, BUSINESS, Customer, Entry, Layout, Received, Sent, Stage};
use crate::taken;

/// How long everything may take to be settled once nothing is broken any more.
const DRAIN: Duration = Duration::from_secs(90);
/// The group, and its chat's token.
const GROUP: &str = "120363000000000042@g.us";
const GROUP_TOKEN: &str = "group-120363000000000042";
/// How many customers are in it.
const MEMBERS: usize = 3;
/// What a person gets in answer to a message that is given up on.
pub const FALLBACK: &str = "Ahora no puedo contestar.";

/// What a round leaves behind.
#[derive(Debug, Clone)]
pub struct Traces {
    /// What could break.
    pub menu: Menu,
    /// The bus was a cluster.
    pub cluster: bool,
    /// Texts in a row were joined, and it is known when they must be: one server stamps them and shows them.
    pub may_be_joined: bool,
    /// When each message was written, by id, in unix seconds.
    pub written_at: BTreeMap<String, f64>,
    /// The deliveries to forwarders, in a round of kills.
    pub hands: Vec<Hand>,
    /// When forwarders were at work.
    pub lives: Vec<Life>,
    /// When the machine stood still.
    pub stalls: Vec<Stall>,
    /// What was written, by chat in the order of writing.
    pub written: Vec<Written>,
    /// The ids of those that the backend rejects.
    pub poison: Vec<String>,
    /// Streams, call log and inboxes.
    pub evidence: Evidence,
    /// Files, votes, and what services asked for.
    pub beside: Beside,
    /// The chats that a person has taken over.
    pub taken: Vec<taken::Chat>,
    /// What the phones know of what they sent.
    pub sent: Vec<Sent>,
    /// `WA_DLQ`.
    pub dead_letters: Vec<Entry>,
    /// The calls as the proxy saw them.
    pub asked: Vec<Asked>,
    /// What was done, by kind.
    pub done: BTreeMap<String, usize>,
    /// What was done, and when.
    pub blows: Vec<Blow>,
    /// What went wrong on the way.
    pub complaints: Vec<String>,
    /// How long it took from peace to the end of all work.
    pub drained: Duration,
    /// Where the logs are.
    pub dir: PathBuf,
}

/// Sets the stage for a round. Its directory stays.
pub async fn set(plan: &Plan, settings: &[(&str, &str)]) -> Ground {
    let (fast, slow) = plan.delay_ms;
    let ack_wait = format!("{}s", ACK_WAIT.as_secs());
    let stage = Stage::plan()
        .backend("BACKEND_DELAY_MS", &format!("{fast}-{slow}"))
        .backend("BACKEND_FAIL_SEED", &plan.seed.to_string())
        .setting("FORWARDER_ACK_WAIT", &ack_wait)
        .setting("EDGE_ACK_WAIT", &ack_wait)
        .setting("BACKEND_TIMEOUT", "4s")
        .setting("BACKEND_RETRY_FOR", "1h")
        .setting("SHUTDOWN_GRACE", "6s")
        .setting("FALLBACK_TEXT", FALLBACK)
        .setting("MEDIA", "all")
        .setting("GROUPS", "all")
        .setting("LOG_FORMAT", "json");
    let log = std::env::var("RUST_LOG").ok().map(|filter| ("RUST_LOG", filter));
    let stage = log.iter().fold(stage, |stage, (name, filter)| stage.setting(name, filter));
    let (within, at_most) = (JOIN_WITHIN.as_millis(), JOIN_MAX.as_millis());
    let stage = match plan.joins {
        true => {
            stage.setting("JOIN_WITHIN", &format!("{within}ms")).setting("JOIN_MAX", &format!("{at_most}ms"))
        }
        false => stage,
    };
    // Where it is promised when a call is made, nobody looks whether a person has the chat.
    let stage = if plan.taken.is_empty() { stage } else { stage.setting("TAKEOVER", "30m") };
    let stage = settings.iter().fold(stage, |stage, (name, value)| stage.setting(name, value));
    let mut stage = stage.set().await;
    stage.keep();
    if !plan.cluster {
        return Ground { stage, cluster: None };
    }
    let cluster = Cluster::start(stage.dir()).await;
    stage.set("NATS_URL", &cluster.url());
    stage.set("NATS_REPLICAS", "3");
    Ground { stage, cluster: Some(cluster) }
}

/// Plays a round on its stage.
pub async fn play(plan: &Plan, mut ground: Ground) -> Traces {
    let stage = &mut ground.stage;
    let proxy = Proxy::start(stage.backend.url());
    stage.set("BACKEND_URL", &proxy.url());
    let product = stage.product(Layout::Split { forwarders: plan.forwarders }).await;
    let mut customers = Vec::new();
    for number in 0..plan.customers {
        let addressing = if number % 2 == 0 { Addressing::Phone } else { Addressing::Lid };
        customers.push(stage.simulator.customer(&format!("54911555{number:05}"), addressing).await);
    }
    let members: Vec<&Customer> = customers.iter().take(MEMBERS).collect();
    ground.stage.simulator.group(GROUP, &members, json!({})).await;
    let mut taken = Vec::new();
    for number in 0..plan.taken.len() {
        let phone = format!("54911777{number:05}");
        taken.push(ground.stage.simulator.customer(&phone, Addressing::Lid).await);
    }
    services::put(&ground.streams().await).await;
    let mut cast = Cast::new(ground, proxy, product);

    // Only in a round in which the bus stays: it listens on one connection.
    let hands = match plan.menu {
        Menu::Kills => Some(Hands::watch(&cast.ground.url()).await),
        _ => None,
    };
    let (start, began) = (Instant::now(), unix_seconds());
    let all = customers.iter().enumerate();
    let writers = all.map(|(number, customer)| write(customer, number, &plan.letters, start));
    let url = cast.ground.url();
    let services = customers.iter().enumerate();
    let services = services
        .map(|(number, customer)| services::ask(&url, customer.phone(), number, &plan.requests, start));
    let stories = taken.iter().zip(&plan.taken).map(|(customer, story)| taken::play(customer, story, start));
    let (written, asked, stories, ()) = tokio::join!(
        futures::future::join_all(writers),
        futures::future::join_all(services),
        futures::future::join_all(stories),
        perform(&mut cast, &plan.steps, start)
    );
    let mut posted = Outbox { taken: stories, ..Outbox::default() };
    written.into_iter().for_each(|one| posted.extend(one));
    for one in asked {
        posted.beside.wanted.extend(one.wanted);
        cast.complaints.extend(one.complaints);
    }

    let peace = Instant::now();
    cast.recover().await;
    if let Err(missing) = drain(&cast.ground, &posted).await {
        cast.complaints.push(format!("not settled after {DRAIN:?}: {missing}"));
    }
    cast.look();
    let drained = peace.elapsed();
    let hands = hands.map(|hands| hands.seen()).unwrap_or_default();
    let stalls = heart::stalls(began);
    Traces { hands, stalls, drained, ..gather(cast, plan, (&customers, &taken), posted).await }
}

/// A letter that is on its way.
#[derive(Debug, Clone)]
struct Posted {
    written: Written,
    kind: Kind,
    /// Unix seconds.
    at: f64,
}

/// What was sent, of one customer or of all.
#[derive(Debug, Clone, Default)]
struct Outbox {
    letters: Vec<Posted>,
    beside: Beside,
    taken: Vec<taken::Chat>,
}

impl Outbox {
    fn extend(&mut self, other: Self) {
        self.letters.extend(other.letters);
        self.beside.files.extend(other.beside.files);
        self.beside.votes.extend(other.beside.votes);
    }
}

/// One customer's letters.
async fn write(customer: &Customer, number: usize, letters: &[Letter], start: Instant) -> Outbox {
    let phone = customer.phone();
    let mut outbox = Outbox::default();
    for (count, letter) in letters.iter().filter(|letter| letter.customer == number).enumerate() {
        tokio::time::sleep_until(start + letter.at).await;
        let at = unix_seconds();
        let text = format!("{count} de {phone}");
        let written = match letter.kind {
            Kind::Text => Written::echoed(phone, customer.write(&text).await, &text),
            Kind::Poison => {
                let id = customer.write(&format!("{POISON} {count}")).await;
                Written { phone: phone.to_owned(), id, answer: Some(FALLBACK.to_owned()) }
            }
            Kind::Sticker => Written::unanswered(phone, customer.write_kind("sticker", "").await),
            Kind::Photo(file) => {
                let (id, sha256) = photograph(customer, &text, file).await;
                outbox.beside.files.insert(id.clone(), sha256);
                Written::echoed(phone, id, &text)
            }
            Kind::InGroup => {
                let id = customer.write_with(json!({"text": text, "through": GROUP})).await;
                Written::echoed(GROUP_TOKEN, id, &text)
            }
            Kind::Vote(vote) => {
                outbox.beside.votes.extend(cast_a_vote(customer, vote.picks()).await);
                continue;
            }
        };
        outbox.letters.push(Posted { written, kind: letter.kind, at });
    }
    outbox
}

/// Sends a picture with these words; its id, and the hash of its file.
async fn photograph(customer: &Customer, text: &str, file: File) -> (String, Vec<u8>) {
    let content = beside::bytes(text);
    let media = json!({"bytes": BASE64_STANDARD.encode(&content), "how": file.how()});
    let id = customer.write_with(json!({"kind": "image", "text": text, "media": media})).await;
    (id, Sha256::digest(&content).to_vec())
}

/// Votes on the newest poll that the phone has, if there is one.
async fn cast_a_vote(customer: &Customer, picks: &[&str]) -> Option<beside::Cast> {
    let inbox = customer.inbox().await;
    let poll = inbox.iter().rfind(|received| received.kind == "poll")?.id.clone();
    customer.votes(&poll, picks).await;
    let picks = picks.iter().map(|pick| (*pick).to_owned()).collect();
    Some(beside::Cast { phone: customer.phone().to_owned(), poll, picks })
}

async fn perform(cast: &mut Cast, steps: &[Step], start: Instant) {
    for step in steps {
        tokio::time::sleep_until(start + step.at).await;
        cast.act(step.deed).await;
    }
}

/// Waits until nothing more can happen to what was sent; says what is missing if that takes too long.
async fn drain(ground: &Ground, posted: &Outbox) -> Result<(), String> {
    let count = posted.letters.len() + posted.taken.iter().map(taken::Chat::len).sum::<usize>();
    // A sticker has a file as well.
    let stickers = posted.letters.iter().filter(|letter| letter.kind == Kind::Sticker).count();
    let updates = posted.beside.files.len() + posted.beside.votes.len() + stickers;
    let end = Instant::now() + DRAIN;
    let streams = ground.streams().await;
    let mut asked_again = Instant::now();
    loop {
        let unreceived = ground.stage.simulator.unreceived().await;
        // Receipts that were muted or lost with their process: WhatsApp hands those messages over again,
        // sooner or later.
        if unreceived > 0 && asked_again.elapsed() > Duration::from_secs(3) {
            ground.stage.simulator.fault("redeliver_unacked", None).await;
            asked_again = Instant::now();
        }
        let state = match unreceived {
            0 => streams.left().await,
            some => Err(format!("{some} messages not received by the edge")),
        };
        let state = match state {
            Ok(()) => match streams.messages().await.len() {
                stored if stored < count => {
                    return Err(format!("{count} written, {stored} stored, none on the way"));
                }
                // Files come later than their messages, and nothing but their updates tells when.
                _ => match streams.updates().await.len() {
                    told if told < updates => format!("{told} updates of {updates}"),
                    _ => return Ok(()),
                },
            },
            Err(missing) => missing,
        };
        if Instant::now() > end {
            return Err(state);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn gather(
    cast: Cast,
    plan: &Plan,
    (customers, people): (&[Customer], &[Customer]),
    posted: Outbox,
) -> Traces {
    let Outbox { letters, mut beside, mut taken } = posted;
    let stage = &cast.ground.stage;
    let streams = cast.ground.streams().await;
    let (mut inboxes, mut sent) = (BTreeMap::new(), Vec::new());
    let mut groups = Vec::new();
    let requested: BTreeSet<String> = beside.wanted.iter().map(|wanted| wanted.id.clone()).collect();
    for customer in customers {
        let mut inbox = customer.inbox().await;
        let in_group = |received: &Received| received.more.get("group").is_some_and(|group| !group.is_null());
        let mut group = inbox.extract_if(.., |received| in_group(received)).collect::<Vec<_>>();
        group.retain(|received| received.more["from"] == BUSINESS);
        groups.push(group);
        let (asked_for, answers) = inbox.into_iter().partition(|received| requested.contains(&received.id));
        beside.shown.insert(customer.phone().to_owned(), asked_for);
        inboxes.insert(customer.phone().to_owned(), answers);
        sent.extend(customer.sent().await);
    }
    groups.truncate(MEMBERS);
    inboxes.extend(groups.first().map(|group| (GROUP_TOKEN.to_owned(), group.clone())));
    beside.groups = groups;
    beside.updates = streams.updates().await;
    beside.receipts = streams.all_receipts().await;
    beside.objects = beside::objects(&streams, beside.keys()).await;
    let mut evidence = Evidence {
        messages: streams.messages().await,
        outcomes: streams.outcomes().await,
        calls: cast.all_calls().await,
        inboxes,
    };
    for (chat, customer) in taken.iter_mut().zip(people) {
        let is_its_own = |entry: &mut Entry| entry.chat() == chat.phone;
        chat.messages = evidence.messages.extract_if(.., is_its_own).collect();
        chat.outcomes = evidence.outcomes.extract_if(.., is_its_own).collect();
        chat.receipts = beside.receipts.iter().filter(|entry| entry.chat() == chat.phone).cloned().collect();
        chat.takeovers = streams.takeovers().await;
        chat.takeovers.retain(|one| one.chat == chat.phone);
        chat.inbox = customer.inbox().await;
    }
    let poison = letters.iter().filter(|letter| letter.kind == Kind::Poison);
    Traces {
        menu: plan.menu,
        cluster: plan.cluster,
        may_be_joined: plan.joins && !plan.cluster,
        hands: Vec::new(),
        stalls: Vec::new(),
        drained: Duration::ZERO,
        lives: cast.all_lives(),
        written_at: letters.iter().map(|letter| (letter.written.id.clone(), letter.at)).collect(),
        poison: poison.map(|letter| letter.written.id.clone()).collect(),
        written: letters.into_iter().map(|letter| letter.written).collect(),
        evidence,
        beside,
        taken,
        sent,
        dead_letters: streams.dead_letters().await,
        asked: cast.proxy.asked(),
        dir: stage.dir().to_owned(),
        done: cast.done,
        blows: cast.blows,
        complaints: cast.complaints,
    }
}
