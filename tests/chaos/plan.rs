//! What is going to happen in a round: who writes when, and what breaks when. Pure; all of it follows
//! from the seed.

use std::fmt;
use std::time::Duration;

use crate::letters::{self, Letter, Request};
use crate::random::Random;
use crate::taken::{self, Story};

/// So many forwarders at most.
pub const SLOTS: usize = 8;
/// The ack waits of a round; a frozen process sleeps for longer than this.
pub const ACK_WAIT: Duration = Duration::from_secs(3);
/// After the loss of a stream's leader everything has to flow again within this time.
pub const LEADER_LOSS: Duration = Duration::from_secs(10);
/// In half of the rounds, texts of one person are joined that come within this time of each other.
pub const JOIN_WITHIN: Duration = Duration::from_millis(600);
/// And within this time in all.
pub const JOIN_MAX: Duration = Duration::from_millis(1_500);
/// How long it takes from one fault to the next.
const PAUSE_MS: (u64, u64) = (250, 1_400);

/// What may break in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Menu {
    /// Everything.
    All,
    /// Forwarders come and go by SIGTERM; nothing breaks.
    Scale,
    /// Forwarders are killed.
    Kills,
    /// The edge is killed, stopped and frozen.
    Edge,
    /// WhatsApp drops connections, repeats itself and mutes acks and receipts.
    WhatsApp,
    /// nats-server is killed and frozen; of a cluster, always a leader.
    Bus,
    /// The backend is killed and frozen, and the way to it breaks.
    Backend,
}

/// How the way to the backend is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens.
    Refuse,
    /// The connection is reset before the backend sees the call.
    Reset,
    /// The connection is reset once the backend has answered: the answer is lost.
    Lose,
    /// No answer for as long as the fault lasts.
    Hang,
    /// Half of the backend's answer, then the end.
    Half,
    /// A 200 that is not the contract's.
    Garbage,
    /// This status; the backend does not see the call.
    Status(u16),
    /// The backend's answer is replaced by this status.
    StatusAfter(u16),
    /// So many milliseconds more.
    Slow(u64),
}

/// A process of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The one edge.
    Edge,
    /// The forwarder in this slot.
    Forwarder(usize),
}

/// Something that is done to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL.
    Kill(Who),
    /// SIGTERM.
    Stop(Who),
    /// SIGSTOP.
    Freeze(Who),
    /// SIGCONT.
    Thaw(Who),
    /// A new process in the place of one that is gone.
    Start(Who),
    /// SIGKILL of nats-server.
    KillBus,
    /// SIGSTOP of nats-server.
    FreezeBus,
    /// SIGKILL of the backend.
    KillBackend,
    /// SIGSTOP of the backend.
    FreezeBackend,
    /// The backend again: a new one if it was killed, as it was if it was frozen.
    StartBackend,
    /// nats-server again: with its disk if it was killed, as it was if it was frozen.
    StartBus,
    /// The way to the backend breaks.
    Break(Fault),
    /// The way to the backend is well again.
    Mend,
    /// A fault of the WhatsApp simulator, for so many milliseconds; once if there is no time.
    WhatsApp(&'static str, Option<u64>),
}

