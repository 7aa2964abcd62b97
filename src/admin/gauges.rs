//! What has to be looked at to be known: how far the consumers are behind, the link, readiness.
//!
//! Looked at whenever somebody asks for `/metrics`, and every few seconds for those who are told by OTLP.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder as _, TextEncoder};

use super::Status;
use crate::bus::Bus;
use crate::edge::link;
use crate::telemetry::metrics;
use crate::wire::Subjects;

/// How often.
const LOOK: Duration = Duration::from_secs(10);
/// Whoever asks is answered within this time, with what was known before if the bus does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /metrics`, in Prometheus' text format.
pub(super) async fn page(State((status, registry)): State<(Arc<Status>, prometheus::Registry)>) -> Response {
    look(&status).await;
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

/// Looks now and then. Ends with the admin server.
pub(super) async fn keep(status: &Status) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look(status).await;
    }
}

async fn look(status: &Status) {
    let reasons = status.reasons().await;
    metrics::READY.set(u64::from(reasons.is_empty()), []);
    metrics::BUS.set(u64::from(!reasons.iter().any(|reason| reason.part == "bus")), []);
    if let Some(forwarder) = status.forwarder.get() {
        metrics::HELD.set(u64::from(forwarder.held().is_some()), []);
    }
    if let Some((account, connection)) = status.edge.get() {
        let now = connection.state().code();
        for code in link::CODES {
            metrics::LINK.set(u64::from(code == now), [account.as_str(), code]);
        }
    }
    if let Some((bus, subjects)) = status.bus.get() {
        // The bus is asked after all that needs no answer: it may be away.
        let _ = tokio::time::timeout(PATIENCE, streams(status, bus, subjects)).await;
    }
}

async fn streams(status: &Status, bus: &Bus, subjects: &Subjects) {
    let mut consumers = Vec::new();
    if status.forwarder.get().is_some() {
        consumers.push((subjects.stream_in(), subjects.consumer_forwarder()));
    }
    if let Some((account, _)) = status.edge.get() {
        consumers.push((subjects.stream_out(), subjects.consumer_edge(account)));
    }
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
