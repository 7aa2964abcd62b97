//! The session on disk, or on the bus.

use crate::bus::{Bus, ReadError};
use crate::config::Config;
use crate::edge::journal::{Journal, LoadError, Loaded, Size};
use crate::edge::{Flaw, Inspection, SessionStore, Settings, inspect, moving};
use crate::wire::{Account, now_ms};

use super::Finding;

const PART: &str = "session";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    if let SessionStore::Bus { .. } = settings.store {
        return Vec::new();
    }
    let dir = settings.auth_dir.display().to_string();
    judge(&dir, settings.account.as_str(), &inspect(&settings.auth_dir, &settings.account))
}

/// The session on the bus, if that is where it is to be. Reads and decrypts all of it, and takes nothing over.
pub(super) async fn on_bus(bus: &Bus, config: &Config, accounts: &[Account]) -> Vec<Finding> {
    let SessionStore::Bus { keys, unsafe_sync } = &config.edge.store else { return Vec::new() };
    let stream = config.subjects.stream_session();
    let mut findings = Vec::new();
    // A stream that is missing is a finding already.
    let Ok(replicas) = bus.replicas(&stream).await else { return findings };
    if replicas < 2 && !unsafe_sync {
        findings.push(Finding::failure(
            PART,
            "session-unsafe",
            format!("the stream {stream} has one replica: a power cut takes back minutes of the session, and what customers wrote stays unreadable"),
            "give the stream three replicas; or set `sync_interval: always` on nats-server, and SESSION_UNSAFE_SYNC=on",
        ));
    }
    for account in accounts {
        let journal = Journal::new(bus.clone(), &config.subjects, account, keys.clone(), Size::EDGE);
        let found = Box::pin(journal.load()).await;
        let says = found.as_ref().ok().and_then(Option::as_ref);
        let says = says.and_then(|found| moving::says_of_bus(found, account));
        findings.push(match says {
            Some(says) => {
                Finding::failure(PART, "session-elsewhere", says, "do one of these; no edge begins before")
            }
            None => kept(account.as_str(), found, now_ms()),
        });
    }
    findings
}

/// What was read of the session on the bus.
fn kept(account: &str, found: Result<Option<Loaded>, LoadError>, now_ms: i64) -> Finding {
    match found {
        Ok(Some(loaded)) => {
            let age = u64::try_from((now_ms - loaded.stored_at_ms) / 1_000).unwrap_or(0);
            let age = humantime::format_duration(std::time::Duration::from_secs(age));
            let what = format!(
                "the session of account `{account}` on the bus can be read: {} keys and values, {} KiB, written {age} ago",
                loaded.image().count(),
                loaded.bytes().div_ceil(1_024)
            );
            Finding::fine(PART, "session-kept", what)
        }
        Ok(None) => Finding::note(
            PART,
            "session-none",
            format!("there was never a session of account `{account}` on the bus"),
            "start the edge, and scan its QR code with the phone, under Linked devices",
        ),
        Err(LoadError::Bus(ReadError::Unanswered(why) | ReadError::Forbidden(why))) => Finding::failure(
            PART,
            "session-unreadable",
            format!("the session of account `{account}` on the bus is not read: {why}"),
            "give the edge's user what docs/nats.md has for it",
        ),
        Err(error) => Finding::failure(
            PART,
            "session-unreadable",
            error.to_string(),
            "give SESSION_KEY the key that it was written with, beside the new one; if that is lost, or records are, the number has to be linked again",
        ),
    }
}

fn judge(dir: &str, account: &str, found: &Inspection) -> Vec<Finding> {
    let mut findings: Vec<_> = found.flaws.iter().map(|flaw| flawed(dir, account, found, flaw)).collect();
    if found.flaws.iter().any(|flaw| matches!(flaw, Flaw::Unusable(_))) {
        return findings;
    }
    if findings.is_empty() {
        findings.push(Finding::fine(PART, "auth-dir", format!("WHATSAPP_AUTH_DIR={dir} can be used")));
    }
    let hides_it = |flaw: &Flaw| matches!(flaw, Flaw::Damaged(_) | Flaw::Elsewhere(_));
    let nobody_knows = found.flaws.iter().any(hides_it);
    findings.extend(match &found.linked {
        Some(phone) => {
            Some(Finding::fine(PART, "linked", format!("account `{account}` is linked, as {phone}")))
        }
        None if nobody_knows => None,
        None => Some(Finding::note(
            PART,
            "unlinked",
            format!("account `{account}` is not linked to a number"),
            "start the edge, and scan its QR code with the phone, under Linked devices; if WhatsApp asks for a passkey then, the console says what to do",
        )),
    });
    findings
}

fn flawed(dir: &str, account: &str, found: &Inspection, flaw: &Flaw) -> Finding {
    match flaw {
        Flaw::Unusable(error) => Finding::failure(
            PART,
            "auth-dir-unusable",
            format!("WHATSAPP_AUTH_DIR={dir} cannot be written: {error}"),
            "set it to a directory that this user may write, on a disk with free space",
        ),
        Flaw::Open(error) => Finding::failure(
            PART,
            "auth-dir-open",
            error.to_string(),
            "do that; if another person may have read it, link the number again",
        ),
        Flaw::Network(name) => Finding::failure(
            PART,
            "auth-dir-network",
            format!(
                "WHATSAPP_AUTH_DIR={dir} is on {name}, where locks and SQLite's shared memory do not work"
            ),
            "move it to a local disk or a block volume; copy the session only while the edge is stopped",
        ),
        Flaw::Taken => Finding::note(
            PART,
            "auth-dir-taken",
            format!("an edge is running on account `{account}` in {dir}"),
            "nothing to do if that is the edge you mean; a second one on this directory would end with exit code 75",
        ),
        Flaw::Elsewhere(says) => Finding::failure(
            PART,
            "session-elsewhere",
            says.clone(),
            "do one of these; an edge does not start before",
        ),
        Flaw::Damaged(why) => Finding::failure(
            PART,
            "store-damaged",
            format!("the session store {} cannot be read: {why}", found.store.display()),
            "restore it from a backup, or move it away and link the number again",
        ),
    }
}
