//! Every instrument. No label ever holds a phone number, a chat or a message id. So each label has few values, and no
//! metric names a person.
//!
//! `docs/operations.md` has the same list for people; a test compares the two.

use super::instrument::{Counter, Definition, Durations, Gauge, Level};

/// Messages that went through, the way they went and what they are.
pub static MESSAGES: Counter<2> = Counter::counter(
    "wa.messages",
    "{message}",
    &["direction", "kind"],
    "Messages that came from WhatsApp and are stored (in), or went to WhatsApp and are acknowledged (out).",
);
/// What became of inbound messages.
pub static OUTCOMES: Counter<2> = Counter::counter(
    "wa.outcomes",
    "{message}",
    &["class", "reason"],
    "Outcomes stored: reply, none or dead, and why.",
);
/// Calls of the backend.
pub static CALLS: Counter<2> = Counter::counter(
    "wa.backend.calls",
    "{call}",
    &["class", "reason"],
    "Calls of the backend by what its answer means: answered, silent, unavailable, failed or rejected.",
);
/// Dead letters: inbound messages that were given up on.
pub static DEAD_LETTERS: Counter<1> = Counter::counter(
    "wa.dead_letters",
    "{message}",
    &["reason"],
    "Inbound messages given up on; a person has to look at them.",
);
/// Messages that WhatsApp refuses for good.
pub static UNDELIVERABLE: Counter<1> = Counter::counter(
    "wa.undeliverable",
    "{message}",
    &["reason"],
    "Outbound messages that are given up on, or whose end is cut off.",
);
/// Sends that have to be repeated.
pub static RESENDS: Counter<1> = Counter::counter(
    "wa.resends",
    "{message}",
    &["reason"],
    "Sends that are repeated under the same id: refused, refused with buttons and sent as text, unknown whether they arrived, not written because WhatsApp gives no keys for the recipient, or not sent because the session cannot be written.",
);
/// Receipts from customers' phones.
pub static RECEIPTS: Counter<1> = Counter::counter(
    "wa.receipts",
    "{receipt}",
    &["status"],
    "Receipts of people's phones: delivered, read or played.",
);
/// Connections to WhatsApp that were given up because nothing came, not even an answer to a ping.
pub static SILENCES: Counter<0> = Counter::counter(
    "wa.whatsapp.silences",
    "{connection}",
    &[],
    "Connections to WhatsApp that were given up because nothing came over them, not even an answer to a ping.",
);
/// What people see beside messages.
pub static COURTESIES: Counter<1> = Counter::counter(
    "wa.courtesies",
    "{stanza}",
    &["kind"],
    "What WhatsApp was told beside messages: that the assistant types (composing), that it does not (paused), what is read.",
);
/// Files that people sent, when it is known what became of them; and those that were taken to WhatsApp.
pub static FILES: Counter<2> = Counter::counter(
    "wa.files",
    "{file}",
    &["state", "reason"],
    "Files that people sent: stored in the bucket, or failed, and why. Files for people: uploaded to WhatsApp.",
);
/// Transactions of the session's store.
pub static SESSION_COMMITS: Counter<0> = Counter::counter(
    "wa.session.commits",
    "{transaction}",
    &[],
    "Transactions in which the edge keeps copies of messages and what phones may ask for. What comes at the same time shares one.",
);
/// Publishes whose compare-and-set was refused.
pub static CONFLICTS: Counter<1> = Counter::counter(
    "wa.publish.conflicts",
    "{publish}",
    &["stream"],
    "Publishes that the stream refused because its chat had moved on; they are looked at again.",
);
/// Redeliveries.
pub static REDELIVERIES: Counter<1> = Counter::counter(
    "wa.redeliveries",
    "{message}",
    &["consumer"],
    "Messages that the bus had delivered before: the process that had them died, stopped or fell silent.",
);
/// Connections that had to be made again.
pub static RECONNECTS: Counter<1> =
    Counter::counter("wa.reconnects", "{connection}", &["peer"], "Connections that had to be made again.");
/// Spans that were lost.
pub static SPANS_DROPPED: Counter<1> = Counter::counter(
    "wa.telemetry.spans.dropped",
    "{span}",
    &["reason"],
    "Spans that did not reach the collector: the queue was full, or the export failed.",
);

/// WhatsApp's receipt → stored.
pub static RECEIVE: Durations<0> =
    Durations::durations("wa.receive.duration", &[], "From a message's arrival at the edge to its PubAck.");
