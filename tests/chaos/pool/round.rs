//! One round of a pool: the plan on real parts, then peace, then everything that is left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::cast::{Cast, Life};
use super::plan::{ACCOUNTS, Plan};
use crate::cast::Ground;
use crate::cluster::Cluster;
use crate::support::heart::{self, Stall, unix_seconds};
use crate::support::oracle::{Evidence, Written};
use crate::support::shops::{Shop, Visit, names};
use crate::support::{Customer, Entry, Sent, Stage};

/// How long everything may take to be settled once nothing is broken any more: a lease's term, and what is behind it.
const DRAIN: Duration = Duration::from_secs(120);
/// So many numbers are linked at a time.
const LINKING: usize = 4;
/// A key of tests: 32 times 7.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// What a round leaves behind.
#[derive(Debug, Clone)]
pub struct Traces {
    /// What was written, by chat in the order of writing.
    pub written: Vec<Written>,
    /// Streams, call log and inboxes.
    pub evidence: Evidence,
    /// What the phones know of what they sent.
    pub sent: Vec<Sent>,
    /// `WA_DLQ`.
    pub dead_letters: Vec<Entry>,
    /// The connections of each account, as WhatsApp saw them.
    pub visits: BTreeMap<String, Vec<Visit>>,
    /// All edges that there were.
    pub lives: Vec<Life>,
    /// Signal keys that came a second time, for something else.
    pub keys_used_twice: u64,
    /// Messages that a phone could not read at first.
    pub undecryptable: u64,
    /// When something was done that may delay a take-over, in unix seconds.
    pub blows: Vec<f64>,
    /// When the machine stood still.
    pub stalls: Vec<Stall>,
    /// When all was over, in unix seconds.
    pub end: f64,
    /// What was done, by kind.
    pub done: BTreeMap<&'static str, usize>,
    /// What went wrong on the way.
    pub complaints: Vec<String>,
    /// How long it took from peace to the end of all work.
    pub drained: Duration,
    /// Where the logs are.
    pub dir: PathBuf,
}

/// Sets the stage for a round. Its directory stays.
pub async fn set(plan: &Plan) -> Ground {
    let stage = Stage::plan()
        .backend("BACKEND_DELAY_MS", "0-300")
        .backend("BACKEND_FAIL_SEED", &plan.seed.to_string())
        .setting("FORWARDER_ACK_WAIT", "3s")
        .setting("EDGE_ACK_WAIT", "3s")
        .setting("BACKEND_TIMEOUT", "4s")
        .setting("BACKEND_RETRY_FOR", "1h")
        .setting("SHUTDOWN_GRACE", "8s")
        .setting("SESSION_STORE", "nats")
        .setting("SESSION_KEY", KEY)
        .setting("WHATSAPP_AUTH_DIR", "/proc/nowhere")
        .setting("SERVICE", "on")
        .setting("LOG_FORMAT", "json");
    // A round without a guard shows what it is for: the judge has to see that it is missing.
    let given = ["RUST_LOG", "WITHOUT_GUARD"].map(|name| (name, std::env::var(name)));
    let stage = given.iter().fold(stage, |stage, (name, value)| match value {
        Ok(value) => stage.setting(name, value),
        Err(_) => stage,
    });
    let mut stage = stage.set().await;
    stage.keep();
    if !plan.cluster {
        stage.set("SESSION_UNSAFE_SYNC", "on");
        return Ground { stage, cluster: None };
    }
    let cluster = Cluster::start(stage.dir()).await;
    stage.set("NATS_URL", &cluster.url());
    stage.set("NATS_REPLICAS", "3");
    Ground { stage, cluster: Some(cluster) }
}

