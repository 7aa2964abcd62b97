//! One run: a bus, a backend, messages that are stored first, and forwarders that answer them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::bus::{Bus, PATIENCE};
use crate::child::{Child, Core};
use crate::contender::{Contender, Starter};
use crate::disturb::{Disturbance, Watch};
use crate::judge::{Outcome, Verdict, judge};
use crate::load::{Pattern, Writer, Written};
use crate::memory_limit::MemoryLimit;
use crate::stub::Stub;
use crate::wire::{ALL_OUTCOMES, STREAM_OUT};

/// How long a run may go without anything that is delivered or acknowledged.
const STALLED: Duration = Duration::from_secs(90);

/// What is to be answered.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// How many chats.
    pub chats: u32,
    /// How many messages each of them has.
    pub each: u32,
    /// Who writes when.
    pub pattern: Pattern,
    /// How long the backend takes.
    pub backend: Duration,
    /// How many forwarders share the work.
    pub forwarders: usize,
    /// What a forwarder's memory is limited to, in bytes.
    pub memory: Option<u64>,
}

/// What a run gave.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Messages answered a second, from the first call to the last outcome that the server stored.
    pub per_second: f64,
    /// Processor milliseconds of all forwarders for 1,000 messages, from the first call on.
    pub cpu_ms: f64,
    /// The most memory that a forwarder ever had, in MB.
    pub peak_mb: f64,
    /// How long it took in seconds.
    pub seconds: f64,
    /// From a forwarder's start to its first call, in seconds.
    pub to_first_call: f64,
    /// Deliveries over one for each message.
    pub redelivered: u64,
    /// Until a message is known to be stored, on the idle bus.
    pub round_trip: Duration,
    /// How long the backend took for a call, from its last byte to the answer: timers are late by up to a millisecond.
    pub backend: Duration,
    /// What is wrong.
    pub verdict: Verdict,
    /// What others did meanwhile.
    pub disturbed: Disturbance,
}

/// Bus and backend of one run.
#[derive(Debug)]
pub struct Site {
    /// The bus.
    pub bus: Bus,
    /// The backend.
    pub stub: Stub,
    /// Everything on disk. Last, so that all above has ended when it is removed.
    pub dir: TempDir,
}

impl Site {
    /// Starts both.
    pub async fn set(starter: &Starter, backend: Duration) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let core = if starter.core == Core::Any { Core::Any } else { Core::Rest };
        let bus = Bus::start(dir.path(), core, &starter.connector).await?;
        Ok(Self { bus, stub: Stub::start(backend).await?, dir })
    }

    /// Starts a forwarder.
    pub fn start(&self, starter: &Starter, contender: &Contender) -> Result<Child> {
        starter.start(contender, &self.bus, &self.stub, self.dir.path())
    }

    /// All outcomes from this place on.
    pub async fn outcomes(&self, first: u64) -> Result<Vec<Outcome>> {
        let stored = self.bus.read(STREAM_OUT, ALL_OUTCOMES, first).await?;
        Ok(stored.iter().map(Outcome::read).collect())
    }

    /// Judges all outcomes from `first` on and all calls.
    pub async fn judge(&self, written: &[Written], first: u64) -> Result<(Verdict, Vec<Outcome>)> {
        let outcomes = self.outcomes(first).await?;
        Ok((judge(written, &outcomes, &self.stub.calls()), outcomes))
    }

    /// Waits until all that is stored is acknowledged. What has no outcome then never gets one.
    pub async fn settled(&self, forwarders: &mut [Child]) -> Result<()> {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let consumer = self.bus.consumer().await?;
            if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
                return Ok(());
            }
            let done = consumer.delivered.consumer_sequence + consumer.ack_floor.consumer_sequence;
            if done > seen {
                (seen, since) = (done, Instant::now());
            }
            for forwarder in &mut *forwarders {
                forwarder.still_runs()?;
            }
            if since.elapsed() > STALLED {
                let words = forwarders.first().map(Child::last_words).unwrap_or_default();
                let (waiting, in_hand) = (consumer.num_pending, consumer.num_ack_pending);
                bail!("{waiting} messages wait, {in_hand} are in hand, and nothing happens:\n{words}");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// Stores all messages, starts the forwarders, and waits until all is answered.
pub async fn drained(starter: &Starter, contender: &Contender, orders: &Orders) -> Result<Measured> {
    let site = Site::set(starter, orders.backend).await?;
    let round_trip = site.bus.round_trip().await?;
    let mut writer = Writer::new(&site.bus).await?;
    writer.write(orders.chats, orders.each, orders.pattern).await?;
    answered(&site, starter, contender, orders, &writer.written, round_trip).await
}

/// The same on a bus that has the messages.
pub async fn answered(
    site: &Site,
    starter: &Starter,
    contender: &Contender,
    orders: &Orders,
    written: &[Written],
    round_trip: Duration,
) -> Result<Measured> {
    let (last, _) = site.bus.state(STREAM_OUT).await?;
    site.stub.forget();
    let delivered_before = site.bus.consumer().await?.delivered.consumer_sequence;
    let watch = Watch::begin();
    let began = Instant::now();
    // Before what it limits, so that it goes after it.
    let limit;
    let mut forwarders = Vec::new();
    for _ in 0..orders.forwarders {
        forwarders.push(site.start(starter, contender)?);
    }
    limit = orders.memory.map(|bytes| MemoryLimit::set(bytes, &forwarders)).transpose()?;
    let first = tokio::time::timeout(PATIENCE, site.stub.first_call()).await;
    for forwarder in &mut forwarders {
        forwarder.still_runs()?;
    }
    first.context("nothing is asked")?;
    let to_first_call = began.elapsed().as_secs_f64();
    let cpu = |forwarders: &[Child]| forwarders.iter().map(Child::cpu).sum::<Duration>();
    let cpu_before = cpu(&forwarders);
    let count = written.len();
    site.settled(&mut forwarders).await?;
    let used = cpu(&forwarders).saturating_sub(cpu_before);
    let disturbed = watch.end();
    let peak_mb = forwarders.iter().map(|one| crate::usage::peak_mb(one.pid())).fold(0.0, f64::max);
    let delivered = site.bus.consumer().await?.delivered.consumer_sequence;
    drop(forwarders);
    drop(limit);
    let (verdict, outcomes) = site.judge(written, last + 1).await?;
    let calls = site.stub.calls();
    let began = calls.first().map_or(0, |call| call.began);
    let took: i64 = calls.iter().map(|call| call.ended - call.began).filter(|took| *took > 0).sum();
    let ended = outcomes.last().map_or(0, |outcome| outcome.at);
    ensure!(began > 0 && ended > began, "a run without a beginning or an end");
    let seconds = (ended - began) as f64 / 1e9;
    Ok(Measured {
        per_second: count as f64 / seconds,
        cpu_ms: used.as_secs_f64() * 1e6 / count as f64,
        peak_mb,
        seconds,
        to_first_call,
        redelivered: delivered.saturating_sub(delivered_before + u64::try_from(count)?),
        round_trip,
        backend: Duration::from_nanos(u64::try_from(took / i64::try_from(calls.len())?.max(1)).unwrap_or(0)),
        verdict,
        disturbed,
    })
}
