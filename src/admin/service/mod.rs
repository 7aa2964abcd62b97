//! This process as a NATS micro service: others see it with `nats micro ls`, and ask its edge to do something.
//!
//! It is one more door to the rooms that the console and the commands use. `acts` does what is asked, `book` counts. The
//! protocol's documents are in `wire::micro`, and its own client is not used: that answers wherever the asker wants, also into
//! a stream (docs/decisions/0046).

mod acts;
mod book;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, watch};

use super::Status;
use crate::bus::{Bus, Courtesy, Question, Questions};
use crate::edge::Seat;
use crate::pool::View;
use crate::task::{OnPanic, Task, TaskSet, spawn};
use crate::wire::header::rfc3339_ms;
use crate::wire::micro::{Endpoint, Identity, NAME, Verb};
use crate::wire::service::{Act, GROUP, LONGEST, Refusal};
use crate::wire::takeover::Lasts;
use crate::wire::{Account, Subjects, micro, now_ms};
use acts::{Acts, Refused};
pub use book::Book;

/// The endpoint that every process has: what `whatsapp-connector status` asks.
pub(super) const STATUS: &str = "status";
/// In one line.
const DESCRIPTION: &str = "Customers on WhatsApp, an assistant behind HTTP, NATS JetStream in between";
/// So many requests of one act are under way at once. Others are told so.
const AT_ONCE: usize = 4;
/// So many answers a second cost nothing to speak of: who is here, and that somebody is busy. Beyond it nobody is answered.
const ANSWERS: u32 = 200;

/// What a process without the permission is missing.
const COURTESY: Courtesy = Courtesy {
    hears: "that services ask this process (SERVICE=on)",
    answers: "that this process answers services (SERVICE=on)",
};

/// What a process offers.
#[derive(Debug)]
pub struct Offer {
    /// The command that runs.
    pub role: &'static str,
    /// Of its edge.
    pub edge: Option<EdgeOffer>,
}

/// What an edge offers.
#[derive(Debug, Clone)]
pub struct EdgeOffer {
    /// Whose it is. Only while it holds the account's lease it does what is asked.
    pub seat: Seat,
    /// How long takeovers last.
    pub takeover: Option<Lasts>,
}

struct Server {
    bus: Bus,
    subjects: Subjects,
    status: Arc<Status>,
    who: Identity,
    started: String,
    acts: Option<Acts>,
    gates: BTreeMap<Act, Arc<Semaphore>>,
    /// How often it says who it is.
    discovery: DefaultDirectRateLimiter,
    /// How often it says that it does not do something.
    refusals: DefaultDirectRateLimiter,
}

/// Answers until the bus is closed.
pub async fn serve(bus: Bus, subjects: Subjects, status: Arc<Status>, offer: Offer) {
    let Offer { role, edge } = offer;
    let mut on_duty = edge.as_ref().map(|edge| edge.seat.on_duty.clone());
    let server = Arc::new(Server::new(bus, subjects, status, role, edge));
    let asked = micro::subjects(&server.who.id);
    let discovery = server.bus.questions(&server.subjects, COURTESY, &asked, None).await;
    let mut discovery = match discovery {
        Ok(discovery) => discovery,
        Err(error) => return tracing::warn!(%error, "this process is no service (SERVICE=on)"),
    };
    let mut requests = None;
    let mut tasks = TaskSet::new("service request");
    loop {
        let is_on_duty = on_duty.as_mut().is_some_and(|on_duty| *on_duty.borrow_and_update());
        if is_on_duty != requests.is_some() {
            requests = if is_on_duty { server.requests().await } else { None };
        }
        tokio::select! {
            question = discovery.next() => match question {
                Some(question) => server.tell(question, is_on_duty),
                None => return,
            },
            () = changed(on_duty.as_mut()) => {}
            question = next(requests.as_mut()) => server.begin(question, &mut tasks),
            Some(()) = tasks.next_end() => {}
        }
    }
}

/// The same for each account of a pool, for as long as this edge works for it. Ends with the process.
pub async fn serve_pool(
    bus: Bus,
    subjects: Subjects,
    status: Arc<Status>,
    (view, takeover): (View, Option<Lasts>),
) {
    let mut roster = view.roster.clone();
    let mut served: BTreeMap<Account, (Seat, Task<()>)> = BTreeMap::new();
    loop {
        let now = Arc::clone(&roster.borrow_and_update());
        // An account that has come back has another seat.
        served.retain(|account, (seat, _)| now.get(account).is_some_and(|now| now.is(seat)));
        for (account, seat) in now.iter() {
            served.entry(account.clone()).or_insert_with(|| {
                let offer = Offer { role: "edge", edge: Some(EdgeOffer { seat: seat.clone(), takeover }) };
                let serve = serve(bus.clone(), subjects.clone(), Arc::clone(&status), offer);
                (seat.clone(), spawn("service", OnPanic::Log, Box::pin(serve)))
            });
        }
        if roster.changed().await.is_err() {
            return;
        }
    }
}

/// Returns when the lease is won or lost.
async fn changed(on_duty: Option<&mut watch::Receiver<bool>>) {
    if let Some(on_duty) = on_duty
        && on_duty.changed().await.is_ok()
    {
        return;
    }
    // No edge, or it has ended.
    std::future::pending().await
}

/// The next request, while there are any.
async fn next(requests: Option<&mut Questions>) -> Question {
    if let Some(requests) = requests
        && let Some(question) = requests.next().await
    {
        return question;
    }
    // The connection has ended for good, and so does the process.
    std::future::pending().await
}

