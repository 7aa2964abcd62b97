//! From the question to a decision: the calls to the backend, and the waits between them.

use std::sync::Arc;

use prost::Message as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::failing::Failing;
use super::file::Known;
use super::joining::{Ahead, Joining};
use super::takeover;
use super::voice::{self, Heard};
use super::{Decided, Interrupted, Slot, Turn, telemetry};
use crate::crash;
use crate::forwarder::attempts::{Attempt, Begun};
use crate::forwarder::backend::{Failure, Full, Question};
use crate::forwarder::circuit_breaker::Pass;
use crate::forwarder::decision::{self, Decision};
use crate::forwarder::eligible;
use crate::forwarder::hold::Refusal;
use crate::forwarder::limiter::Ended;
use crate::forwarder::policy::{self, Class};
use crate::forwarder::routes::{Route, Seat};
use crate::forwarder::typing::{self, Typing};
use crate::telemetry::{metrics, spans};
use crate::wire::now_ms;
use crate::wire::v1::{DeadReason, InboundMessage, NoReplyReason};

/// What a look at the message says.
enum Look {
    /// The backend is to be asked.
    Ask(Box<Question>),
    /// First somebody has to listen to it.
    Listen,
    /// It need not be.
    Decided(Decided),
    /// At this time it is known whether more is joined with it.
    Open(Instant),
    /// The message must wait for capacity first.
    NeedsCapacity,
}

/// Whom a turn means to ask, and what it has for that.
struct Standing {
    route: Arc<Route>,
    slots: Vec<Slot>,
    probe: Option<Pass>,
}

/// What a call was good for.
struct Called {
    class: Class,
    began: Instant,
    /// It is the load that ended it, and not the message.
    overload: bool,
}

/// What follows from a call.
enum Then {
    Decided(Decision),
    /// Ask again as soon as that is allowed.
    Again,
    /// Ask again after a while, for this reason.
    After(std::time::Duration, String),
}

