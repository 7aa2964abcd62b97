//! Can WhatsApp be reached at all? Logged once when it cannot, and once when it can again, because the library
//! retries without reporting it.

/// After so many failed checks, WhatsApp counts as unreachable.
const UNREACHABLE_AFTER: u32 = 5;

/// Counts the failed checks in a row.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    missed: u32,
}

impl Reachability {
    /// One check of the connection.
    pub(super) fn check(&mut self, connected: bool) {
        if connected {
            if self.missed >= UNREACHABLE_AFTER {
                tracing::info!("WhatsApp can be reached again");
            }
            self.missed = 0;
            return;
        }
        self.missed = self.missed.saturating_add(1);
        if self.missed == UNREACHABLE_AFTER {
            tracing::warn!(
                "WhatsApp cannot be reached: check that this machine may open connections to web.whatsapp.com:443; trying again"
            );
        }
    }
}
