//! Who was online, and when: a judge sees here whether two devices of one account were online at once.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::ids::PhoneNumber;
use crate::world::ConnectionId;

/// Older visits are forgotten.
const KEPT: usize = 10_000;

/// One login of a linked device, until its connection ended. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Visit {
    #[serde(skip)]
    connection: ConnectionId,
    #[serde(skip)]
    account: PhoneNumber,
    device: u16,
    /// Who it is, if its address says so: `/ws/chat?as=NAME`.
    name: Option<String>,
    since: u64,
    /// Its last stanza that was taken. Behind a cut a connection may seem to be there long after this.
    last_heard: u64,
    until: Option<u64>,
    /// It ended because the device logged in once more.
    replaced: bool,
}

/// All visits, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Visits(VecDeque<Visit>);

impl Visits {
    pub(crate) fn begin(
        &mut self,
        connection: ConnectionId,
        account: PhoneNumber,
        device: u16,
        name: Option<String>,
    ) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        let since = now();
        self.0.push_back(Visit {
            connection,
            account,
            device,
            name,
            since,
            last_heard: since,
            until: None,
            replaced: false,
        });
    }

    pub(crate) fn heard(&mut self, connection: ConnectionId) {
        if let Some(visit) = self.of(connection) {
            visit.last_heard = now();
        }
    }

    pub(crate) fn end(&mut self, connection: ConnectionId) {
        if let Some(visit) = self.of(connection) {
            visit.until.get_or_insert_with(now);
        }
    }

    pub(crate) fn replaced(&mut self, connection: ConnectionId) {
        if let Some(visit) = self.of(connection) {
            visit.until.get_or_insert_with(now);
            visit.replaced = true;
        }
    }

    pub(crate) fn at(&self, account: &PhoneNumber) -> Vec<Visit> {
        self.0.iter().filter(|visit| visit.account == *account).cloned().collect()
    }

    fn of(&mut self, connection: ConnectionId) -> Option<&mut Visit> {
        // They are in the order of their connections: with many accounts a look through all would be long.
        let at = self.0.binary_search_by_key(&connection, |visit| visit.connection).ok()?;
        self.0.get_mut(at)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_lasts_from_the_login_to_the_end_of_its_connection() {
        let number: PhoneNumber = "5491100000000".parse().unwrap();
        let mut visits = Visits::default();
        visits.begin(ConnectionId(1), number.clone(), 1, None);
        visits.end(ConnectionId(1));
        visits.begin(ConnectionId(2), number.clone(), 2, Some("edge".to_owned()));
        visits.heard(ConnectionId(2));
        let [first, second] = visits.at(&number).try_into().unwrap();
        assert_eq!((first.device, first.until.is_some()), (1, true));
        assert!(first.until <= Some(second.since));
        assert_eq!((second.device, second.until), (2, None));
        assert!(second.last_heard >= second.since);
        assert_eq!((first.name, second.name.as_deref()), (None, Some("edge")));
        visits.replaced(ConnectionId(2));
        let was_replaced: Vec<_> = visits.at(&number).iter().map(|visit| visit.replaced).collect();
        assert_eq!(was_replaced, [false, true]);
        assert_eq!(visits.at(&PhoneNumber::nobody()), []);
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut visits = Visits::default();
        for n in 0..=KEPT as u64 {
            visits.begin(ConnectionId(n), PhoneNumber::nobody(), 1, None);
        }
        assert_eq!(visits.0.len(), KEPT);
        assert_eq!(visits.0.front().map(|visit| visit.connection), Some(ConnectionId(1)));
    }
}
