//! From a directory to the bus, and back.
//!
//! Each step is durable before the next one begins, and each may be the last one before a kill. A `crash::point` stands
//! between any two of them.

use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::marker::{BUS, Marker, Way};
use super::replace::There;
use super::ring::Ring;
use super::{Allowed, Done, MoveError, Mover, OnTheBus, Store};
use crate::crash;

impl Mover<'_> {
    /// Moves the session there, from the other place. What a move before has begun, it ends.
    pub async fn move_to(&self, to: Store, on: &OnTheBus, allowed: Allowed) -> Result<Done, MoveError> {
        let auth = self.lock()?;
        let held = self.lease(on, self.name_of(&auth)?).await?;
        let dir = Directory::new(&auth, self.dir, self.account);
        let done = Box::pin(async {
            match to {
                Store::Nats => self.to_bus(&dir, on, &held.lost, allowed).await,
                Store::File => self.to_file(&dir, on, &held.lost, allowed).await,
            }
        })
        .await;
        held.release().await;
        let from = if to == Store::Nats { Store::File } else { Store::Nats };
        Ok(Done { from: Some(from), to: Some(to), ..done? })
    }

    async fn to_bus(
        &self,
        dir: &Directory<'_>,
        on: &OnTheBus,
        stop: &CancellationToken,
        allowed: Allowed,
    ) -> Result<Done, MoveError> {
        Self::is_safe(on).await?;
        let mut ring = Ring::take(self.journal(on), stop).await?;
        let (here, rows) = (dir.name(), dir.rows().await?);
        let mut rows = match (dir.marker()?, rows) {
            (Some(marker), _) if marker.way == Way::Coming => {
                return Err(MoveError::Elsewhere(dir.says(&marker)));
            }
            // While its store is still there, it has not left.
            (_, Some(rows)) => rows,
            (Some(marker), None) => return self.end_on_bus(dir, &mut ring, &marker).await,
            (None, None) => return Err(self.none(here)),
        };
        let (marker, there) = (ring.marker(), ring.rows());
        let there =
            There { store: Store::Nats, marker: marker.as_ref(), rows: there.as_ref(), written_ms: 0 };
        there.may_be_moved_over(&here, allowed)?;
        let left_out = rows.leave_out_what_is_too_long();

        let coming = Self::marker(Way::Coming, here)?;
        (self.tell)(&format!("writing {} values to the bus", rows.len()));
        ring.begin(&coming).await?;
        crash::point("move.begun");
        ring.stage(&rows).await?;
        crash::point("move.staged");
        dir.mark(&Marker { way: Way::Away, other: BUS.to_owned(), ..coming.clone() })?;
        crash::point("move.marked");
        // If somebody else has taken the ring over meanwhile, because this command was frozen, the session stays.
        ring.mark(&coming).await?;
        let aside = dir.leave(&coming.id)?;
        crash::point("move.left");
        ring.open().await?;
        crash::point("move.opened");
        let done = Done::with(self.account, "moved", &rows);
        Ok(Done { left_out, file: Some(aside), ..done })
    }

    /// The session has left the directory. The bus has it, and perhaps nobody may begin yet.
    async fn end_on_bus(
        &self,
        dir: &Directory<'_>,
        ring: &mut Ring<'_>,
        away: &Marker,
    ) -> Result<Done, MoveError> {
        let aside = dir.aside(&format!("moved-{}", away.id));
        let state = match (ring.marker(), ring.rows()) {
            (Some(coming), Some(_)) if coming.way == Way::Coming && coming.id == away.id => {
                // A kill may have been in the middle of it.
                dir.forget_what_is_beside()?;
                ring.open().await?;
                "moved"
            }
            (None, Some(_)) => "already-moved",
            (Some(marker), _) if marker.way == Way::Away => {
                return Err(MoveError::Elsewhere(ring.says(&marker)));
            }
            _ => return Err(MoveError::Lost { says: dir.says(away), aside }),
        };
        let file = aside.exists().then_some(aside);
        Ok(Done { file, ..Done::with(self.account, state, &ring.all()) })
    }

    async fn to_file(
        &self,
        dir: &Directory<'_>,
        on: &OnTheBus,
        stop: &CancellationToken,
        allowed: Allowed,
    ) -> Result<Done, MoveError> {
        let mut ring = Ring::take(self.journal(on), stop).await?;
        let (here, marker) = (dir.name(), dir.marker()?);
        match ring.marker() {
            Some(away) if away.way == Way::Away => {
                return self.end_in_directory(dir, &mut ring, &away, marker).await;
            }
            Some(coming) => return Err(MoveError::Elsewhere(ring.says(&coming))),
            None => {}
        }
        let rows = ring.rows().ok_or_else(|| self.none(BUS.to_owned()))?;
        let there = dir.rows().await?;
        // Beside the word that it has moved away, a store is one that somebody has brought back.
        let marker = marker.filter(|_| there.is_none());
        let there = There {
            store: Store::File,
            marker: marker.as_ref(),
            rows: there.as_ref(),
            written_ms: dir.written_ms(),
        };
        there.may_be_moved_over(BUS, allowed)?;

        let coming = Self::marker(Way::Coming, BUS.to_owned())?;
        (self.tell)(&format!("writing {} values to {}", rows.len(), self.dir.display()));
        dir.mark(&coming)?;
        crash::point("move.begun");
        dir.stage(&rows).await?;
        crash::point("move.staged");
        ring.mark(&Marker { way: Way::Away, other: here, ..coming.clone() }).await?;
        crash::point("move.marked");
        let aside = dir.place(&rows, &coming.id)?;
        crash::point("move.left");
        ring.clear().await?;
        crash::point("move.cleared");
        dir.open()?;
        crash::point("move.opened");
        Ok(Done { file: aside, ..Done::with(self.account, "moved", &rows) })
    }

    /// The session has left the bus. A directory has it, and perhaps nobody may begin yet.
    async fn end_in_directory(
        &self,
        dir: &Directory<'_>,
        ring: &mut Ring<'_>,
        away: &Marker,
        marker: Option<Marker>,
    ) -> Result<Done, MoveError> {
        let says = ring.says(away);
        let elsewhere = || MoveError::Elsewhere(says.clone());
        if away.other != dir.name() {
            return Err(elsewhere());
        }
        match marker {
            None => {
                let rows = dir.rows().await?.ok_or_else(elsewhere)?;
                return Ok(Done::with(self.account, "already-moved", &rows));
            }
            Some(coming) if coming.way == Way::Coming && coming.id == away.id => {}
            Some(_) => return Err(elsewhere()),
        }
        let mut aside = None;
        // A store that is in its place may have been used since: it is never written over.
        if dir.is_staged() || !dir.has_store() {
            let rows = ring.rows().ok_or_else(elsewhere)?;
            if !dir.is_staged() {
                dir.stage(&rows).await?;
            }
            aside = dir.place(&rows, &away.id)?;
        }
        let rows = dir.rows().await?.ok_or_else(elsewhere)?;
        ring.clear().await?;
        dir.open()?;
        Ok(Done { file: aside, ..Done::with(self.account, "moved", &rows) })
    }
}
