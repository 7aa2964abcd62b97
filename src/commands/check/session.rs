//! The session on disk.

use crate::edge::{Flaw, Inspection, Settings, inspect};

use super::Finding;

const PART: &str = "session";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
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
        Flaw::Damaged(why) => Finding::failure(
            PART,
            "store-damaged",
            format!("the session store {} cannot be read: {why}", found.store.display()),
            "restore it from a backup, or move it away and link the number again",
        ),
    }
}
