//! The assistant's endpoint.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Finding, clock};
use crate::forwarder::RouteSettings;
use crate::forwarder::backend::{Backend, Failure, Probed, Settings};
use crate::telemetry::redact;
use crate::wire::Account;

const PART: &str = "backend";
/// An empty call should not take longer.
const SLOW: Duration = Duration::from_secs(2);
/// So many routes are asked at once.
const AT_ONCE: usize = 16;
/// The backend refuses signatures that are 300 s off. A clock that is nearly that far off is to blame, too.
const SIGNATURES_S: u64 = 240;

/// Which logins the settings have.
#[derive(Debug, Clone, Copy)]
struct Login {
    key: bool,
    secret: bool,
}

/// What an operator knows the settings of a backend by.
#[derive(Debug, Clone)]
struct Named {
    backend: String,
    url: String,
    key: String,
    /// How a key can be given.
    give_key: String,
    secret: String,
    give_secret: String,
}

impl Named {
    /// The backend of all that have no route of their own.
    fn others() -> Self {
        let own = str::to_owned;
        Self {
            backend: own("the backend"),
            url: own("BACKEND_URL"),
            key: own("API_KEY"),
            give_key: own("API_KEY, or API_KEY_FILE"),
            secret: own("WHATSAPP_WEBHOOK_SECRET"),
            give_secret: own("WHATSAPP_WEBHOOK_SECRET, or WHATSAPP_WEBHOOK_SECRET_FILE"),
        }
    }

    fn is_others(&self) -> bool {
        self.url == "BACKEND_URL"
    }

    fn route(account: &Account) -> Self {
        let of = |field: &str| format!("{field} of [{account}]");
        Self {
            backend: format!("the backend of [{account}]"),
            url: of("url"),
            key: of("api_key_file"),
            give_key: of("api_key_file"),
            secret: of("webhook_secret_file"),
            give_secret: of("webhook_secret_file"),
        }
    }
}

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    probe(settings, &Named::others()).await
}

/// Asks each route. They are many, so some at a time.
pub(super) async fn check_routes(routes: &[RouteSettings], others: &Settings) -> Vec<Finding> {
    let has_default = routes.iter().any(|route| route.account.as_str() == "default");
    let default = has_default.then(|| {
        let what = "[default] is the route of the account `default` alone; accounts without a route go to BACKEND_URL";
        Finding::note(PART, "route-default", what, "nothing to do if that is what you want")
    });
    let asked = stream::iter(routes).map(async |route: &RouteSettings| {
        let mut findings = probe(&route.backend, &Named::route(&route.account)).await;
        findings.extend(lent(route, others));
        findings
    });
    let asked: Vec<_> = asked.buffered(AT_ONCE).collect().await;
    default.into_iter().chain(asked.into_iter().flatten()).collect()
}

/// Another address gets the key that is meant for `BACKEND_URL`.
fn lent(route: &RouteSettings, others: &Settings) -> Option<Finding> {
    let account = &route.account;
    let is_same = |own: &Option<SecretString>, other: &Option<SecretString>| match (own, other) {
        (Some(own), Some(other)) => own.expose_secret() == other.expose_secret(),
        _ => false,
    };
    let key = is_same(&route.backend.api_key, &others.api_key);
    let secret = is_same(&route.backend.webhook_secret, &others.webhook_secret);
    let elsewhere = route.backend.url.origin() != others.url.origin();
    (elsewhere && (key || secret)).then(|| {
        let what = match (key, secret) {
            (true, true) => "API_KEY and the signatures of WHATSAPP_WEBHOOK_SECRET",
            (true, false) => "API_KEY",
            (false, _) => "the signatures of WHATSAPP_WEBHOOK_SECRET",
        };
        let mend = format!(
            "nothing to do if it is yours, too; else give [{account}] an api_key_file and a webhook_secret_file, or \"\" for none"
        );
        Finding::note(PART, "route-key-lent", format!("route {account}: another address than BACKEND_URL gets {what}"), mend)
    })
}

async fn probe(settings: &Settings, named: &Named) -> Vec<Finding> {
    let login = Login { key: settings.api_key.is_some(), secret: settings.webhook_secret.is_some() };
    match Backend::probe(settings).await {
        Ok(probed) => judge(named, &address(settings), login, &probed),
        Err(error) => {
            let what = format!("no HTTP client can be made: {error}");
            vec![Finding::failure(
                PART,
                "backend-client",
                what,
                "check that this machine has its system's CA certificates",
            )]
        }
    }
}

