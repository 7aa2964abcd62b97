//! The machine's own heartbeat: how long it stalled, and when. A busy machine is no broken promise.
//!
//! A beat is a short sleep and a round trip over loopback, in the test program itself. What it takes longer
//! than it should, the machine stood still. A promise about time is measured by a [`Watch`]: the stalls
//! meanwhile are added to what is allowed.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{PATIENCE, eventually};

/// From beat to beat.
const BEAT: Duration = Duration::from_millis(5);
/// A timer's own coarseness, and the trip: on an idle machine a beat is not later than this.
const USUAL: Duration = Duration::from_millis(3);

/// The machine stood still.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// When the beat was due, in unix seconds.
    pub from: f64,
    /// When it came.
    pub to: f64,
}

static STALLS: Mutex<Vec<Stall>> = Mutex::new(Vec::new());
static BEATS: AtomicU64 = AtomicU64::new(0);

/// Beats until the end of the program.
pub async fn beat() {
    if let Err(error) = beats().await {
        panic!("the heartbeat has no loopback: {error}");
    }
}

/// What was seen since `from`.
pub fn stalls(from: f64) -> Vec<Stall> {
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    stalls.iter().copied().filter(|stall| stall.to > from).collect()
}

/// For how many seconds between `from` and `to` the machine stood still.
pub fn stalled(stalls: &[Stall], from: f64, to: f64) -> f64 {
    stalls.iter().map(|stall| (stall.to.min(to) - stall.from.max(from)).max(0.0)).sum()
}

async fn beats() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut here = TcpStream::connect(listener.local_addr()?).await?;
    let (mut there, _) = listener.accept().await?;
    tokio::spawn(async move {
        while let Ok(byte) = there.read_u8().await
            && there.write_u8(byte).await.is_ok()
        {}
    });
    loop {
        let began = Instant::now();
        tokio::time::sleep(BEAT).await;
        here.write_u8(0).await?;
        here.read_u8().await?;
        let late = began.elapsed().saturating_sub(BEAT);
        if late > USUAL {
            let to = unix_seconds();
            let stall = Stall { from: to - late.as_secs_f64(), to };
            STALLS.lock().unwrap_or_else(PoisonError::into_inner).push(stall);
        }
        BEATS.fetch_add(1, Ordering::Release);
    }
}

/// Takes the time of something that is promised to be quick.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    from: f64,
}

impl Watch {
    /// From now on.
    pub fn start() -> Self {
        static BEATING: Once = Once::new();
        // On a thread of its own: the runtime of a test ends with the test.
        BEATING.call_once(|| {
            std::thread::spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime for the heartbeat").block_on(beat());
            });
        });
        Self { began: Instant::now(), from: unix_seconds() }
    }

    /// Until now.
    pub async fn took(&self) -> Took {
        let (in_all, to) = (self.began.elapsed(), unix_seconds());
        // How late the beat is that is due now is known when it has come.
        let beats = BEATS.load(Ordering::Acquire);
        eventually("a heartbeat", PATIENCE, async || {
            if BEATS.load(Ordering::Acquire) > beats { Ok(()) } else { Err("none".to_owned()) }
        })
        .await;
        let stalled = Duration::from_secs_f64(stalled(&stalls(self.from), self.from, to));
        Took { in_all, stalled: stalled.min(in_all) }
    }

    /// Panics if it took longer until now than is promised, and the machine's stalls are not the reason.
    pub async fn within(&self, promised: Duration, what: &str) {
        let took = self.took().await;
        assert!(took.own() < promised, "{what} is promised within {promised:?}, and took {took}");
    }
}

/// How long something took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Took {
    /// In all.
    pub in_all: Duration,
    /// For how long of that the machine stood still.
    pub stalled: Duration,
}

impl Took {
    /// What is not the machine's.
    pub fn own(self) -> Duration {
        self.in_all - self.stalled
    }
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} (machine stalled {:.2?})", self.in_all, self.stalled)
    }
}

/// The wall clock, as all traces have it.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
