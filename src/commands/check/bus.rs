//! Checks nats-server: the connection, the login, the permissions, JetStream, and the streams.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Finding, Verdict, clock};
use crate::bus::embedded::{self, EmbeddedError};
use crate::bus::permissions::{self, Need, Verb};
use crate::bus::topology::{Difference, Provision, Role};
use crate::bus::{Bus, ConnectError, JetStream, Lack, Settings};
use crate::config::Config;
use crate::run::Sides;
use crate::telemetry::redact;
use crate::wire::now_ms;

const PART: &str = "bus";
/// How long a connection may take. Short: the operator waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one role finds on the bus.
#[derive(Debug)]
struct Facts {
    provision: Provision,
    lacks: Vec<Lack>,
    refused: Vec<Need>,
}

pub(super) async fn check(config: &Config, sides: Sides) -> Vec<Finding> {
    let url = match place(config, sides) {
        Place::At(url) => url,
        Place::Nowhere(findings) => return findings,
    };
    let shown = redact::addresses(url.expose_secret(), "");
    let name = "whatsapp-connector check".to_owned();
    let settings = Settings { url, access: config.nats_access.clone(), name, private: None };
    let connected = tokio::time::timeout(PATIENCE, Bus::try_connect(&settings)).await;
    let silent = |_elapsed| ConnectError::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
    let bus = match connected.map_err(silent).and_then(|connected| connected) {
        Ok(bus) => bus,
        Err(error) => return vec![unconnected(&shown, &error)],
    };
    let mut findings = vec![Finding::fine(
        PART,
        "nats",
        format!("NATS_URL={shown} accepts the login; nats-server {}", bus.server_version()),
    )];
    let now = now_ms();
    let jetstream = bus.jetstream(&config.subjects.stream_in()).await;
    findings.extend(judge_jetstream(&jetstream, now));
    if matches!(jetstream, JetStream::Off(_)) {
        return findings;
    }
    let mut roles = Vec::new();
    if sides != Sides::Edge {
        roles.push(Role::Forwarder);
    }
    if sides != Sides::Forwarder {
        roles.push(if config.pool.is_some() { Role::Pool } else { Role::Edge(&config.edge.account) });
    }
    let mut facts = Facts { provision: config.topology.provision, lacks: Vec::new(), refused: Vec::new() };
    for role in &roles {
        let refused = bus.refused(&bus.needs(&config.subjects, *role, uses(config))).await;
        facts.refused.extend(new(&facts.refused, refused));
    }
    // A user that may not receive answers need not ask.
    let gets_answers = !facts.refused.iter().any(Need::is_inbox);
    let pool = match &config.pool {
        Some(pool) if gets_answers && sides != Sides::Forwarder => {
            Some(super::pool::look(&bus, config, pool).await)
        }
        _ => None,
    };
    let accounts = pool.iter().flat_map(|pool| &pool.accounts);
    roles.extend(accounts.map(Role::Edge));
    for role in roles.into_iter().filter(|_| gets_answers) {
        let lacks = bus.survey(&config.subjects, &config.topology, role).await;
        // Both roles check the streams: each lack is named once.
        facts.lacks.extend(new(&facts.lacks, lacks));
    }
    if config.topology.provision == Provision::Create {
        let missing = facts.lacks.iter().filter_map(|lack| match lack {
            Lack::Missing { subject, .. } => Some(permissions::to_make(subject)),
            _ => None,
        });
        let refused = bus.refused(&missing.collect::<Vec<_>>()).await;
        facts.refused.extend(refused);
    }
    findings.extend(judge(&facts));
    if gets_answers && sides != Sides::Forwarder {
        let own = std::slice::from_ref(&config.edge.account);
        let accounts = pool.as_ref().map_or(own, |pool| &pool.accounts);
        findings.extend(super::session::on_bus(&bus, config, accounts).await);
    }
    findings.extend(pool.into_iter().flat_map(|pool| pool.findings));
    findings
}

fn uses(config: &Config) -> permissions::Uses {
    permissions::Uses {
        typing: config.edge.shown.typing,
        fetched: config.topology.media,
        opt_outs: config.topology.opt_outs,
        sessions: config.topology.sessions,
        read: config.file_links.is_some() || config.forwarder.transcriber.is_some(),
        service: config.service,
        creates: config.topology.provision == Provision::Create,
    }
}

fn new<T: PartialEq>(known: &[T], found: Vec<T>) -> Vec<T> {
    found.into_iter().filter(|one| !known.contains(one)).collect()
}

