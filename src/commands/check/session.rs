//! The session on disk.

use crate::edge::{Flaw, Inspection, Settings, inspect};

use super::Finding;

const PART: &str = "session";

pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let dir = settings.auth_dir.display().to_string();
    judge(&dir, settings.account.as_str(), &inspect(&settings.auth_dir, &settings.account))
}

fn judge(dir: &str, account: &str, found: &Inspection) -> Vec<Finding> {
    let mut findings: Vec<_> = found.flaws.iter().map(|flaw| flawed(dir, account, found, flaw)).collect();
    if found.flaws.iter().any(|flaw| matches!(flaw, Flaw::Unusable(_))) {
        return findings;
    }
    if findings.is_empty() {
        findings.push(Finding::fine(PART, "auth-dir", format!("WHATSAPP_AUTH_DIR={dir} can be used")));
    }
    let damaged = found.flaws.iter().any(|flaw| matches!(flaw, Flaw::Damaged(_)));
    findings.extend(match &found.linked {
        Some(phone) => {
            Some(Finding::fine(PART, "linked", format!("account `{account}` is linked, as {phone}")))
        }
        None if damaged => None,
        None => Some(Finding::note(
            PART,
            "unlinked",
            format!("account `{account}` is not linked to a number"),
            "start the edge and scan the QR code that it shows, on the phone under Linked devices",
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
            "name a directory that this user may write, on a disk with room",
        ),
        Flaw::Open(error) => Finding::failure(
            PART,
            "auth-dir-open",
            error.to_string(),
            "do that; link anew if somebody may have read it",
        ),
        Flaw::Network(name) => Finding::failure(
            PART,
            "auth-dir-network",
            format!(
                "WHATSAPP_AUTH_DIR={dir} is on {name}, where locks and SQLite's shared memory do not hold"
            ),
            "put it on a local disk or on a block volume; the session may be copied while the edge is stopped",
        ),
        Flaw::Taken => Finding::note(
            PART,
            "auth-dir-taken",
            format!("an edge is running on account `{account}` in {dir}"),
            "a second one on the same directory would end with exit code 75; that is fine if you meant the running one",
        ),
        Flaw::Damaged(why) => Finding::failure(
            PART,
            "store-damaged",
            format!("the session store {} cannot be read: {why}", found.store.display()),
            "restore it from a backup, or move it away and link the number again",
        ),
    }
}