impl Server {
    fn new(
        bus: Bus,
        subjects: Subjects,
        status: Arc<Status>,
        role: &'static str,
        edge: Option<EdgeOffer>,
    ) -> Self {
        let mut metadata = BTreeMap::from([
            ("role", role.to_owned()),
            ("host", rustix::system::uname().nodename().to_string_lossy().into_owned()),
            ("pid", std::process::id().to_string()),
        ]);
        if let Some(edge) = &edge {
            metadata.insert("account", edge.seat.account.to_string());
        }
        let who = Identity { name: NAME, id: bus.unique(), version: env!("CARGO_PKG_VERSION"), metadata };
        let acts = edge.map(|EdgeOffer { seat, takeover }| Acts {
            bus: bus.clone(),
            subjects: subjects.clone(),
            seat,
            takeover,
        });
        let gates = Act::ALL.map(|act| (act, Arc::new(Semaphore::new(AT_ONCE)))).into();
        let quota = Quota::per_second(NonZeroU32::new(ANSWERS).unwrap_or(NonZeroU32::MIN));
        let (discovery, refusals) = (RateLimiter::direct(quota), RateLimiter::direct(quota));
        Self { bus, subjects, status, who, started: rfc3339_ms(now_ms()), acts, gates, discovery, refusals }
    }

    async fn requests(&self) -> Option<Questions> {
        let account = &self.acts.as_ref()?.seat.account;
        let subjects = [self.subjects.services_of(account)];
        let requests = self.bus.questions(&self.subjects, COURTESY, &subjects, Some(GROUP)).await;
        requests
            .inspect_err(|error| tracing::warn!(%error, "services cannot ask this edge (SERVICE=on)"))
            .ok()
    }

    /// What can be asked of this process now.
    fn endpoints(&self, is_on_duty: bool) -> Vec<Endpoint> {
        let status = Endpoint {
            name: STATUS,
            subject: self.subjects.live_status(),
            queue_group: "",
            metadata: BTreeMap::new(),
        };
        let account = self.acts.as_ref().filter(|_| is_on_duty).map(|acts| &acts.seat.account);
        let act = |act: Act| {
            let subject = self.subjects.service(account?, act.name());
            let metadata = [("request", act.request()), ("reply", act.reply())].into();
            Some(Endpoint { name: act.name(), subject, queue_group: GROUP, metadata })
        };
        std::iter::once(status).chain(Act::ALL.into_iter().filter_map(act)).collect()
    }

    /// Says who is here, what it can do, and what it has done.
    fn tell(&self, question: Question, is_on_duty: bool) {
        if self.discovery.check().is_err() {
            return;
        }
        let endpoints = self.endpoints(is_on_duty);
        let answer = match Verb::of(&question.subject) {
            Some(Verb::Ping) => self.who.pong(),
            Some(Verb::Info) => self.who.info(DESCRIPTION, &endpoints),
            Some(Verb::Stats) => {
                self.who.stats(&self.started, &endpoints, |endpoint| self.status.book.of(endpoint))
            }
            None => return,
        };
        // Not at once only if much else waits for the connection, and then it is not worth it.
        let _ = self.bus.answer(COURTESY, question.reply, answer).now_or_never();
    }

    /// Begins what is asked, or says why not.
    fn begin(self: &Arc<Self>, question: Question, tasks: &mut TaskSet) {
        let began = Instant::now();
        let Question { subject, payload, reply } = question;
        let Some(act) = Act::of(&subject) else {
            let known = Act::ALL.map(Act::name).join(", ");
            let why = format!("there is no such endpoint: there are {known}");
            return self.refuse_at_once(reply, &Refused::new(404, "no-endpoint", why));
        };
        let refused = match self.gates.get(&act).map(|gate| Arc::clone(gate).try_acquire_owned()) {
            _ if payload.len() > LONGEST => {
                Refused::new(413, "too-long", format!("a request has at most {LONGEST} bytes"))
            }
            Some(Ok(permit)) => {
                let server = Arc::clone(self);
                tasks.spawn(async move {
                    server.answer(act, &payload, reply, began).await;
                    drop(permit);
                });
                return;
            }
            _ => Refused::new(429, "busy", "others are asking for the same: ask again in a few seconds"),
        };
        self.note(act, began, Some(&refused));
        self.refuse_at_once(reply, &refused);
    }

    /// Within the bound for answers that cost little, or not at all.
    fn refuse_at_once(&self, reply: String, refused: &Refused) {
        if self.refusals.check().is_ok() {
            let _ = self.refuse(reply, refused).now_or_never();
        }
    }

    async fn answer(&self, act: Act, request: &[u8], reply: String, began: Instant) {
        let Some(acts) = &self.acts else { return };
        match acts.act(act, request).await {
            Ok(answer) => {
                self.note(act, began, None);
                self.bus.answer(COURTESY, reply, answer).await;
            }
            Err(refused) => {
                self.note(act, began, Some(&refused));
                self.refuse(reply, &refused).await;
            }
        }
    }

    fn note(&self, act: Act, began: Instant, refused: Option<&Refused>) {
        match refused {
            None => self.status.book.answered(act.name(), began.elapsed()),
            Some(Refused { number, code, .. }) => {
                self.status.book.refused(act.name(), began.elapsed(), format!("{number}:{code}"));
            }
        }
    }

    async fn refuse(&self, reply: String, refused: &Refused) {
        let Refused { number, code, why } = refused;
        let body = Refusal { code: (*code).to_owned(), error: why.clone() };
        // Plain data always serialises.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        self.bus.refuse(COURTESY, reply, (*number, why), body).await;
    }
}