/// Where the bus is.
enum Place {
    At(SecretString),
    /// It is not there yet, or never will be.
    Nowhere(Vec<Finding>),
}

fn place(config: &Config, sides: Sides) -> Place {
    if let Some(url) = &config.nats_url {
        return Place::At(url.clone());
    }
    if sides != Sides::Both {
        let what = "NATS_URL is not set, and only `run` starts a nats-server of its own";
        return Place::Nowhere(vec![Finding::failure(
            PART,
            "nats-url-missing",
            what,
            "set it to nats://host:port",
        )]);
    }
    if let Some(url) = embedded::running_url(&config.embedded) {
        return Place::At(url);
    }
    Place::Nowhere(vec![private(embedded::find(config.embedded.binary.as_deref()))])
}

/// The finding if `run` would start a private nats-server.
fn private(found: Result<PathBuf, EmbeddedError>) -> Finding {
    match found {
        Ok(binary) => {
            let what =
                format!("NATS_URL is not set: `run` starts a private nats-server, {}", binary.display());
            Finding::fine(PART, "nats-private", what)
        }
        Err(error) => {
            let mend = "set NATS_URL, or install nats-server and set NATS_SERVER_BIN to its path";
            Finding::failure(PART, "nats-server-missing", error.to_string(), mend)
        }
    }
}

fn unconnected(shown: &str, error: &ConnectError) -> Finding {
    let (code, mend) = match error {
        ConnectError::BadUrl(_) | ConnectError::TwoLogins | ConnectError::Access(_) => {
            ("nats-login-unusable", "correct that setting, or the file that it names")
        }
        ConnectError::Unauthorized(_) => ("nats-login-refused", "use credentials that nats-server knows"),
        ConnectError::Untrusted(_) => (
            "nats-tls",
            "set NATS_CA to the authority that signed the server's certificate, and use a client certificate that it accepts",
        ),
        ConnectError::TooOld { .. } => ("nats-too-old", "upgrade nats-server, on every node of a cluster"),
        ConnectError::Unreachable(_) | ConnectError::Stopped => {
            ("nats-unreachable", "start nats-server; check that no firewall closes the port")
        }
    };
    Finding::failure(PART, code, format!("NATS_URL={shown}: {error}"), mend)
}

fn judge_jetstream(jetstream: &JetStream, now_ms: i64) -> Vec<Finding> {
    match jetstream {
        JetStream::On { at_ms, took } => {
            let what = format!("JetStream answers in {} ms", took.as_millis());
            let ahead_s = at_ms.map(|at| at.saturating_sub(now_ms) / 1000);
            [Finding::fine(PART, "jetstream", what)]
                .into_iter()
                .chain(clock(PART, "nats-server", ahead_s))
                .collect()
        }
        JetStream::Off(why) => {
            let what = format!("there is no JetStream for this user: {why}");
            let mend = "start nats-server with JetStream (-js), and enable it for the account; NATS_JS_DOMAIN selects another domain";
            vec![Finding::failure(PART, "jetstream-off", what, mend)]
        }
        // The permissions are checked next, and say more.
        JetStream::Unanswered(why) => {
            let mend = "see the permissions below; if none is missing, check that nats-server is well";
            vec![Finding::failure(
                PART,
                "jetstream-silent",
                format!("JetStream does not answer: {why}"),
                mend,
            )]
        }
    }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = facts.refused.iter().map(refused).collect();
    if findings.is_empty() {
        findings.push(Finding::fine(
            PART,
            "nats-permissions",
            "this user has every permission that it needs",
        ));
    }
    // An answer is missing because the question is not allowed, and that permission is named already.
    let silent = !facts.refused.is_empty();
    let lacks: Vec<_> = facts
        .lacks
        .iter()
        .filter(|lack| !(silent && matches!(lack, Lack::Unanswered { .. })))
        .map(|lack| lacking(lack, facts.provision))
        .collect();
    if lacks.is_empty() && !silent {
        findings.push(Finding::fine(PART, "streams", "streams, consumers and buckets are as designed"));
    }
    findings.extend(lacks);
    findings
}

