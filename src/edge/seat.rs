//! What edges of one process share, and what others see of each.

use tokio::sync::watch;

use super::place::is_safe;
use super::session::{self, Hosts, Http};
use super::{Connection, EdgeError, LookUps, NewChats, OpenTakeovers, Settings};
use crate::bus::Bus;
use crate::bus::topology::{self, Role};
use crate::wire::{Account, Subjects};

/// What edges of one process share.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The bus.
    pub bus: Bus,
    /// Subjects and stream names.
    pub subjects: Subjects,
    /// Streams and consumers.
    pub topology: topology::Settings,
    pub(super) http: Http,
}

impl Ground {
    /// Makes sure that the streams exist that `role` needs, and that a session is safe there.
    pub async fn prepare(
        bus: Bus,
        subjects: Subjects,
        topology: topology::Settings,
        settings: &Settings,
        role: Role<'_>,
    ) -> Result<Self, EdgeError> {
        let hosts = Hosts::of(settings.session.simulator_url.as_deref());
        let http = session::http_client(hosts, settings.session.proxy.as_ref())
            .map_err(|error| EdgeError::Http(error.to_string()))?;
        bus.ensure(&subjects, &topology, role).await?;
        is_safe(&bus, &subjects, settings).await?;
        Ok(Self { bus, subjects, topology, http })
    }
}

/// What others see of an edge.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Whose it is.
    pub account: Account,
    /// The state of the link.
    pub connection: Connection,
    /// Whether new chats are written to.
    pub new_chats: NewChats,
    /// Who asks WhatsApp about numbers.
    pub look_ups: LookUps,
    /// Whether it holds the account's lease.
    pub on_duty: watch::Receiver<bool>,
    /// Which chats a person has, if persons take over.
    pub takeovers: Option<OpenTakeovers>,
}

impl Seat {
    /// Is it the same edge's?
    pub fn is(&self, other: &Self) -> bool {
        self.on_duty.same_channel(&other.on_duty)
    }
}
