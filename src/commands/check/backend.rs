//! The assistant's endpoint.

use std::time::Duration;

use super::{Finding, clock};
use crate::forwarder::backend::{Backend, Failure, Probed, Settings};
use crate::telemetry::redact;

const PART: &str = "backend";
/// An empty call should not take longer.
const SLOW: Duration = Duration::from_secs(2);
/// The backend refuses signatures that are 300 s off. A clock that is nearly that far off is to blame, too.
const SIGNATURES_S: u64 = 240;

/// Which logins the settings have.
#[derive(Debug, Clone, Copy)]
struct Login {
    key: bool,
    secret: bool,
}

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let login = Login { key: settings.api_key.is_some(), secret: settings.webhook_secret.is_some() };
    match Backend::probe(settings).await {
        Ok(probed) => judge(&address(settings), login, &probed),
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

fn judge(address: &str, login: Login, probed: &Probed) -> Vec<Finding> {
    let fail = |code, what: String, mend: &str| vec![Finding::failure(PART, code, what, mend)];
    let said = match &probed.answer {
        Ok(said) => said,
        Err(Failure::Unreachable) => {
            let what =
                format!("no connection to BACKEND_URL={address}: refused, unknown host, or TLS failure");
            let mend = if address.contains("(through the proxy ") {
                "start the assistant; check BACKEND_URL and the proxy; name the host in NO_PROXY if it needs no proxy"
            } else {
                "start the assistant; check BACKEND_URL"
            };
            return fail("backend-unreachable", what, mend);
        }
        Err(failure) => {
            let what = format!("BACKEND_URL={address} {failure}");
            return fail("backend-silent", what, "read the assistant's own log");
        }
    };
    let status = said.status;
    let mut findings = match status {
        401 | 403 if said.about_signature => signature_refused(login, probed),
        401 | 403 => key_refused(login, status),
        404 | 405 => {
            let there = match probed.page {
                Some(200..=299) => ", but a service with pages of its own is there",
                _ => "",
            };
            let what = format!("BACKEND_URL={address} does not have the endpoint (HTTP {status}){there}");
            let mend = "check BACKEND_URL: `/v1/channels/whatsapp/gateway/inbound` is appended to it";
            fail("backend-no-endpoint", what, mend)
        }
        429 | 503 => {
            let what = format!("the backend answers that it is busy or down (HTTP {status})");
            fail("backend-unavailable", what, "wait, or read the assistant's own log")
        }
        300..=399 => {
            let what = format!(
                "BACKEND_URL={address} redirects to another address (HTTP {status}); redirects are never followed"
            );
            fail("backend-redirects", what, "set BACKEND_URL to that address")
        }
        500..=599 => {
            let what = format!("BACKEND_URL={address} fails on an empty call (HTTP {status})");
            fail("backend-failing", what, "read the assistant's own log")
        }
        // The backend refuses an empty call because it is empty, but only after it has accepted the login.
        _ => let_in(address, login, probed, status),
    };
    let key = findings.iter().any(|finding| finding.code == "backend-signature-clock");
    findings.extend(clock(PART, "the backend", probed.ahead_s).filter(|_| !key));
    findings
}

fn key_refused(login: Login, status: u16) -> Vec<Finding> {
    let (what, mend) = if login.key {
        ("the backend refuses API_KEY", "set API_KEY to one of the assistant's keys")
    } else {
        ("the backend wants a key, and API_KEY is not set", "set API_KEY, or API_KEY_FILE")
    };
    vec![Finding::failure(PART, "backend-key-refused", format!("{what} (HTTP {status})"), mend)]
}

fn signature_refused(login: Login, probed: &Probed) -> Vec<Finding> {
    let off = probed.ahead_s.unwrap_or_default();
    let (code, what, mend) = if !login.secret {
        let what = "the backend wants signatures, and WHATSAPP_WEBHOOK_SECRET is not set".to_owned();
        ("backend-signature-refused", what, "set WHATSAPP_WEBHOOK_SECRET, or WHATSAPP_WEBHOOK_SECRET_FILE")
    } else if off.unsigned_abs() > SIGNATURES_S {
        let what = format!("the backend refuses the signature: this machine's clock is {} s off", off.abs());
        ("backend-signature-clock", what, "keep both clocks in step (NTP): a signature is valid for 300 s")
    } else {
        let what = "the backend refuses the signature".to_owned();
        ("backend-signature-refused", what, "give both sides the same WHATSAPP_WEBHOOK_SECRET")
    };
    vec![Finding::failure(PART, code, what, mend)]
}

fn let_in(address: &str, login: Login, probed: &Probed, status: u16) -> Vec<Finding> {
    let took = probed.took.as_millis();
    let what =
        format!("BACKEND_URL={address} has the endpoint; an empty call took {took} ms (HTTP {status})");
    let mut findings = vec![Finding::fine(PART, "backend", what)];
    if probed.took > SLOW {
        let what = format!("the backend took {took} ms for an empty call");
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
        Some(true) => {
            Finding::fine(PART, "backend-key", format!("{names} accepted; a call without {names} is refused"))
        }
        Some(false) => Finding::note(
            PART,
            "backend-key-unproved",
            format!(
                "the backend answers a call without {names} alike, so this does not prove that yours is right"
            ),
            "nothing to do if the assistant's authentication is off on purpose",
        ),
        None => Finding::fine(PART, "backend-key", "no key is set, and the backend asks for none"),
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
        let first = judge("http://h", login, probed).remove(0);
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
            judge("http://h", login, &refused(ahead_s)).iter().map(|finding| finding.code).collect()
        };
        assert_eq!(codes(BOTH, 0), ["backend-signature-refused", "clock"]);
        assert_eq!(codes(BOTH, -400), ["backend-signature-clock"]);
        assert_eq!(codes(NONE, 0), ["backend-signature-refused", "clock"]);
        let missing = judge("http://h", NONE, &refused(0)).remove(0);
        assert!(missing.what.contains("WHATSAPP_WEBHOOK_SECRET is not set"), "{missing:?}");
    }

    #[test]
    fn a_key_that_nobody_looks_at_proves_nothing() {
        let second = |login, refuses_strangers| {
            let found = judge("http://h", login, &Probed { refuses_strangers, ..probed(422) }).remove(1);
            (found.code, found.verdict)
        };
        assert_eq!(second(BOTH, Some(true)), ("backend-key", Verdict::Fine));
        assert_eq!(second(BOTH, Some(false)), ("backend-key-unproved", Verdict::Note));
        assert_eq!(second(NONE, None), ("backend-key", Verdict::Fine));
        let slow = Probed { took: Duration::from_secs(3), ..probed(422) };
        assert_eq!(judge("http://h", BOTH, &slow)[1].code, "backend-slow");
    }
}
