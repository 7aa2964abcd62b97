//! What passes the hook by: messages that the owner's phone hands over, word of those that nobody can read, and missed
//! calls.
//!
//! WhatsApp counts all of them as received already, so nothing brings them again. They are stored at once, and tried again
//! while the bus is away. A process that dies before that loses them.
//!
//! A placeholder has an id of its own. So the message itself, should it come, is stored beside it and answered.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use futures::future;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::hook::Inbound;
use crate::edge::session::{Aside, Connection, Resends};

/// How many chats are served at once. Within a chat, order is kept.
const LANES: usize = 16;

/// How many wait in each lane.
const ROOM: usize = 64;

/// Stores what passes the hook by.
#[derive(Debug)]
pub(crate) struct Latecomers {
    /// What passes the hook by.
    pub heard: mpsc::Receiver<Aside>,
    /// Stores it.
    pub inbound: Inbound,
    /// The messages that were waited for in vain.
    pub resends: Resends,
    /// Where the client is.
    pub connection: Connection,
    /// Ends the work.
    pub stop: CancellationToken,
}

impl Latecomers {
    /// Ends with the session, or with `stop`.
    pub(crate) async fn run(self) {
        let Self { heard, inbound, resends, connection, stop } = self;
        let (lanes, queues): (Vec<_>, Vec<_>) = (0..LANES).map(|_| mpsc::channel(ROOM)).unzip();
        let workers = queues.into_iter().map(|queue| work(queue, &inbound, &connection));
        let all = future::join(hand_out(heard, &resends, lanes), future::join_all(workers));
        stop.run_until_cancelled(all).await;
    }
}

/// Ends when nothing can come any more.
async fn hand_out(mut heard: mpsc::Receiver<Aside>, resends: &Resends, lanes: Vec<mpsc::Sender<Aside>>) {
    loop {
        let aside = tokio::select! {
            aside = heard.recv() => aside,
            aside = resends.abandoned() => Some(aside),
        };
        let Some(aside) = aside else { return };
        let mut hasher = DefaultHasher::new();
        aside.chat().hash(&mut hasher);
        let number = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
        if let Some(lane) = lanes.get(number) {
            // The workers end after this.
            let _ = lane.send(aside).await;
        }
    }
}

async fn work(mut queue: mpsc::Receiver<Aside>, inbound: &Inbound, connection: &Connection) {
    while let Some(aside) = queue.recv().await {
        let client = connection.any_client().await;
        match aside {
            Aside::Content(message) => Box::pin(inbound.late(&client, &message)).await,
            Aside::Missing { info, kind } => inbound.placeholder(&client, &info, kind).await,
            Aside::Group(changed) => inbound.group_change(&client, changed).await,
            Aside::Call(missed) => inbound.missed_call(&client, &missed.info, missed.video).await,
        }
    }
}
