//! Reads `ROUTES_FILE` again on SIGHUP. Without the file, SIGHUP ends the process as it ends every other one.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::RunError;
use crate::config::RoutesFile;
use crate::forwarder::Forwarder;

/// The one that reads it.
#[derive(Debug)]
pub(super) struct Reader {
    file: RoutesFile,
    hangups: Signal,
}

impl Reader {
    /// From now on SIGHUP means: read it again. `None` without a file.
    pub(super) fn new(file: Option<&RoutesFile>) -> Result<Option<Self>, RunError> {
        let Some(file) = file.cloned() else { return Ok(None) };
        let hangups = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
        Ok(Some(Self { file, hangups }))
    }

    /// Reads it at each SIGHUP, one after the other. It is used whole, or not at all.
    pub(super) async fn read_again(mut self, forwarder: Arc<Forwarder>) {
        let path = self.file.path.display().to_string();
        while self.hangups.recv().await.is_some() {
            let file = self.file.clone();
            // It may be on a file system that does not answer.
            let Ok(read) = tokio::task::spawn_blocking(move || file.read()).await else { continue };
            let routes = match read {
                Ok(routes) => routes,
                Err(refused) => {
                    tracing::warn!(
                        file = path,
                        line = refused.line,
                        why = refused.what,
                        remedy = refused.remedy,
                        "ROUTES_FILE cannot be used; the routes stay as they were"
                    );
                    continue;
                }
            };
            match forwarder.reroute(&routes) {
                Ok(changes) => tracing::info!(
                    file = path,
                    routes = changes.routes,
                    changed = changes.changed,
                    removed = changes.removed,
                    "ROUTES_FILE is read again"
                ),
                Err(error) => tracing::warn!(
                    file = path,
                    %error,
                    "an HTTP client cannot be made; the routes stay as they were"
                ),
            }
        }
    }
}
