//! The machine's own heartbeat: how long it stalled, and when. A busy machine is no broken promise.
//!
//! A beat is a short sleep and a round trip over loopback, in this program, through which all calls of the
//! backend go as well. What it takes longer than it should, the machine stood still.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::unix_seconds;

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
    }
}
