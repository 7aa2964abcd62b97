//! Answers `whatsapp-connector status`, which asks all processes at once: with what `/readyz` says, and with the
//! messages that the process has in hand.

use std::sync::Arc;
use std::time::Instant;

use super::{Status, held};
use crate::bus::{Bus, Courtesy};
use crate::edge::Seat;
use crate::edge::link::State;
use crate::forwarder::Forwarder;
use crate::telemetry::metrics::{SENDING, TURNS};
use crate::wire::process_status::{EdgeSide, ForwarderSide, HeldRoute, PoolSide, Process, Reason};
use crate::wire::{Subjects, kind};

/// What a process without the permission is missing.
const COURTESY: Courtesy = Courtesy {
    hears: "that this process hears what `whatsapp-connector status` asks",
    answers: "that this process answers `whatsapp-connector status`",
};

/// Answers until the bus is closed. `role` is the command that runs.
pub async fn answer(bus: Bus, subjects: Subjects, status: Arc<Status>, role: &'static str) {
    let mut questions = match bus.questions(&subjects, COURTESY, &[subjects.live_status()], None).await {
        Ok(questions) => questions,
        Err(error) => {
            return tracing::warn!(%error, "`whatsapp-connector status` will get no answer from this process");
        }
    };
    while let Some(question) = questions.next().await {
        let began = Instant::now();
        // Plain data always serialises.
        let answer = serde_json::to_vec(&status.process(role).await).unwrap_or_default();
        bus.answer(COURTESY, question.reply, answer).await;
        status.book.answered(super::service::STATUS, began.elapsed());
    }
}

/// What waits for a route that is held is held, whether it has begun or not.
fn of_forwarder(forwarder: &Forwarder) -> ForwarderSide {
    let (held, is_every) = forwarder.held();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let parked: u64 = held.iter().map(|route| count(route.waiting)).sum();
    let has_routes = !forwarder.routes().is_empty();
    let routes = held.iter().filter(|_| has_routes).map(|route| HeldRoute {
        route: route.name().to_owned(),
        hold: route.reason.clone(),
        held: count(route.waiting + route.at_work),
        detail: held::detail(route),
    });
    ForwarderSide {
        hold: held.first().filter(|_| is_every).map(|route| route.reason.clone()),
        calling: TURNS.now(["calling"]),
        waiting: TURNS.now(["chain"]).saturating_sub(parked),
        held: TURNS.now(["held"]) + parked,
        retrying: TURNS.now(["retrying"]),
        routes: routes.collect(),
    }
}

fn of_edge(seat: &Seat) -> EdgeSide {
    let state = seat.connection.state();
    EdgeSide {
        account: seat.account.to_string(),
        state: state.code().to_owned(),
        action: kind::code(state.action().as_str_name(), "SESSION_ACTION_"),
        ..EdgeSide::default()
    }
}

fn of_account(seat: &Seat) -> EdgeSide {
    let state = seat.connection.state();
    let detail = if state == State::Online { String::new() } else { state.detail().into_owned() };
    EdgeSide { detail, ..of_edge(seat) }
}

impl Status {
    pub(super) async fn process(&self, role: &str) -> Process {
        let reasons = self.reasons().await.into_iter();
        let reasons: Vec<_> = reasons
            .map(|reason| Reason { part: reason.part.to_owned(), code: reason.code, detail: reason.detail })
            .collect();
        Process {
            role: role.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            ready: reasons.is_empty(),
            reasons,
            edge: self.edge.get().map(|seat| EdgeSide { sending: SENDING.now([]), ..of_edge(seat) }),
            pool: self.pool.get().map(|view| PoolSide {
                capacity: view.facts.borrow().capacity,
                accounts: self.seats().iter().map(of_account).collect(),
                parked: view.facts.borrow().parked.iter().map(ToString::to_string).collect(),
                sending: SENDING.now([]),
            }),
            forwarder: self.forwarder.get().map(|forwarder| of_forwarder(forwarder)),
        }
    }
}