impl Deed {
    /// Its name in reports, if it is something bad.
    pub fn name(self) -> Option<String> {
        let who = |who| match who {
            Who::Edge => "edge",
            Who::Forwarder(_) => "forwarder",
        };
        Some(match self {
            Self::Kill(victim) => format!("{} kill -9", who(victim)),
            Self::Stop(victim) => format!("{} SIGTERM", who(victim)),
            Self::Freeze(victim) => format!("{} SIGSTOP", who(victim)),
            Self::KillBus => "nats-server kill -9".to_owned(),
            Self::FreezeBus => "nats-server SIGSTOP".to_owned(),
            Self::KillBackend => "backend kill -9".to_owned(),
            Self::FreezeBackend => "backend SIGSTOP".to_owned(),
            Self::Break(Fault::Status(code)) => format!("backend {code}"),
            Self::Break(Fault::StatusAfter(code)) => format!("backend {code} after its answer"),
            Self::Break(fault) => {
                let fault = format!("{fault:?}").to_lowercase();
                format!("backend {}", fault.split('(').next().unwrap_or_default())
            }
            Self::WhatsApp(kind, _) => format!("whatsapp {kind}"),
            Self::Thaw(_) | Self::Start(_) | Self::StartBus | Self::StartBackend | Self::Mend => {
                return None;
            }
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
    /// What may break.
    pub menu: Menu,
    /// The bus is a cluster.
    pub cluster: bool,
    /// Texts in a row are joined. In every other seed.
    pub joins: bool,
    /// A person takes over some chats.
    pub taken: Vec<Story>,
    /// How many customers there are.
    pub customers: usize,
    /// How many forwarders there are at first.
    pub forwarders: usize,
    /// The backend's delay in milliseconds, from and to.
    pub delay_ms: (u64, u64),
    /// By time.
    pub letters: Vec<Letter>,
    /// What other services want to have sent, by time.
    pub requests: Vec<Request>,
    /// By time.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Draws a round of this length.
    pub fn draw(seed: u64, length: Duration, menu: Menu, cluster: bool) -> Self {
        let mut random = Random::new(seed);
        let customers = usize::try_from(random.between(8, 16)).unwrap_or(8);
        let slowest = random.between(50, 600);
        let forwarders =
            if menu == Menu::Scale { 3 } else { usize::try_from(random.between(1, 8)).unwrap_or(1) };
        let requests = letters::requests(seed, length, customers);
        Self {
            seed,
            menu,
            cluster,
            // Where it is promised when a call is made, nothing waits for what may come.
            joins: seed.is_multiple_of(2) && !matches!(menu, Menu::Scale | Menu::Kills),
            taken: if matches!(menu, Menu::Scale | Menu::Kills) {
                Vec::new()
            } else {
                taken::stories(seed, length)
            },
            customers,
            requests,
            forwarders,
            delay_ms: (random.between(0, 20), slowest),
            letters: letters::letters(&mut random, seed, length, customers),
            steps: Drawing::new(&mut random, length, (menu, cluster), forwarders).steps(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} customers, {} messages{}, {} requests, {} forwarders at first, backend {}-{} ms",
            self.seed,
            self.customers,
            self.letters.len(),
            if self.joins { " (joined)" } else { "" },
            self.requests.len(),
            self.forwarders,
            self.delay_ms.0,
            self.delay_ms.1
        )?;
        for step in &self.steps {
            writeln!(f, "{:7.3} {:?}", step.at.as_secs_f64(), step.deed)?;
        }
        for letter in &self.letters {
            writeln!(f, "{:7.3} customer {} {:?}", letter.at.as_secs_f64(), letter.customer, letter.kind)?;
        }
        for asked in &self.requests {
            writeln!(f, "{:7.3} for {} {:?}", asked.at.as_secs_f64(), asked.customer, asked.wish)?;
        }
        Ok(())
    }
}

/// Draws the steps; knows who is there to be broken.
struct Drawing<'a> {
    random: &'a mut Random,
    length: Duration,
    menu: Menu,
    cluster: bool,
    /// Until when each part has enough to do with what was done to it.
    edge: Duration,
    bus: Duration,
    backend: Duration,
    whatsapp: Duration,
    slots: [Duration; SLOTS],
    up: [bool; SLOTS],
    steps: Vec<Step>,
}

impl<'a> Drawing<'a> {
    fn new(
        random: &'a mut Random,
        length: Duration,
        (menu, cluster): (Menu, bool),
        forwarders: usize,
    ) -> Self {
        let zero = Duration::ZERO;
        let mut up = [false; SLOTS];
        up[..forwarders].fill(true);
        Self {
            random,
            length,
            menu,
            cluster,
            edge: zero,
            bus: zero,
            backend: zero,
            whatsapp: zero,
            slots: [zero; SLOTS],
            up,
            steps: Vec::new(),
        }
    }

    fn steps(mut self) -> Vec<Step> {
        let mut at = self.random.millis(500, 1_500);
        while at < self.length {
            match self.menu {
                Menu::Scale => self.scale(at),
                Menu::Kills => self.forwarder(at, &[1]),
                Menu::Bus => self.bus(at),
                Menu::Backend => self.backend(at),
                Menu::Edge => self.edge(at),
                Menu::WhatsApp => self.whatsapp(at),
                Menu::All => self.anything(at),
            }
            at += self.random.millis(PAUSE_MS.0, PAUSE_MS.1);
        }
        self.steps.sort_by_key(|step| step.at);
        self.steps
    }

    /// If a part is busy with what was done to it before, it is another one's turn.
    fn anything(&mut self, at: Duration) {
        for _ in 0..4 {
            let before = self.steps.len();
            match self.random.between(1, 100) {
                1..=30 => self.forwarder(at, &[1, 2, 3]),
                31..=50 => self.scale(at),
                51..=65 => self.edge(at),
                66..=72 => self.bus(at),
                73..=88 => self.backend(at),
                _ => self.whatsapp(at),
            }
            if self.steps.len() > before {
                return;
            }
        }
    }

    fn push(&mut self, at: Duration, deed: Deed) {
        self.steps.push(Step { at, deed });
    }

    /// Something happens to a process; returns when it has got over it.
    fn process(&mut self, at: Duration, who: Who, ways: &[u64]) -> Duration {
        let way = self.random.pick(ways).unwrap_or(1);
        let back = match way {
            1 => {
                self.push(at, Deed::Kill(who));
                at + self.random.millis(50, 1_500)
            }
            2 => {
                self.push(at, Deed::Stop(who));
                at + self.random.millis(50, 1_500)
            }
            _ => {
                self.push(at, Deed::Freeze(who));
                let back = at + ACK_WAIT + self.random.millis(300, 3_000);
                self.push(back, Deed::Thaw(who));
                return back + Duration::from_millis(500);
            }
        };
        self.push(back, Deed::Start(who));
        back + Duration::from_millis(500)
    }

    fn forwarder(&mut self, at: Duration, ways: &[u64]) {
        let there: Vec<usize> = (0..SLOTS).filter(|slot| self.up[*slot] && self.slots[*slot] <= at).collect();
        if let Some(slot) = self.random.pick(&there) {
            self.slots[slot] = self.process(at, Who::Forwarder(slot), ways);
        }
    }

    fn scale(&mut self, at: Duration) {
        let free: Vec<usize> = (0..SLOTS).filter(|slot| !self.up[*slot] && self.slots[*slot] <= at).collect();
        let there: Vec<usize> = (0..SLOTS).filter(|slot| self.up[*slot] && self.slots[*slot] <= at).collect();
        let add = there.len() < 2 || (self.random.percent(50) && !free.is_empty());
        let Some(slot) = self.random.pick(if add { &free } else { &there }) else { return };
        let who = Who::Forwarder(slot);
        self.push(at, if add { Deed::Start(who) } else { Deed::Stop(who) });
        self.up[slot] = add;
        self.slots[slot] = at + Duration::from_millis(700);
    }

    fn edge(&mut self, at: Duration) {
        if self.edge <= at {
            self.edge = self.process(at, Who::Edge, &[1, 2, 3]);
        }
    }

    fn bus(&mut self, at: Duration) {
        if self.bus <= at {
            let freeze = self.random.percent(30);
            let back = at + self.random.millis(20, if freeze { 4_000 } else { 2_500 });
            self.push(at, if freeze { Deed::FreezeBus } else { Deed::KillBus });
            self.push(back, Deed::StartBus);
            // Two losses of a leader that are near each other are hard, two that are not can be measured.
            let alone = self.menu == Menu::Bus && self.cluster && self.random.percent(60);
            let rest = if alone { LEADER_LOSS } else { Duration::from_secs(2) };
            self.bus = back + rest;
        }
    }

    fn backend(&mut self, at: Duration) {
        if self.backend > at {
            return;
        }
        if self.random.percent(25) {
            let freeze = self.random.percent(50);
            // Frozen for longer than a call may take, now and then.
            let back = at + self.random.millis(300, if freeze { 6_000 } else { 2_000 });
            self.push(at, if freeze { Deed::FreezeBackend } else { Deed::KillBackend });
            self.push(back, Deed::StartBackend);
            self.backend = back + Duration::from_millis(1_500);
            return;
        }
        let faults = [
            Fault::Refuse,
            Fault::Reset,
            Fault::Lose,
            Fault::Hang,
            Fault::Half,
            Fault::Garbage,
            Fault::Status(500),
            Fault::Status(503),
            Fault::Status(429),
            Fault::StatusAfter(500),
            Fault::Slow(1_500),
        ];
        let fault = self.random.pick(&faults).unwrap_or(Fault::Reset);
        let back = at + self.random.millis(300, 3_000);
        self.push(at, Deed::Break(fault));
        self.push(back, Deed::Mend);
        self.backend = back + Duration::from_millis(300);
    }

    fn whatsapp(&mut self, at: Duration) {
        if self.whatsapp > at {
            return;
        }
        let kinds = ["drop_connection", "redeliver_unacked", "mute_receipts", "mute_acks"];
        let Some(kind) = self.random.pick(&kinds) else { return };
        let lasting = kind.starts_with("mute") || (kind == "drop_connection" && self.random.percent(50));
        let time = lasting.then(|| self.random.between(300, 3_000));
        self.push(at, Deed::WhatsApp(kind, time));
        self.whatsapp = at + Duration::from_millis(time.unwrap_or(0) + 300);
        if kind == "mute_receipts" {
            // What was muted stays queued until the next connection.
            self.push(self.whatsapp, Deed::WhatsApp("drop_connection", None));
        }
    }
}
