//! Can WhatsApp be reached at all? Said once when it cannot, and once when it can again: the library retries
//! without a word to us.

/// After so many looks in vain WhatsApp counts as out of reach.
const UNREACHABLE_AFTER: u32 = 5;

/// Counts looks in vain.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    missed: u32,
}

impl Reachability {
    /// A look at the connection.
    pub(super) fn look(&mut self, connected: bool) {
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
                "WhatsApp cannot be reached: check that this machine may open connections to web.whatsapp.com:443; trying on"
            );
        }
    }
}
