//! One round: the plan on real parts, then peace, then everything that is left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::cast::{Blow, Cast, Ground, Life};
use crate::cluster::Cluster;
use crate::hands::{Hand, Hands};
use crate::plan::{ACK_WAIT, Kind, Letter, Menu, Plan, Step};
use crate::proxy::{Asked, POISON, Proxy};
use crate::support::heart::{self, Stall, unix_seconds};
use crate::support::oracle::{Evidence, Written};
use crate::support::{Addressing, Customer, Entry, Layout, Sent, Stage};

/// How long everything may take to be settled once nothing is broken any more.
const DRAIN: Duration = Duration::from_secs(90);
/// What a person gets in answer to a message that is given up on.
const FALLBACK: &str = "Ahora no puedo contestar.";

/// What a round leaves behind.
#[derive(Debug, Clone)]
pub struct Traces {
    /// What could break.
    pub menu: Menu,
    /// The bus was a cluster.
    pub cluster: bool,
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
        .setting("LOG_FORMAT", "json");
    let log = std::env::var("RUST_LOG").ok().map(|filter| ("RUST_LOG", filter));
    let stage = log.iter().fold(stage, |stage, (name, filter)| stage.setting(name, filter));
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
    let mut cast = Cast::new(ground, proxy, product);

    // Only in a round in which the bus stays: it listens on one connection.
    let hands = match plan.menu {
        Menu::Kills => Some(Hands::watch(&cast.ground.url()).await),
        _ => None,
    };
    let (start, began) = (Instant::now(), unix_seconds());
    let all = customers.iter().enumerate();
    let writers = all.map(|(number, customer)| write(customer, number, &plan.letters, start));
    let (written, ()) =
        tokio::join!(futures::future::join_all(writers), perform(&mut cast, &plan.steps, start));
    let letters: Vec<Posted> = written.concat();

    let peace = Instant::now();
    cast.recover().await;
    if let Err(missing) = drain(&cast.ground, letters.len()).await {
        cast.complaints.push(format!("not settled after {DRAIN:?}: {missing}"));
    }
    cast.look();
    let drained = peace.elapsed();
    let hands = hands.map(|hands| hands.seen()).unwrap_or_default();
    let stalls = heart::stalls(began);
    Traces { hands, stalls, drained, ..gather(cast, plan, &customers, letters).await }
}

/// A letter that is on its way.
#[derive(Debug, Clone)]
struct Posted {
    written: Written,
    kind: Kind,
    /// Unix seconds.
    at: f64,
}

/// One customer's letters.
async fn write(customer: &Customer, number: usize, letters: &[Letter], start: Instant) -> Vec<Posted> {
    let phone = customer.phone();
    let mut posted = Vec::new();
    for (count, letter) in letters.iter().filter(|letter| letter.customer == number).enumerate() {
        tokio::time::sleep_until(start + letter.at).await;
        let at = unix_seconds();
        let written = match letter.kind {
            Kind::Text => {
                let text = format!("{count} de {phone}");
                Written::echoed(phone, customer.write(&text).await, &text)
            }
            Kind::Poison => {
                let id = customer.write(&format!("{POISON} {count}")).await;
                Written { phone: phone.to_owned(), id, answer: Some(FALLBACK.to_owned()) }
            }
            Kind::Sticker => Written::unanswered(phone, customer.write_kind("sticker", "").await),
        };
        posted.push(Posted { written, kind: letter.kind, at });
    }
    posted
}

async fn perform(cast: &mut Cast, steps: &[Step], start: Instant) {
    for step in steps {
        tokio::time::sleep_until(start + step.at).await;
        cast.act(step.deed).await;
    }
}

/// Waits until nothing more can happen to `count` messages; says what is missing if that takes too long.
async fn drain(ground: &Ground, count: usize) -> Result<(), String> {
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
                _ => return Ok(()),
            },
            Err(missing) => missing,
        };
        if Instant::now() > end {
            return Err(state);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn gather(cast: Cast, plan: &Plan, customers: &[Customer], letters: Vec<Posted>) -> Traces {
    let stage = &cast.ground.stage;
    let streams = cast.ground.streams().await;
    let (mut inboxes, mut sent) = (BTreeMap::new(), Vec::new());
    for customer in customers {
        inboxes.insert(customer.phone().to_owned(), customer.inbox().await);
        sent.extend(customer.sent().await);
    }
    let evidence = Evidence {
        messages: streams.messages().await,
        outcomes: streams.outcomes().await,
        calls: cast.all_calls().await,
        inboxes,
    };
    let poison = letters.iter().filter(|letter| letter.kind == Kind::Poison);
    Traces {
        menu: plan.menu,
        cluster: plan.cluster,
        hands: Vec::new(),
        stalls: Vec::new(),
        drained: Duration::ZERO,
        lives: cast.all_lives(),
        written_at: letters.iter().map(|letter| (letter.written.id.clone(), letter.at)).collect(),
        poison: poison.map(|letter| letter.written.id.clone()).collect(),
        written: letters.into_iter().map(|letter| letter.written).collect(),
        evidence,
        sent,
        dead_letters: streams.dead_letters().await,
        asked: cast.proxy.asked(),
        dir: stage.dir().to_owned(),
        done: cast.done,
        blows: cast.blows,
        complaints: cast.complaints,
    }
}
