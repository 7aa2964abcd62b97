//! Gauges whose values have to be read: the lag of the consumers, the link, readiness.
//!
//! They are read for each `GET /metrics`, and every few seconds for collectors that get them by OTLP.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder as _, TextEncoder};

use super::Status;
use crate::bus::Bus;
use crate::edge::{Seat, link};
use crate::forwarder::RouteState;
use crate::telemetry::metrics;
use crate::wire::Subjects;

/// How often the gauges are read for OTLP.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// So many accounts have numbers of their own; `wa.pool.links` counts all.
const ACCOUNTS_SHOWN: usize = 200;
/// `/metrics` is answered within this time. If the bus does not answer, it shows the last known values.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /metrics`, in Prometheus' text format.
pub(super) async fn page(State((status, registry)): State<(Arc<Status>, prometheus::Registry)>) -> Response {
    read(&status).await;
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the metrics cannot be shown");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Reads the gauges every `POLL_INTERVAL`. Ends with the admin server.
pub(super) async fn keep(status: &Status) {
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        read(status).await;
    }
}

async fn read(status: &Status) {
    let reasons = status.reasons().await;
    metrics::READY.set(u64::from(reasons.is_empty()), []);
    metrics::BUS.set(u64::from(!reasons.iter().any(|reason| reason.part == "bus")), []);
    if let Some(forwarder) = status.forwarder.get() {
        metrics::HELD.set(u64::from(forwarder.held().1), []);
        metrics::LIMIT.set(u64::try_from(forwarder.limit()).unwrap_or(u64::MAX), []);
    }
    if let Some(forwarder) = status.forwarder.get() {
        of_routes(status, forwarder.routes());
    }
    of_accounts(status, &status.seats());
    if let Some((bus, subjects)) = status.bus.get() {
        // Last, because the bus may be away, and the other gauges do not need it.
        let _ = tokio::time::timeout(PATIENCE, streams(status, bus, subjects)).await;
    }
}

fn of_accounts(status: &Status, seats: &[Seat]) {
    let set = |account: &str, now: Option<&str>, paused: bool| {
        for code in link::CODES {
            metrics::LINK.set(u64::from(Some(code) == now), [account, code]);
        }
        metrics::NEW_CHATS_PAUSED.set(u64::from(paused), [account]);
    };
    let mut shown = status.accounts.lock().unwrap_or_else(PoisonError::into_inner);
    let named = &seats[..seats.len().min(ACCOUNTS_SHOWN)];
    // An account that another edge has now must not stay as it was.
    for gone in shown.iter().filter(|name| !named.iter().any(|seat| seat.account.as_str() == **name)) {
        set(gone, None, false);
    }
    for seat in named {
        set(seat.account.as_str(), Some(seat.connection.state().code()), seat.new_chats.paused().is_some());
    }
    *shown = named.iter().map(|seat| seat.account.to_string()).collect();
    if status.pool.get().is_some() {
        for code in link::CODES {
            let count = seats.iter().filter(|seat| seat.connection.state().code() == code).count();
            metrics::POOL_LINKS.set(u64::try_from(count).unwrap_or(u64::MAX), [code]);
        }
    }
}

fn of_routes(status: &Status, routes: Vec<RouteState>) {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let set = |name: &str, held: bool, waiting: usize, limit: usize| {
        metrics::ROUTE_HELD.set(u64::from(held), [name]);
        metrics::ROUTE_WAITING.set(count(waiting), [name]);
        metrics::ROUTE_LIMIT.set(count(limit), [name]);
    };
    let mut shown = status.routes.lock().unwrap_or_else(PoisonError::into_inner);
    // A route that is no more must not stay as it was.
    for gone in shown.iter().filter(|name| !routes.iter().any(|route| route.name == **name)) {
        set(gone, false, 0, 0);
    }
    for route in &routes {
        set(&route.name, route.held, route.waiting, route.limit);
    }
    *shown = routes.into_iter().map(|route| route.name).collect();
}

async fn streams(status: &Status, bus: &Bus, subjects: &Subjects) {
    let mut consumers = Vec::new();
    if status.forwarder.get().is_some() {
        consumers.push((subjects.stream_in(), subjects.consumer_forwarder()));
    }
    let seats = status.seats();
    consumers.extend(
        seats
            .iter()
            .take(ACCOUNTS_SHOWN)
            .map(|seat| (subjects.stream_out(), subjects.consumer_edge(&seat.account))),
    );
    for (stream, consumer) in consumers {
        metrics::REDELIVERIES.add(0, [&consumer]);
        if let Ok(state) = bus.consumer_state(&stream, &consumer).await {
            metrics::LAG.set(state.not_delivered, [&consumer]);
            let pending = u64::try_from(state.ack_pending).unwrap_or(u64::MAX);
            metrics::ACK_PENDING.set(pending, [&consumer]);
        }
    }
    if let Ok(letters) = bus.count(&subjects.stream_dlq()).await {
        metrics::DEAD_LETTERS_STORED.set(letters, []);
    }
}