impl Turn<'_> {
    /// The decision. `None`: the message must wait for capacity first, and must hold no slot in that time.
    pub(super) async fn decide(
        &self,
        seat: Seat,
        attempt: &mut Attempt<'_>,
        joining: &mut Joining,
    ) -> Result<Option<Decided>, Interrupted> {
        let mut at = Standing { route: seat.route, slots: vec![seat.slot], probe: None };
        let mut calls = 0;
        let mut failing = Failing::default();
        let (mut file, mut heard, mut person) =
            (Known::default(), Heard::default(), takeover::Known::default());
        loop {
            self.prepare(&mut at, attempt, failing.is_retry()).await?;
            let mut question = match self.look(attempt, &heard, (joining, &mut person)).await? {
                Look::Ask(question) => question,
                Look::Listen => {
                    // It holds nothing, as below.
                    at.slots.clear();
                    attempt.leave().await;
                    heard = self.listen(&mut file).await?;
                    continue;
                }
                Look::Open(until) => {
                    at.slots.clear();
                    attempt.leave().await;
                    self.wait_for_more(until).await?;
                    continue;
                }
                Look::Decided(decided) => return Ok(Some(decided)),
                Look::NeedsCapacity => return Ok(None),
            };
            if file.is_awaited(&question) && at.probe.is_none() {
                // It holds nothing, so that nobody else waits for this file.
                at.slots.clear();
                attempt.leave().await;
                failing.pause(Instant::now());
                self.wait_for_file(&mut file).await?;
                continue;
            }
            self.tell_of_file(&mut question, &file);
            if at.route.is_retired() {
                continue;
            }
            let has_slot = !at.slots.is_empty();
            let pass = at.probe.take().or_else(|| at.route.breaker.free().filter(|_| has_slot));
            let Some(pass) = pass else {
                // While it waits, others may need the slot, and nothing of its time is used up.
                at.slots.clear();
                attempt.pause().await;
                failing.pause(Instant::now());
                at.probe = self.pass(&at.route).await?.filter(|pass| matches!(pass, Pass::Probe { .. }));
                continue;
            };
            crash::point_of("forwarder.before-call", &question.message_id);
            crash::panic_with("forwarder.before-call", &question.text);
            let called = self.call(&at.route, &question, calls).await?;
            calls += 1;
            crash::point("forwarder.after-call");
            let then =
                self.judge(&at.route, called, (&mut failing, joining.first(self.place.sequence))).await;
            drop(pass);
            match then? {
                Then::Decided(decision) => return Ok(Some(decision.into())),
                Then::Again => {}
                Then::After(wait, reason) => {
                    let _retrying = telemetry::retrying(reason, wait);
                    // A waiting retry holds no slot and no capacity.
                    at.slots.clear();
                    attempt.leave().await;
                    self.or_stop(tokio::time::sleep(wait)).await?;
                    file.may_change();
                }
            }
        }
    }

    /// Sees to it that the turn has what a call needs, as far as that makes sense now.
    async fn prepare(
        &self,
        at: &mut Standing,
        attempt: &mut Attempt<'_>,
        is_retry: bool,
    ) -> Result<(), Interrupted> {
        loop {
            let now = self.route();
            if !Arc::ptr_eq(&now, &at.route) {
                // What it has is of a route that another one has taken the place of.
                *at = Standing { route: now, slots: Vec::new(), probe: None };
            }
            let Standing { route, slots, probe } = at;
            // The circuit breaker sees to it that there are few probes. They need no slot: all slots may be taken by
            // calls that began before the hold. For the same reason nobody waits for a slot during a hold.
            if !slots.is_empty() || probe.is_some() || route.breaker.is_held() {
                return Ok(());
            }
            self.or_stop(attempt.capacity()).await?;
            if is_retry {
                // First get the permission to retry, so that only a few retries queue for slots, however many there are.
                let Some(retry) = self.slot_of(route, route.slots.retry()).await? else { continue };
                slots.push(retry);
                self.or_stop(attempt.capacity()).await?;
            }
            match self.slot_of(route, route.slots.one()).await? {
                Some(slot) => slots.push(slot),
                None => slots.clear(),
            }
        }
    }

    /// Looks at the message. Each time anew, because it may have become too old, and before anybody asks the circuit
    /// breaker, so that no turn waits for a backend that it need not ask.
    async fn look(
        &self,
        attempt: &mut Attempt<'_>,
        heard: &Heard,
        (joining, person): (&mut Joining, &mut takeover::Known),
    ) -> Result<Look, Interrupted> {
        let first = joining.first(self.place.sequence);
        match attempt.begin().await {
            Begun::Going => {}
            Begun::NeedsCapacity => return Ok(Look::NeedsCapacity),
            Begun::GiveUp { deaths } => {
                let detail = format!("deaths-{deaths}");
                let dead = self.dead(DeadReason::CrashLoop, &detail, first).await?;
                return Ok(Look::Decided(dead.into()));
            }
        }
        let Ok(message) = InboundMessage::decode(self.delivery.payload.clone()) else {
            let dead = self.dead(DeadReason::Unreadable, "not-an-inbound-message", first).await?;
            return Ok(Look::Decided(dead.into()));
        };
        let (settings, now_ms) = (&self.forwarder.settings.eligible, now_ms());
        if self.is_to_be_heard(&message, heard, now_ms) {
            return Ok(match self.is_silenced(&message, person).await? {
                true => Look::Decided(decision::none(NoReplyReason::Human).into()),
                false => Look::Listen,
            });
        }
        let message = self.whole(message, joining).await?;
        let mut question = match heard {
            Heard::Words(words) => eligible::question(&voice::written(&message, words), settings, now_ms),
            Heard::Not | Heard::Nothing => eligible::question(&message, settings, now_ms),
        };
        if let (Heard::Words(_), Ok(Question { full: Some(full), .. })) = (heard, &mut question) {
            **full = Full { transcribed: true, ..Full::of(&message) };
        }
        let mut question = match question {
            Ok(question) => question,
            Err(reason) => return Ok(Look::Decided(decision::none(reason).into())),
        };
        if self.is_silenced(&message, person).await? {
            return Ok(Look::Decided(decision::none(NoReplyReason::Human).into()));
        }
        // If others are to blame for its deaths, they are behind it. So it does not look at them.
        if !attempt.is_suspect() {
            match self.look_ahead(&message, joining).await? {
                Ahead::Nothing => {}
                Ahead::Open(until) => return Ok(Look::Open(until)),
                Ahead::Joins(decided) => return Ok(Look::Decided(decided)),
            }
        }
        if self.calls.is_refused() {
            return Ok(Look::Decided(decision::none(NoReplyReason::Rate).into()));
        }
        if let Some(full) = &mut question.full {
            full.person = self.what_the_person_wrote(person).await?;
        }
        Self::tell_of_joined(question.full.as_deref_mut(), joining);
        Ok(Look::Ask(Box::new(question)))
    }

    /// Tells the circuit breaker the result of a call, and says what follows.
    async fn judge(
        &self,
        route: &Route,
        called: Called,
        (failing, first): (&mut Failing, u64),
    ) -> Result<Then, Interrupted> {
        let Called { class, began, overload } = called;
        let (breaker, chat) = (&route.breaker, self.chat);
        let (reason, retry_after) = match class {
            Class::Answered(reply) => {
                breaker.answered(chat, began);
                let super::Settings { mode, format, .. } = self.forwarder.settings;
                return Ok(Then::Decided(decision::answered(mode, format, *reply)));
            }
            Class::Silent => {
                breaker.answered(chat, began);
                return Ok(Then::Decided(decision::none(NoReplyReason::BackendSilent)));
            }
            Class::Rejected { reason } => {
                breaker.reached(began);
                return self.dead(DeadReason::Rejected, &reason, first).await.map(Then::Decided);
            }
            Class::Failed { reason } => {
                breaker.reached(began);
                if overload && failing.may_be_overload() {
                    let wait = failing.excused(Instant::now(), None);
                    tracing::warn!(
                        reason,
                        retries = failing.attempts(),
                        ?wait,
                        "the backend failed; trying again"
                    );
                    return Ok(Then::After(wait, reason));
                }
                (reason, None)
            }
            Class::Unavailable { reason, retry_after } => {
                match breaker.refused(chat, &reason, retry_after) {
                    Refusal::Alone => {}
                    Refusal::Held => {
                        failing.pause(Instant::now());
                        return Ok(Then::Again);
                    }
                    Refusal::Undecided => {
                        let wait = failing.excused(Instant::now(), retry_after);
                        tracing::debug!(reason, ?wait, "refused, and others are answered; trying again");
                        return Ok(Then::After(wait, reason));
                    }
                }
                (reason, retry_after)
            }
        };
        let retries = failing.attempts();
        match failing.failed(Instant::now(), self.forwarder.settings.retry_for, retry_after) {
            Some(wait) => {
                tracing::warn!(reason, retries, ?wait, "the backend failed; trying again");
                Ok(Then::After(wait, reason))
            }
            None => self.dead(DeadReason::Failed, &reason, first).await.map(Then::Decided),
        }
    }

    /// Permission to call. The wait for it is recorded. `None`: another route has taken the place of this one.
    async fn pass(&self, route: &Route) -> Result<Option<Pass>, Interrupted> {
        let _held = route.breaker.reason().map(telemetry::held);
        self.unless_retired(route, route.breaker.pass(self.chat)).await
    }

    /// Calls the backend. `before` says how often this turn has called it already.
    async fn call(&self, route: &Route, question: &Question, before: u32) -> Result<Called, Interrupted> {
        let backend = &route.backend;
        let (host, port) = backend.server();
        spans::event("attempt", [("wa.attempt", i64::from(before + 1).into())]);
        if before == 0 {
            metrics::DISPATCH.record_since(self.delivery.stored_at_ms, now_ms(), []);
        }
        let span = spans::call((host, port), route.name(), before);
        let request_id = format!("{}-{}", question.message_id, self.delivery.delivered);
        let _calling = metrics::TURNS.enter(["calling"]);
        self.calls.made();
        let under_way = route.slots.begin();
        let began = under_way.began();
        let typing = Typing::of(self.forwarder, self.delivery);
        let answer = tokio::select! {
            answer = backend.ask(question, &request_id).instrument(span.clone()) => answer,
            () = self.forwarder.abandon.cancelled() => return Err(Interrupted::Stopping),
            never = typing::go_on(typing.as_ref()) => match never {},
        };
        telemetry::answer(&span, &answer);
        let timed_out = matches!(answer, Err(Failure::Timeout));
        let class = policy::class(answer);
        telemetry::call(&class, began.elapsed());
        if let Some(typing) =
            typing.filter(|_| !matches!(class, Class::Failed { .. } | Class::Unavailable { .. }))
        {
            typing.until_its_outcome();
        }
        let overload = under_way.end(match class {
            Class::Answered(_) | Class::Silent => Ended::Answered,
            Class::Unavailable { .. } => Ended::Refused,
            Class::Failed { .. } if timed_out => Ended::TimedOut,
            Class::Failed { .. } | Class::Rejected { .. } => Ended::Failed,
        });
        Ok(Called { class, began, overload })
    }
}
