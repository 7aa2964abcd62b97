//! NATS: connect, provision or verify, append with compare-and-set, read, pull.
//!
//! The only module that names `async_nats`. Each operation returns what is *known* afterwards: a publish was stored,
//! was refused, or its result is unknown. The callers' guarantees depend on never mixing the last two.

pub mod access;
mod append;
mod batch;
mod capacity;
mod claim;
mod clock;
mod connect;
mod described;
pub mod embedded;
mod gone;
mod isolation;
mod last_of_many;
mod object_read;
mod objects;
mod opt_out;
mod passing;
pub mod permissions;
pub mod pool;
mod pull;
mod read;
mod recall;
mod refusals;
mod requests;
mod survey;
mod takeover;
pub mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use tokio_util::sync::CancellationToken;

use crate::task::Task;
pub use access::{Access, AccessError};
pub use append::{AppendError, Appended, Record};
pub use batch::Start;
pub use capacity::Full;
pub use claim::Claim;
pub use clock::StreamClock;
pub use connect::{ConnectError, Settings};
pub use described::{Described, Unreadable};
pub use gone::{Gone, StreamState};
pub use last_of_many::Last;
pub use object_read::StoredObject;
pub use objects::{Object, ObjectError};
pub use opt_out::StoredOptOut;
pub use passing::Hearsay;
pub use pull::{Delivery, EXPIRES as PULL_EXPIRES};
pub use read::{ConsumerState, ReadError, Stored, Wakes};

pub use requests::{Answers, AskError, Courtesy, Question, Questions};
pub use survey::{JetStream, Lack};
pub use takeover::{ChangeError, Of, StoredTakeover};

/// How long one request to the server may take before it is asked again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to the bus. Cheap to clone; all clones share one connection.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Arc<async_nats::Client>,
    jetstream: jetstream::Context,
    /// What the subjects of JetStream's API begin with: `$JS.API`, or `$JS.<domain>.API`.
    api: Arc<str>,
    /// What nats-server does not allow this user.
    refusals: refusals::Refusals,
    /// The streams that are full.
    capacity: capacity::Capacity,
    /// Whether the node that this is connected to answers.
    isolation: isolation::Isolation,
    /// Cancelled when the connection can never work again (a server too old after a fail-over).
    doomed: CancellationToken,
    /// Checks each server that the connection is made to. Ends with the last clone.
    _watch: Arc<Task<()>>,
}

impl Bus {
    /// Is nats-server connected at this moment?
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Returns when this program must not go on with this bus.
    pub async fn doomed(&self) {
        self.doomed.cancelled().await;
    }

    /// Can messages be stored in `stream` now? Asks nats-server, for at most one second.
    pub async fn is_writable(&self, stream: &str) -> bool {
        let info = self.stream_info(stream);
        self.is_connected() && matches!(tokio::time::timeout(Duration::from_secs(1), info).await, Ok(Ok(_)))
    }

    /// Sends everything that was written to nats-server, within `bound`.
    pub async fn flush(&self, bound: Duration) {
        // An error means that the connection is gone. Unacknowledged messages are delivered again.
        let _ = tokio::time::timeout(bound, self.client.flush()).await;
    }
}