/// Plays a round on its stage.
pub async fn play(plan: &Plan, mut ground: Ground) -> Traces {
    let from = unix_seconds();
    let shops = ground.stage.simulator.shops(ACCOUNTS).await;
    ground.stage.set("WHATSAPP_ACCOUNTS", &names(&shops));
    let mut customers = Vec::new();
    for (number, account) in plan.customers.iter().enumerate() {
        let phone = format!("54911700{number:05}");
        customers.push(ground.stage.simulator.customer_of(&shops[*account], &phone).await);
    }
    let mut cast = Cast::new(ground, shops.clone()).await;
    let stage = &cast.ground.stage;
    futures::stream::iter(&shops).for_each_concurrent(LINKING, |shop| stage.link_shop(shop)).await;

    let start = Instant::now();
    let writers = customers.iter().zip(&plan.letters).map(|(customer, at)| write(customer, at, start));
    let steps = async {
        for step in &plan.steps {
            tokio::time::sleep_until(start + step.at).await;
            cast.act(step.deed).await;
        }
    };
    let (written, ()) = tokio::join!(futures::future::join_all(writers), steps);
    let written: Vec<Written> = written.concat();

    let peace = Instant::now();
    cast.recover().await;
    if let Err(missing) = drain(&cast.ground, &shops, written.len()).await {
        cast.complaints.push(format!("not settled after {DRAIN:?}: {missing}"));
    }
    cast.look();
    let (drained, end, stalls) = (peace.elapsed(), unix_seconds(), heart::stalls(from));
    Traces { drained, end, stalls, ..gather(cast, &shops, &customers, written).await }
}

async fn write(customer: &Customer, letters: &[Duration], start: Instant) -> Vec<Written> {
    let mut written = Vec::new();
    for (count, at) in letters.iter().enumerate() {
        tokio::time::sleep_until(start + *at).await;
        let text = format!("{count} de {}", customer.phone());
        written.push(Written::echoed(customer.phone(), customer.write(&text).await, &text));
    }
    written
}

/// Waits until nothing more can happen to what was sent; says what is missing if that takes too long.
async fn drain(ground: &Ground, shops: &[Shop], count: usize) -> Result<(), String> {
    let end = Instant::now() + DRAIN;
    let streams = ground.streams().await;
    let simulator = &ground.stage.simulator;
    let mut asked_again = Instant::now();
    loop {
        let unreceived = simulator.unreceived().await;
        // Receipts that were lost with their process: WhatsApp hands those messages over again, sooner or later.
        if unreceived > 0 && asked_again.elapsed() > Duration::from_secs(5) {
            for shop in shops {
                simulator.shop_fault(shop, "redeliver_unacked").await;
            }
            asked_again = Instant::now();
        }
        let mut left = match unreceived {
            0 => Ok(()),
            some => Err(format!("{some} messages not received by an edge")),
        };
        for shop in shops {
            if left.is_ok() {
                left = streams.clone().of_account(&shop.name).left().await;
            }
            if left.is_ok() && !simulator.shop_is_online(shop).await {
                left = Err(format!("nobody is online for {}", shop.name));
            }
        }
        let missing = match left {
            Ok(()) => {
                let stored = streams.messages().await.len();
                let lost = format!("{count} written, {stored} stored, none on the way");
                return if stored < count { Err(lost) } else { Ok(()) };
            }
            Err(missing) => missing,
        };
        if Instant::now() > end {
            return Err(missing);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn gather(cast: Cast, shops: &[Shop], customers: &[Customer], written: Vec<Written>) -> Traces {
    let stage = &cast.ground.stage;
    let streams = cast.ground.streams().await;
    let (mut inboxes, mut sent, mut visits) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for customer in customers {
        inboxes.insert(customer.phone().to_owned(), customer.inbox().await);
        sent.extend(customer.sent().await);
    }
    for shop in shops {
        visits.insert(shop.name.clone(), stage.simulator.visits_of(shop).await);
    }
    let evidence = Evidence {
        messages: streams.messages().await,
        outcomes: streams.outcomes().await,
        calls: stage.backend.calls().await,
        inboxes,
    };
    Traces {
        written,
        evidence,
        sent,
        dead_letters: streams.dead_letters().await,
        visits,
        lives: cast.all_lives(),
        keys_used_twice: stage.simulator.counted("keys_used_twice").await,
        undecryptable: stage.simulator.counted("undecryptable").await,
        stalls: Vec::new(),
        end: 0.0,
        drained: Duration::ZERO,
        dir: stage.dir().to_owned(),
        done: cast.done,
        blows: cast.blows,
        complaints: cast.complaints,
    }
}
