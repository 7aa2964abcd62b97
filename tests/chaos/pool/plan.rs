//! What is going to happen in a round of a pool. Pure; all of it follows from the seed.

use std::fmt;
use std::time::Duration;

use crate::random::Random;

/// So many edges at the beginning.
pub const EDGES: usize = 3;
/// So many at most: others join.
pub const SLOTS: usize = 5;
/// So many accounts.
pub const ACCOUNTS: usize = 12;
/// So many forwarders.
pub const FORWARDERS: usize = 2;
/// For how long things break.
pub const LENGTH: Duration = Duration::from_secs(70);
/// The lease's term: who is away for longer has lost its accounts.
pub const TERM: Duration = Duration::from_secs(30);

/// Something that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL of the edge in this slot.
    Kill(usize),
    /// SIGTERM.
    Stop(usize),
    /// SIGSTOP, for longer than the lease's term.
    Freeze(usize),
    /// SIGCONT.
    Thaw(usize),
    /// A new edge.
    Start(usize),
    /// Nothing gets from the edge to nats-server any more, or back. The connections seem to stay.
    CutBus(usize),
    /// Until then.
    MendBus(usize),
    /// The same between the edge and WhatsApp.
    CutWhatsApp(usize),
    /// Until then.
    MendWhatsApp(usize),
    /// WhatsApp closes the connections of one account.
    Drop(usize),
    /// SIGKILL of a forwarder.
    KillForwarder(usize),
    /// A new one.
    StartForwarder(usize),
    /// SIGKILL of nats-server, of a leader if there are several.
    KillServer,
    /// It is there again.
    StartServer,
}

impl Deed {
    /// Its name in reports, if it is something bad.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Kill(_) => "edge kill -9",
            Self::Stop(_) => "edge SIGTERM",
            Self::Freeze(_) => "edge SIGSTOP",
            Self::CutBus(_) => "edge cut off from nats-server",
            Self::CutWhatsApp(_) => "edge cut off from WhatsApp",
            Self::Drop(_) => "whatsapp drops an account",
            Self::KillForwarder(_) => "forwarder kill -9",
            Self::KillServer => "nats-server kill -9",
            Self::Thaw(_)
            | Self::Start(_)
            | Self::MendBus(_)
            | Self::MendWhatsApp(_)
            | Self::StartForwarder(_)
            | Self::StartServer => return None,
        })
    }
}

/// A deed and its time.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub deed: Deed,
}

/// A round.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where all of it comes from.
    pub seed: u64,
    /// nats-server is three nodes.
    pub cluster: bool,
    /// The account of each customer.
    pub customers: Vec<usize>,
    /// When each customer writes.
    pub letters: Vec<Vec<Duration>>,
    /// By time.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Draws a round.
    pub fn draw(seed: u64, cluster: bool) -> Self {
        let mut random = Random::new(seed ^ 0x706f_6f6c);
        let mut customers = Vec::new();
        for account in 0..ACCOUNTS {
            customers.extend(std::iter::repeat_n(account, if random.percent(50) { 2 } else { 1 }));
        }
        let letters = customers.iter().map(|_| letters(&mut random)).collect();
        let mut steps = edges(&mut random, cluster);
        steps.extend(others(&mut random, cluster));
        steps.sort_by_key(|step| step.at);
        Self { seed, cluster, customers, letters, steps }
    }
}

fn letters(random: &mut Random) -> Vec<Duration> {
    let (mut letters, mut at) = (Vec::new(), random.millis(200, 6_000));
    while at < LENGTH {
        letters.push(at);
        // Now and then a few in a row: those have an order to keep.
        at += if random.percent(25) { random.millis(20, 400) } else { random.millis(2_000, 11_000) };
    }
    letters
}