/// Without user and password; with the proxy that is in between.
fn address(settings: &Settings) -> String {
    let address = redact::addresses(settings.url.as_str(), "").trim_end_matches('/').to_owned();
    match &settings.proxy {
        Some(proxy) => format!("{address} (through the proxy {proxy})"),
        None => address,
    }
}

fn judge(named: &Named, address: &str, login: Login, probed: &Probed) -> Vec<Finding> {
    let fail = |code, what: String, mend: &str| vec![Finding::failure(PART, code, what, mend)];
    let Named { backend, url, .. } = named;
    let said = match &probed.answer {
        Ok(said) => said,
        Err(Failure::Unreachable) => {
            let what = format!("no connection to {url}={address}: refused, unknown host, or TLS failure");
            let mend = if address.contains("(through the proxy ") {
                format!(
                    "start the assistant; check {url} and the proxy; name the host in NO_PROXY if it needs no proxy"
                )
            } else {
                format!("start the assistant; check {url}")
            };
            return fail("backend-unreachable", what, &mend);
        }
        Err(failure) => {
            let what = format!("{url}={address} {failure}");
            return fail("backend-silent", what, "read the assistant's own log");
        }
    };
    let status = said.status;
    let mut findings = match status {
        401 | 403 if said.about_signature => signature_refused(named, login, probed),
        401 | 403 => key_refused(named, login, status),
        404 | 405 => {
            let there = match probed.page {
                Some(200..=299) => ", but a service with pages of its own is there",
                _ => "",
            };
            let what = format!("{url}={address} does not have the endpoint (HTTP {status}){there}");
            let mend = format!("check {url}: `/v1/channels/whatsapp/gateway/inbound` is appended to it");
            fail("backend-no-endpoint", what, &mend)
        }
        429 | 503 => {
            let what = format!("{backend} answers that it is busy or down (HTTP {status})");
            fail("backend-unavailable", what, "wait, or read the assistant's own log")
        }
        300..=399 => {
            let what = format!(
                "{url}={address} redirects to another address (HTTP {status}); redirects are never followed"
            );
            fail("backend-redirects", what, &format!("set {url} to that address"))
        }
        500..=599 => {
            let what = format!("{url}={address} fails on an empty call (HTTP {status})");
            fail("backend-failing", what, "read the assistant's own log")
        }
        // The backend refuses an empty call because it is empty, but only after it has accepted the login.
        _ => let_in((named, address), login, probed, status),
    };
    let key = findings.iter().any(|finding| finding.code == "backend-signature-clock");
    findings.extend(clock(PART, backend, probed.ahead_s).filter(|_| !key));
    findings
}

fn key_refused(named: &Named, login: Login, status: u16) -> Vec<Finding> {
    let Named { backend, key, give_key, .. } = named;
    let (what, mend) = if login.key {
        (format!("{backend} refuses {key}"), format!("set {key} to one of the assistant's keys"))
    } else {
        (format!("{backend} wants a key, and {key} is not set"), format!("set {give_key}"))
    };
    vec![Finding::failure(PART, "backend-key-refused", format!("{what} (HTTP {status})"), mend)]
}

fn signature_refused(named: &Named, login: Login, probed: &Probed) -> Vec<Finding> {
    let Named { backend, secret, give_secret, .. } = named;
    let off = probed.ahead_s.unwrap_or_default();
    let (code, what, mend) = if !login.secret {
        let what = format!("{backend} wants signatures, and {secret} is not set");
        ("backend-signature-refused", what, format!("set {give_secret}"))
    } else if off.unsigned_abs() > SIGNATURES_S {
        let what = format!("{backend} refuses the signature: this machine's clock is {} s off", off.abs());
        let mend = "keep both clocks in step (NTP): a signature is valid for 300 s".to_owned();
        ("backend-signature-clock", what, mend)
    } else {
        let what = format!("{backend} refuses the signature");
        ("backend-signature-refused", what, format!("give both sides the same {secret}"))
    };
    vec![Finding::failure(PART, code, what, mend)]
}