fn refused(need: &Need) -> Finding {
    let what = format!("this user may not {need}");
    let mend = "allow it: deploy/nats/accounts.conf has the least privileges of each role; NATS_INBOX_PREFIX names the inbox";
    // Acks have this form only with a JetStream domain in between.
    if need.subject.starts_with("$JS.ACK.*.*.") {
        return Finding::note(PART, "nats-ack-in-a-domain", what, format!("with a JetStream domain, {mend}"));
    }
    if need.verb == Verb::Subscribe && need.subject.ends_with(".live.status") {
        let mend = format!("`whatsapp-connector status` cannot see this process without it; {mend}");
        return Finding::note(PART, "nats-status-unheard", what, mend);
    }
    if need.subject.contains(".typing.") {
        let mend =
            format!("people do not see the assistant typing without it; TYPING=off needs none; {mend}");
        return Finding::note(PART, "nats-typing-forbidden", what, mend);
    }
    Finding::failure(PART, "nats-forbidden", what, mend)
}

fn lacking(lack: &Lack, provision: Provision) -> Finding {
    match lack {
        Lack::Missing { what, .. } if provision == Provision::Create => Finding::note(
            PART,
            "stream-missing",
            format!("{what} does not exist yet"),
            "nothing to do: the start creates it",
        ),
        Lack::Missing { what, .. } => Finding::failure(
            PART,
            "stream-missing",
            format!("{what} does not exist, and this NATS_PROVISION creates nothing"),
            "run `whatsapp-connector provision`, or start once with NATS_PROVISION=create",
        ),
        Lack::Differs(difference) => different(difference, provision),
        Lack::Unanswered { what, why } => Finding::failure(
            PART,
            "stream-unknown",
            format!("{what}: {why}"),
            "check that nats-server is well, and try again",
        ),
    }
}

fn different(difference: &Difference, provision: Provision) -> Finding {
    let Difference { what, want, got, breaks_a_promise } = difference;
    let said = format!("{what} is {got}; the settings say {want}");
    let verdict =
        if *breaks_a_promise || provision == Provision::Verify { Verdict::Failure } else { Verdict::Note };
    let mend = if *breaks_a_promise {
        "it breaks a promise: change the stream or the consumer on nats-server, or create it anew"
    } else {
        "change it on nats-server, or change the setting: this program never changes what exists"
    };
    Finding::new(PART, "stream-differs", verdict, said, Some(mend.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(provision: Provision, lacks: Vec<Lack>) -> Facts {
        Facts { provision, lacks, refused: Vec::new() }
    }

    fn worst(provision: Provision, lack: Lack) -> (&'static str, Verdict) {
        let finding = judge(&facts(provision, vec![lack])).pop().unwrap();
        (finding.code, finding.verdict)
    }

    fn differs(breaks_a_promise: bool) -> Lack {
        let [what, want, got] = ["WA_IN.max_age", "7d", "1d"].map(str::to_owned);
        Lack::Differs(Difference { what, want, got, breaks_a_promise })
    }

    #[test]
    fn what_is_missing_or_different_matters_as_the_start_would_take_it() {
        let missing = || Lack::Missing { what: "stream WA_IN".to_owned(), subject: String::new() };
        assert_eq!(worst(Provision::Create, missing()), ("stream-missing", Verdict::Note));
        assert_eq!(worst(Provision::Verify, missing()), ("stream-missing", Verdict::Failure));
        assert_eq!(worst(Provision::Off, missing()), ("stream-missing", Verdict::Failure));
        assert_eq!(worst(Provision::Create, differs(false)), ("stream-differs", Verdict::Note));
        assert_eq!(worst(Provision::Create, differs(true)), ("stream-differs", Verdict::Failure));
        assert_eq!(worst(Provision::Verify, differs(false)), ("stream-differs", Verdict::Failure));
    }

    #[test]
    fn what_may_not_be_asked_is_named_once() {
        let unanswered = Lack::Unanswered { what: "stream WA_IN".to_owned(), why: "refused".to_owned() };
        assert_eq!(worst(Provision::Create, unanswered.clone()), ("stream-unknown", Verdict::Failure));
        let need = permissions::to_make("$JS.API.STREAM.INFO.WA_IN");
        let found = judge(&Facts { refused: vec![need], ..facts(Provision::Create, vec![unanswered]) });
        assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["nats-forbidden"]);
    }

    #[test]
    fn a_server_s_clock_is_compared_and_no_jetstream_is_told() {
        let on = |at_ms| JetStream::On { at_ms: Some(at_ms), took: Duration::ZERO };
        assert_eq!(judge_jetstream(&on(60_000), 0)[1].code, "clock-skew");
        assert_eq!(judge_jetstream(&on(900), 0)[1].code, "clock");
        let off = judge_jetstream(&JetStream::Off("no".to_owned()), 0);
        assert_eq!((off[0].code, off[0].verdict), ("jetstream-off", Verdict::Failure));
    }
}