/// What happens to edges. One of them is always well, so that there is somebody who can take over.
fn edges(random: &mut Random, cluster: bool) -> Vec<Step> {
    // Until when each slot has enough to do with what was done to it. Who is not there yet is not for that.
    let mut busy = [Duration::ZERO; SLOTS];
    busy[EDGES..].fill(Duration::MAX);
    let mut steps = Vec::new();
    let mut at = random.millis(2_000, 6_000);
    while at < LENGTH {
        let well: Vec<usize> = (0..SLOTS).filter(|slot| busy[*slot] <= at).collect();
        let missing: Vec<usize> = (0..SLOTS).filter(|slot| busy[*slot] == Duration::MAX).collect();
        let mut push = |after: Duration, deed| steps.push(Step { at: at + after, deed });
        if well.len() < 2 || (random.percent(20) && !missing.is_empty()) {
            if let Some(slot) = random.pick(&missing) {
                push(Duration::ZERO, Deed::Start(slot));
                busy[slot] = at + Duration::from_secs(4);
            }
        } else if let Some(slot) = random.pick(&well) {
            let zero = Duration::ZERO;
            let (begin, end, lasts) = match random.between(1, 100) {
                1..=30 => (Deed::Kill(slot), Some(Deed::Start(slot)), random.millis(100, 15_000)),
                31..=55 => (Deed::Freeze(slot), Some(Deed::Thaw(slot)), TERM + random.millis(2_000, 12_000)),
                56..=70 if !cluster => {
                    (Deed::CutBus(slot), Some(Deed::MendBus(slot)), random.millis(3_000, 45_000))
                }
                71..=85 => {
                    (Deed::CutWhatsApp(slot), Some(Deed::MendWhatsApp(slot)), random.millis(2_000, 20_000))
                }
                _ => (Deed::Stop(slot), None, zero),
            };
            push(zero, begin);
            busy[slot] = match end {
                Some(end) => {
                    push(lasts, end);
                    at + lasts + Duration::from_secs(3)
                }
                None => Duration::MAX,
            };
        }
        at += random.millis(5_000, 14_000);
    }
    steps
}

/// Draws a deed; with its end, and how long it lasts, if it does.
type Draw<'a> = &'a mut dyn FnMut(&mut Random) -> (Deed, Option<(Deed, Duration)>);

/// What happens to forwarders, nats-server and connections to WhatsApp.
fn others(random: &mut Random, cluster: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut every = |random: &mut Random, pause: (u64, u64), draw: Draw<'_>| {
        let mut at = random.millis(pause.0 / 2, pause.1);
        while at < LENGTH {
            let (begin, end) = draw(random);
            steps.push(Step { at, deed: begin });
            if let Some((end, lasts)) = end {
                steps.push(Step { at: at + lasts, deed: end });
                at += lasts;
            }
            at += random.millis(pause.0, pause.1);
        }
    };
    every(random, (4_000, 12_000), &mut |random| {
        let slot = usize::try_from(random.between(1, FORWARDERS as u64)).unwrap_or(1) - 1;
        (Deed::KillForwarder(slot), Some((Deed::StartForwarder(slot), random.millis(50, 2_000))))
    });
    every(random, (15_000, 40_000), &mut |random| {
        (Deed::KillServer, Some((Deed::StartServer, random.millis(50, if cluster { 6_000 } else { 2_500 }))))
    });
    every(random, (6_000, 25_000), &mut |random| {
        (Deed::Drop(usize::try_from(random.between(1, ACCOUNTS as u64)).unwrap_or(1) - 1), None)
    });
    steps
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.letters.iter().map(Vec::len).sum();
        writeln!(
            f,
            "pool, seed {}: {ACCOUNTS} accounts, {} customers, {count} messages, {EDGES} edges at first{}",
            self.seed,
            self.customers.len(),
            if self.cluster { ", three nodes" } else { "" },
        )?;
        for step in &self.steps {
            writeln!(f, "{:7.3} {:?}", step.at.as_secs_f64(), step.deed)?;
        }
        Ok(())
    }
}