fn let_in((named, address): (&Named, &str), login: Login, probed: &Probed, status: u16) -> Vec<Finding> {
    let Named { backend, url, .. } = named;
    let took = probed.took.as_millis();
    let what = format!("{url}={address} has the endpoint; an empty call took {took} ms (HTTP {status})");
    let mut findings = vec![Finding::fine(PART, "backend", what)];
    if probed.took > SLOW {
        let what = format!("{backend} took {took} ms for an empty call");
        findings.push(Finding::note(
            PART,
            "backend-slow",
            what,
            "check whether it is overloaded or far away",
        ));
    }
    let names = match login {
        Login { key: true, secret: true } => "key and signature",
        Login { secret: true, .. } => "signature",
        _ => "key",
    };
    findings.push(match probed.refuses_strangers {
        Some(true) => Finding::fine(
            PART,
            "backend-key",
            match named.is_others() {
                true => format!("{names} accepted; a call without {names} is refused"),
                false => format!("{backend}: {names} accepted; a call without {names} is refused"),
            },
        ),
        Some(false) => Finding::note(
            PART,
            "backend-key-unproved",
            format!(
                "{backend} answers a call without {names} alike, so this does not prove that yours is right"
            ),
            "nothing to do if the assistant's authentication is off on purpose",
        ),
        None => Finding::fine(PART, "backend-key", format!("no key is set, and {backend} asks for none")),
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::Verdict;
    use crate::forwarder::backend::Said;

    const BOTH: Login = Login { key: true, secret: true };
    const NONE: Login = Login { key: false, secret: false };

    fn probed(status: u16) -> Probed {
        Probed {
            answer: Ok(Said { status, about_signature: false }),
            page: Some(200),
            took: Duration::from_millis(3),
            ahead_s: Some(0),
            refuses_strangers: Some(true),
        }
    }

    fn first(login: Login, probed: &Probed) -> (&'static str, Verdict) {
        let first = judge(&Named::others(), "http://h", login, probed).remove(0);
        (first.code, first.verdict)
    }

    #[test]
    fn a_row_per_answer() {
        for (status, code) in [
            (401, "backend-key-refused"),
            (403, "backend-key-refused"),
            (404, "backend-no-endpoint"),
            (405, "backend-no-endpoint"),
            (429, "backend-unavailable"),
            (503, "backend-unavailable"),
            (307, "backend-redirects"),
            (500, "backend-failing"),
            (502, "backend-failing"),
        ] {
            assert_eq!(first(BOTH, &probed(status)), (code, Verdict::Failure), "{status}");
        }
        for status in [400, 413, 415, 422, 200] {
            assert_eq!(first(BOTH, &probed(status)), ("backend", Verdict::Fine), "{status}");
        }
        for failure in [Failure::Timeout, Failure::Broken] {
            let probed = Probed { answer: Err(failure), ..probed(0) };
            assert_eq!(first(BOTH, &probed), ("backend-silent", Verdict::Failure));
        }
        let unreachable = Probed { answer: Err(Failure::Unreachable), ..probed(0) };
        assert_eq!(first(BOTH, &unreachable), ("backend-unreachable", Verdict::Failure));
    }

    #[test]
    fn a_refused_signature_is_told_from_a_wrong_clock_and_a_missing_secret() {
        let refused = |ahead_s| Probed {
            answer: Ok(Said { status: 401, about_signature: true }),
            ahead_s: Some(ahead_s),
            ..probed(0)
        };
        let codes = |login, ahead_s| -> Vec<_> {
            judge(&Named::others(), "http://h", login, &refused(ahead_s))
                .iter()
                .map(|finding| finding.code)
                .collect()
        };
        assert_eq!(codes(BOTH, 0), ["backend-signature-refused", "clock"]);
        assert_eq!(codes(BOTH, -400), ["backend-signature-clock"]);
        assert_eq!(codes(NONE, 0), ["backend-signature-refused", "clock"]);
        let missing = judge(&Named::others(), "http://h", NONE, &refused(0)).remove(0);
        assert!(missing.what.contains("WHATSAPP_WEBHOOK_SECRET is not set"), "{missing:?}");
    }

    #[test]
    fn a_key_that_nobody_looks_at_proves_nothing() {
        let second = |login, refuses_strangers| {
            let found =
                judge(&Named::others(), "http://h", login, &Probed { refuses_strangers, ..probed(422) })
                    .remove(1);
            (found.code, found.verdict)
        };
        assert_eq!(second(BOTH, Some(true)), ("backend-key", Verdict::Fine));
        assert_eq!(second(BOTH, Some(false)), ("backend-key-unproved", Verdict::Note));
        assert_eq!(second(NONE, None), ("backend-key", Verdict::Fine));
        let slow = Probed { took: Duration::from_secs(3), ..probed(422) };
        assert_eq!(judge(&Named::others(), "http://h", BOTH, &slow)[1].code, "backend-slow");
    }
}