/// Stored → the backend's call.
pub static DISPATCH: Durations<0> = Durations::durations(
    "wa.dispatch.duration",
    &[],
    "From a message's PubAck to its first call of the backend: the time in which it waits.",
);
/// The backend's call.
pub static CALL: Durations<1> =
    Durations::durations("wa.backend.duration", &["class"], "One call of the backend.");
/// Outcome → the server's ack.
pub static DELIVER: Durations<0> = Durations::durations(
    "wa.deliver.duration",
    &[],
    "From a reply's outcome to the ack of WhatsApp's server for it.",
);
/// WhatsApp's receipt → the server's ack for the reply.
pub static WHOLE: Durations<0> = Durations::durations(
    "wa.whole.duration",
    &[],
    "From a message's arrival at the edge to the ack of WhatsApp's server for its reply.",
);

/// The messages in a forwarder's hand, by state.
pub static TURNS: Level<1> = Level::level(
    "wa.turns",
    "{message}",
    &["state"],
    "Messages in the forwarder's hand: calling the backend, waiting for the one before in the chain, held \
     until the backend is back, waiting for its file or for more of a burst, or retrying after a failure.",
);
/// Messages that are being sent.
pub static SENDING: Level<0> =
    Level::level("wa.sending", "{message}", &[], "Messages on their way to WhatsApp's server.");

/// Messages that are not delivered yet.
pub static LAG: Gauge<1> = Gauge::gauge(
    "wa.consumer.lag",
    "{message}",
    &["consumer"],
    "Messages on the bus that no process has taken yet.",
);
/// Messages in flight: delivered and not acknowledged.
pub static ACK_PENDING: Gauge<1> = Gauge::gauge(
    "wa.consumer.ack_pending",
    "{message}",
    &["consumer"],
    "Messages that processes have taken and not finished.",
);
/// Dead letters that wait for the operator.
pub static DEAD_LETTERS_STORED: Gauge<0> =
    Gauge::gauge("wa.dead_letters.stored", "{message}", &[], "Dead letters on the bus.");
/// The link.
pub static LINK: Gauge<2> = Gauge::gauge(
    "wa.link.state",
    "",
    &["account", "state"],
    "1 for the state that the link to WhatsApp is in, by its code, 0 for the others.",
);
/// The lease.
pub static LEASE: Gauge<1> = Gauge::gauge(
    "wa.lease.held",
    "",
    &["account"],
    "1 while this edge has the account's lease; 0 while it stands by.",
);
/// New chats.
pub static NEW_CHATS_PAUSED: Gauge<1> = Gauge::gauge(
    "wa.new_chats.paused",
    "",
    &["account"],
    "1 while no message goes to a new chat, because WhatsApp has refused one.",
);
/// A pool's accounts.
pub static POOL_ACCOUNTS: Gauge<1> = Gauge::gauge(
    "wa.pool.accounts",
    "{account}",
    &["state"],
    "With `WHATSAPP_ACCOUNTS`: accounts that this edge works for (held), that it leaves alone because they do not start here (parked), and that no edge has (free).",
);
/// A pool's links.
pub static POOL_LINKS: Gauge<1> = Gauge::gauge(
    "wa.pool.links",
    "{account}",
    &["state"],
    "With `WHATSAPP_ACCOUNTS`: how many of this edge's accounts have their link to WhatsApp in this state. Of the first 200 accounts `wa_link_state` tells each.",
);
/// A pool's room.
pub static POOL_CAPACITY: Gauge<0> = Gauge::gauge(
    "wa.pool.capacity",
    "{account}",
    &[],
    "For how many accounts this edge works at most: `EDGE_CAPACITY`.",
);
/// The bus.
pub static BUS: Gauge<0> =
    Gauge::gauge("wa.bus.writable", "", &[], "1 while messages can be stored on the bus.");
