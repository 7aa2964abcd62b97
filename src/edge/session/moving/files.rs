//! Into one file, and out of it.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::exported::{self, Export};
use super::marker::{BUS, EXPORT, Way};
use super::replace::There;
use super::ring::Ring;
use super::rows::Rows;
use super::{Allowed, Done, MoveError, Mover, OnTheBus, Store};
use crate::crash;
use crate::wire::header::rfc3339_ms;
use crate::wire::now_ms;

impl Mover<'_> {
    /// Writes the session into a file. It stays where it is. `on`: it is on the bus.
    pub async fn export(&self, on: Option<&OnTheBus>, out: &Path) -> Result<Done, MoveError> {
        if out.exists() {
            return Err(MoveError::Exists(out.to_owned()));
        }
        let rows = match on {
            None => self.rows_of_directory().await?,
            Some(on) => {
                let held = self.lease(on, Self::unique(on)).await?;
                let rows = Box::pin(self.rows_of_bus(on, &held.lost)).await;
                held.release().await;
                rows?
            }
        };
        let export = Export { at_ms: now_ms(), rows };
        let sealed = export.seal(self.keys, self.account).ok_or(MoveError::NotSealed)?;
        exported::write(out, &sealed)?;
        let done = Done::with(self.account, "exported", &export.rows);
        let from = Some(if on.is_some() { Store::Nats } else { Store::File });
        let exported_at = Some(rfc3339_ms(export.at_ms));
        Ok(Done { from, exported_at, file: Some(out.to_owned()), ..done })
    }

    async fn rows_of_directory(&self) -> Result<Rows, MoveError> {
        let auth = self.lock()?;
        let dir = Directory::new(&auth, self.dir, self.account);
        if let Some(marker) = dir.marker()? {
            return Err(MoveError::Elsewhere(dir.says(&marker)));
        }
        dir.rows().await?.ok_or_else(|| self.none(dir.name()))
    }

    async fn rows_of_bus(&self, on: &OnTheBus, stop: &CancellationToken) -> Result<Rows, MoveError> {
        let ring = Ring::take(self.journal(on), stop).await?;
        if let Some(marker) = ring.marker() {
            return Err(MoveError::Elsewhere(ring.says(&marker)));
        }
        ring.rows().ok_or_else(|| self.none(BUS.to_owned()))
    }

    /// Puts the session of a file in its place. `on`: that is the bus.
    pub async fn import(
        &self,
        on: Option<&OnTheBus>,
        file: &Path,
        allowed: Allowed,
    ) -> Result<Done, MoveError> {
        let export = exported::read(file, self.keys, self.account)?;
        if export.rows.linked().is_none() {
            return Err(self.none(file.display().to_string()));
        }
        let exported_at = Some(rfc3339_ms(export.at_ms));
        let done = match on {
            None => Box::pin(self.put_into_directory(export, allowed)).await?,
            Some(on) => {
                let held = self.lease(on, Self::unique(on)).await?;
                let done = Box::pin(self.put_into_bus(export, on, &held.lost, allowed)).await;
                held.release().await;
                done?
            }
        };
        let to = Some(if on.is_some() { Store::Nats } else { Store::File });
        Ok(Done { to, exported_at, ..done })
    }

    async fn put_into_directory(&self, export: Export, allowed: Allowed) -> Result<Done, MoveError> {
        let auth = self.lock()?;
        let dir = Directory::new(&auth, self.dir, self.account);
        let written_ms = dir.written_ms();
        let (marker, rows) = (dir.marker()?, dir.rows().await?);
        let there = There { store: Store::File, marker: marker.as_ref(), rows: rows.as_ref(), written_ms };
        there.may_be_imported_over((&export.rows, export.at_ms), EXPORT, allowed)?;
        let coming = Self::marker(Way::Coming, EXPORT.to_owned())?;
        dir.mark(&coming)?;
        crash::point("import.begun");
        dir.stage(&export.rows).await?;
        crash::point("import.staged");
        let aside = dir.place(&export.rows, &coming.id)?;
        crash::point("import.placed");
        dir.open()?;
        Ok(Done { file: aside, ..Done::with(self.account, "imported", &export.rows) })
    }

    async fn put_into_bus(
        &self,
        mut export: Export,
        on: &OnTheBus,
        stop: &CancellationToken,
        allowed: Allowed,
    ) -> Result<Done, MoveError> {
        Self::is_safe(on).await?;
        let journal = self.journal(on);
        let left_out = export.rows.leave_out_what_is_too_long();
        // Before it is taken over: that is written there, too, and would count as newer.
        let (marker, rows, written_ms) = Ring::look(&journal).await?;
        let there = There { store: Store::Nats, marker: marker.as_ref(), rows: rows.as_ref(), written_ms };
        there.may_be_imported_over((&export.rows, export.at_ms), EXPORT, allowed)?;
        let mut ring = Ring::take(journal, stop).await?;
        ring.begin(&Self::marker(Way::Coming, EXPORT.to_owned())?).await?;
        crash::point("import.begun");
        ring.stage(&export.rows).await?;
        crash::point("import.staged");
        ring.open().await?;
        crash::point("import.placed");
        Ok(Done { left_out, ..Done::with(self.account, "imported", &export.rows) })
    }
}
