//! What is known of the groups: their names, and who may write in them.
//!
//! WhatsApp is asked once in a while. The hook takes what is known and never waits: what it misses is fetched beside it,
//! one group after the other. Who sends into a group waits for the answer, for a bounded time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::features::{GroupError, GroupParticipant};
use whatsapp_rust::wacore::types::message::AddressingMode;
use whatsapp_rust::{Client, IqError, Jid};

use super::connection::Connection;
use crate::recent::Recent;
use crate::telemetry::redact;

/// So many groups are remembered, or twice as many at the most. One takes about 200 bytes.
const REMEMBERED: usize = 1_000;
/// What is older is asked for again. Changes are heard of at once, unless this edge is away for long.
const GOOD_FOR: Duration = Duration::from_secs(1_800);
/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After a question without an answer, the group is not asked about again for so long.
const PAUSE: Duration = Duration::from_secs(60);
/// How many groups may wait to be asked about. One more is asked about at its next message.
const WAITING: usize = 256;
/// The longest name of a group that is kept, in characters. WhatsApp allows 100.
const SUBJECT: usize = 200;

/// A group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its name.
    pub subject: String,
    /// Only admins may write.
    pub announce: bool,
    /// The linked number is an admin.
    pub admin: bool,
    /// Its members are named by hidden ids.
    pub by_lid: bool,
}

impl Group {
    /// May the linked number write there?
    pub(crate) fn is_closed(&self) -> bool {
        self.announce && !self.admin
    }
}

/// Why a group is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// WhatsApp tells this number nothing of it, with this code: it is no member any more, or there is no such group.
    Refused(u16),
    /// There was no answer.
    Silent,
}

/// What was heard, and when.
type Heard = (Result<Group, Unknown>, Instant);

/// The groups of one term. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    known: Arc<Mutex<Recent<String, Heard>>>,
    wanted: mpsc::Sender<Jid>,
}

/// Asks for what the hook has missed.
#[derive(Debug)]
pub(crate) struct GroupAsker {
    groups: Groups,
    wanted: mpsc::Receiver<Jid>,
    connection: Connection,
    stop: CancellationToken,
}

impl Groups {
    /// Nothing is known yet.
    pub(crate) fn new(connection: Connection, stop: CancellationToken) -> (Self, GroupAsker) {
        let (sender, wanted) = mpsc::channel(WAITING);
        let known = Recent::new(REMEMBERED, GOOD_FOR, |_| false, Instant::now());
        let groups = Self { known: Arc::new(Mutex::new(known)), wanted: sender };
        (groups.clone(), GroupAsker { groups, wanted, connection, stop })
    }

    /// What is known of a group. What is not is asked for, and known later. Never waits.
    pub(crate) fn known(&self, group: &Jid) -> Option<Group> {
        match self.fresh(group) {
            Some(known) => known.ok(),
            None => {
                // If too many wait, it is asked for at the next message.
                let _ = self.wanted.try_send(group.clone());
                None
            }
        }
    }

    /// The group, as WhatsApp says; it is asked if that is not known.
    pub(crate) async fn ask(&self, client: &Client, group: &Jid) -> Result<Group, Unknown> {
        if let Some(known) = self.fresh(group) {
            return known;
        }
        let answer = match tokio::time::timeout(TIMEOUT, client.groups().get_metadata(group)).await {
            Ok(Ok(told)) => {
                let own = [client.pn(), client.lid()];
                let is_own = |jid: &Jid| {
                    own.iter().flatten().any(|own| own.user == jid.user && own.server == jid.server)
                };
                let is_us = |one: &&GroupParticipant| {
                    let names = [Some(&one.jid), one.phone_number.as_ref(), one.lid.as_ref()];
                    names.into_iter().flatten().any(is_own)
                };
                Ok(Group {
                    subject: told.subject.chars().take(SUBJECT).collect(),
                    announce: told.is_announcement,
                    admin: told.participants.iter().find(is_us).is_some_and(|one| one.is_admin()),
                    by_lid: told.addressing_mode == AddressingMode::Lid,
                })
            }
            Ok(Err(error)) => {
                tracing::debug!(error = redact::text(&error), "WhatsApp does not tell of a group");
                Err(refusal(&error))
            }
            Err(_elapsed) => Err(Unknown::Silent),
        };
        self.lock().insert(group.to_string(), (answer.clone(), Instant::now()), Instant::now());
        answer
    }

    /// Something of the group was changed.
    pub(super) fn changed(&self, group: &Jid) {
        self.lock().remove(&group.to_string());
    }

    /// What was heard of it not too long ago.
    fn fresh(&self, group: &Jid) -> Option<Result<Group, Unknown>> {
        let now = Instant::now();
        let mut known = self.lock();
        let (heard, at) = known.get(&group.to_string(), now)?;
        let lasts = if heard.is_ok() { GOOD_FOR } else { PAUSE };
        (now.saturating_duration_since(*at) < lasts).then(|| heard.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Recent<String, Heard>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(error: &GroupError) -> Unknown {
    match error {
        GroupError::Iq(IqError::ServerError { code, .. }) if is_final(*code) => Unknown::Refused(*code),
        _ => Unknown::Silent,
    }
}

/// Is this WhatsApp's last word on a group: not allowed, no member, not there? The rest is said for a moment.
pub(crate) fn is_final(code: u16) -> bool {
    matches!(code, 401 | 403 | 404 | 406)
}

impl GroupAsker {
    /// Asks, one group after the other, until `stop`.
    pub(crate) async fn run(self) {
        let Self { groups, mut wanted, connection, stop } = self;
        let work = async {
            while let Some(group) = wanted.recv().await {
                let client = connection.client().await;
                // What is not told now is asked for again at a later message.
                let _ = groups.ask(&client, &group).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_kept_for_a_while_and_a_change_is_forgotten_at_once() {
        let (_writer, connection, _news) = Connection::channel();
        let (groups, mut asker) = Groups::new(connection, CancellationToken::new());
        let (group, silent) = (Jid::group("120363"), Jid::group("120364"));
        assert_eq!(groups.known(&group), None);
        assert_eq!(asker.wanted.try_recv().ok(), Some(group.clone()), "it is asked for");
        let told = Group { subject: "Mesa".to_owned(), announce: true, ..Group::default() };
        assert!(told.is_closed() && !Group { admin: true, ..told.clone() }.is_closed());
        let now = Instant::now();
        groups.lock().insert(group.to_string(), (Ok(told.clone()), now), now);
        groups.lock().insert(silent.to_string(), (Err(Unknown::Silent), now), now);
        assert_eq!((groups.known(&group), groups.known(&silent)), (Some(told.clone()), None));
        assert!(asker.wanted.try_recv().is_err(), "nothing is asked for");
        tokio::time::advance(PAUSE).await;
        assert_eq!((groups.known(&group), groups.known(&silent)), (Some(told), None));
        assert_eq!(asker.wanted.try_recv().ok(), Some(silent));
        groups.changed(&group);
        assert_eq!(groups.known(&group), None);
        for (code, want) in [(403, Unknown::Refused(403)), (429, Unknown::Silent), (503, Unknown::Silent)] {
            let error = IqError::ServerError { code, text: String::new(), error_type: None, backoff: None };
            assert_eq!(refusal(&GroupError::Iq(error)), want);
        }
        // As many as wait, and one more.
        for _ in 0..=WAITING {
            assert_eq!(groups.known(&group), None);
        }
    }
}