/// The backend.
pub static HELD: Gauge<0> = Gauge::gauge(
    "wa.backend.held",
    "",
    &[],
    "1 while the backend is unavailable and everything is held until it is back.",
);
/// The backend's limit.
pub static LIMIT: Gauge<0> = Gauge::gauge(
    "wa.backend.limit",
    "{call}",
    &[],
    "Calls that may be under way at once: it follows the backend, up to `BACKEND_CONCURRENCY`.",
);
/// A route's hold.
pub static ROUTE_HELD: Gauge<1> = Gauge::gauge(
    "wa.route.held",
    "",
    &["route"],
    "With `ROUTES_FILE`: 1 while this route's backend is unavailable and its messages are held. `BACKEND_URL` is the route of all accounts that have none of their own.",
);
/// What waits for a route.
pub static ROUTE_WAITING: Gauge<1> = Gauge::gauge(
    "wa.route.waiting",
    "{message}",
    &["route"],
    "With `ROUTES_FILE`: this route's messages that wait in this process, beside those at work.",
);
/// A route's limit.
pub static ROUTE_LIMIT: Gauge<1> = Gauge::gauge(
    "wa.route.limit",
    "{call}",
    &["route"],
    "With `ROUTES_FILE`: calls of this route that may be under way at once.",
);
/// Readiness.
pub static READY: Gauge<0> = Gauge::gauge("wa.ready", "", &[], "1 while `/readyz` says 200.");
/// The program.
pub static BUILD: Gauge<1> =
    Gauge::gauge("wa.build.info", "", &["version"], "Always 1; the label says what runs.");

/// All of them, in the order of the documentation.
pub fn all() -> Vec<Definition> {
    macro_rules! definitions {
        ($($instrument:ident),* $(,)?) => { vec![$($instrument.definition),*] };
    }
    definitions![
        MESSAGES,
        OUTCOMES,
        CALLS,
        DEAD_LETTERS,
        UNDELIVERABLE,
        COURTESIES,
        SILENCES,
        RESENDS,
        RECEIPTS,
        FILES,
        SESSION_COMMITS,
        CONFLICTS,
        REDELIVERIES,
        RECONNECTS,
        SPANS_DROPPED,
        RECEIVE,
        DISPATCH,
        CALL,
        DELIVER,
        WHOLE,
        TURNS,
        SENDING,
        LAG,
        ACK_PENDING,
        DEAD_LETTERS_STORED,
        LINK,
        LEASE,
        NEW_CHATS_PAUSED,
        POOL_ACCOUNTS,
        POOL_LINKS,
        POOL_CAPACITY,
        BUS,
        HELD,
        LIMIT,
        ROUTE_HELD,
        ROUTE_WAITING,
        ROUTE_LIMIT,
        READY,
        BUILD,
    ]
}

/// Sets the counters that alerts watch to zero. An alert cannot see a counter that does not exist yet.
pub fn zero() {
    for reason in ["rejected", "failed", "unreadable", "crash-loop"] {
        DEAD_LETTERS.add(0, [reason]);
    }
    for reason in [
        "unknown-number",
        "refused",
        "invalid-request",
        "loop-limit",
        "cut-off",
        "human",
        "opted-out",
        "reachout-locked",
        "new-chats-capped",
        "new-chats",
    ] {
        UNDELIVERABLE.add(0, [reason]);
    }
    for reason in ["refused", "unknown", "not-written", "not-sent", "as-text"] {
        RESENDS.add(0, [reason]);
    }
    for status in ["delivered", "read", "played"] {
        RECEIPTS.add(0, [status]);
    }
    for kind in ["composing", "paused", "read"] {
        COURTESIES.add(0, [kind]);
    }
    SILENCES.add(0, []);
    FILES.add(0, ["stored", ""]);
    FILES.add(0, ["uploaded", ""]);
    FILES.add(0, ["failed", "expired"]);
    SESSION_COMMITS.add(0, []);
    for stream in ["in", "out"] {
        CONFLICTS.add(0, [stream]);
    }
    for peer in ["nats", "whatsapp"] {
        RECONNECTS.add(0, [peer]);
    }
    for reason in ["queue-full", "export-failed"] {
        SPANS_DROPPED.add(0, [reason]);
    }
    BUILD.set(1, [env!("CARGO_PKG_VERSION")]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_no_label_can_name_a_person() {
        let names: BTreeSet<_> = all().iter().map(|definition| definition.name).collect();
        assert_eq!(names.len(), all().len());
        let labels: BTreeSet<_> = all().iter().flat_map(|definition| definition.labels).copied().collect();
        let allowed = [
            "account",
            "class",
            "consumer",
            "direction",
            "kind",
            "peer",
            "reason",
            "route",
            "state",
            "status",
            "stream",
            "version",
        ];
        assert_eq!(labels, BTreeSet::from(allowed));
    }

    #[test]
    fn prometheus_has_names_of_its_own() {
        assert_eq!(MESSAGES.definition.prometheus_name(), "wa_messages_total");
        assert_eq!(WHOLE.definition.prometheus_name(), "wa_whole_duration_seconds");
        assert_eq!(LAG.definition.prometheus_name(), "wa_consumer_lag");
    }
}
