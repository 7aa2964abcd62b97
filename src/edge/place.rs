//! Where the session is, as the settings have it.

use super::journal::{Journal, Size};
use super::session::{AuthDir, Home, OnBus};
use super::{EdgeError, LockError, SessionStore, Settings};
use crate::bus::Bus;
use crate::wire::Subjects;

/// Where the session is, and what this edge is called.
pub(super) fn home(bus: &Bus, subjects: &Subjects, settings: &Settings) -> Result<(Home, String), EdgeError> {
    match &settings.store {
        SessionStore::File => {
            let dir = AuthDir::lock(&settings.auth_dir, &settings.account)?;
            let name = dir.name();
            let name =
                name.map_err(|source| LockError::Unusable { dir: settings.auth_dir.clone(), source })?;
            Ok((Home::Dir(dir), name))
        }
        SessionStore::Bus { keys, .. } => {
            let journal = Journal::new(bus.clone(), subjects, &settings.account, keys.clone(), Size::EDGE);
            // Nothing tells two processes of one machine apart but that each is another.
            Ok((Home::Bus(OnBus::new(journal)), bus.unique()))
        }
    }
}

/// Is a session on the bus safe there?
pub(super) async fn is_safe(bus: &Bus, subjects: &Subjects, settings: &Settings) -> Result<(), EdgeError> {
    if let SessionStore::Bus { unsafe_sync: false, .. } = &settings.store {
        let stream = subjects.stream_session();
        // Whether a server syncs each message is nothing that it tells its clients.
        if bus.replicas(&stream).await? < 2 {
            return Err(EdgeError::Unsafe { stream });
        }
    }
    Ok(())
}
