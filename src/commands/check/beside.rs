//! What stands beside the backend: who serves files to it (`MEDIA_URL`), and who writes voice notes down (`TRANSCRIBE_URL`).

use super::Finding;
use crate::forwarder::Links;
use crate::forwarder::backend::{ClientError, Failure, Page, TranscriberSettings, page, transcribes};
use crate::telemetry::redact;
use crate::wire::file_link::{NOT_GOOD, NOT_THERE};
use crate::wire::now_ms;

const FILES: &str = "files";
const VOICE: &str = "voice";
/// A file that there never is: those of people have an account's name in front.
const NO_FILE: &str = "/check/no-file";

/// Whether a signed address comes to a process that knows it.
pub(super) async fn files(links: &Links) -> Vec<Finding> {
    let address = shown(links.base.as_str());
    let asked = match links.to(NO_FILE, "", now_ms()).parse() {
        Ok(url) => page(url).await,
        Err(_) => return Vec::new(),
    };
    vec![match asked {
        Ok(said) => judge_files(&address, &said),
        Err(error) => no_client(FILES, &error),
    }]
}

/// Whether voice notes would be written down.
pub(super) async fn voice(settings: &TranscriberSettings) -> Vec<Finding> {
    let address = shown(settings.url.as_str());
    let address = match &settings.proxy {
        Some(proxy) => format!("{address} (through the proxy {proxy})"),
        None => address,
    };
    vec![match transcribes(settings).await {
        Ok(said) => judge_voice(&address, settings.api_key.is_some(), &said),
        Err(error) => no_client(VOICE, &error),
    }]
}

fn shown(address: &str) -> String {
    redact::addresses(address, "").trim_end_matches('/').to_owned()
}

fn no_client(part: &'static str, error: &ClientError) -> Finding {
    let what = format!("no HTTP client can be made: {error}");
    Finding::failure(part, "http-client", what, "check that this machine has its system's CA certificates")
}

fn judge_files(address: &str, said: &Result<Page, Failure>) -> Finding {
    let own = |page: &Page, words: &str| page.text == words;
    match said {
        Ok(page) if page.status == 404 && own(page, NOT_THERE) => {
            let what = format!("MEDIA_URL={address} serves files, and takes addresses that are signed here");
            Finding::fine(FILES, "files", what)
        }
        Ok(page) if page.status == 403 && own(page, NOT_GOOD) => {
            let what = format!("MEDIA_URL={address} does not take addresses that are signed here");
            let mend = "give both sides the same MEDIA_URL_SECRET, and keep both clocks in step (NTP)";
            Finding::failure(FILES, "files-signature-refused", what, mend)
        }
        Ok(page) if page.status == 503 => {
            let what = format!("MEDIA_URL={address} cannot look files up now (HTTP 503)");
            Finding::note(FILES, "files-unavailable", what, "check again when that process has NATS")
        }
        Ok(page) => {
            let what = format!(
                "at MEDIA_URL={address} something else answers than a connector that serves files (HTTP {})",
                page.status
            );
            let mend = "set MEDIA_URL to the HTTP_ADDR of a process that has MEDIA_URL_SECRET, or to a proxy that passes /media/ on to it";
            Finding::failure(FILES, "files-elsewhere", what, mend)
        }
        // The process that serves them may not have been started yet, and the backend may come there where this machine does not.
        Err(failure) => {
            let what = format!("MEDIA_URL={address} {failure}");
            let mend = "start the process that serves files; the backend has to reach this address, not this machine";
            Finding::note(FILES, "files-unreachable", what, mend)
        }
    }
}

fn judge_voice(address: &str, has_key: bool, said: &Result<Page, Failure>) -> Finding {
    let fail = |code, what: String, mend: &str| Finding::failure(VOICE, code, what, mend);
    let status = match said {
        Ok(page) => page.status,
        Err(Failure::Unreachable) => {
            let what =
                format!("no connection to TRANSCRIBE_URL={address}: refused, unknown host, or TLS failure");
            return fail("voice-unreachable", what, "start the service; check TRANSCRIBE_URL");
        }
        Err(failure) => {
            let what = format!("TRANSCRIBE_URL={address} {failure}");
            return fail("voice-silent", what, "read that service's own log");
        }
    };
    match status {
        401 | 403 if has_key => {
            let what = format!("TRANSCRIBE_URL={address} refuses TRANSCRIBE_API_KEY (HTTP {status})");
            fail("voice-key-refused", what, "set TRANSCRIBE_API_KEY to one of that service's keys")
        }
        401 | 403 => {
            let what = format!("TRANSCRIBE_URL={address} wants a key (HTTP {status})");
            fail("voice-key-refused", what, "set TRANSCRIBE_API_KEY, or TRANSCRIBE_API_KEY_FILE")
        }
        404 | 405 => {
            let what = format!("TRANSCRIBE_URL={address} does not have the endpoint (HTTP {status})");
            fail(
                "voice-no-endpoint",
                what,
                "check TRANSCRIBE_URL: `/v1/audio/transcriptions` is appended to it",
            )
        }
        300..=399 => {
            let what =
                format!("TRANSCRIBE_URL={address} redirects (HTTP {status}); redirects are never followed");
            fail("voice-redirects", what, "set TRANSCRIBE_URL to that address")
        }
        429 | 503 => {
            let what = format!("TRANSCRIBE_URL={address} is busy or down (HTTP {status})");
            Finding::note(VOICE, "voice-unavailable", what, "wait, or read that service's own log")
        }
        // Some services fail on a voice note of no length instead of refusing it.
        500..=599 => {
            let what = format!("TRANSCRIBE_URL={address} fails on a voice note of no length (HTTP {status})");
            Finding::note(
                VOICE,
                "voice-unproved",
                what,
                "send a voice note, and see whether its words are known",
            )
        }
        _ => {
            let what = format!(
                "TRANSCRIBE_URL={address} has the endpoint (HTTP {status} for a voice note of no length)"
            );
            Finding::fine(VOICE, "voice", what)
        }
    }
}
