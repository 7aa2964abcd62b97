//! A session goes elsewhere, and the conversation goes on: to the bus and back, into a file and out of it, under another
//! key. Whenever the command dies, an edge begins in one place, or in none until the command is run again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::session_on_bus::KEY;
use crate::support::oracle::Written;
use crate::support::{
    Connector, Customer, PATIENCE, Plan, Role, Stage, eventually, spawn, spawn_command, warning,
};

/// Another key: 32 times 8.
const OTHER: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
/// What an edge on the bus has beside what all have. What a file would be in cannot be made.
const ON_BUS: [(&str, &str); 2] = [("SESSION_STORE", "nats"), ("WHATSAPP_AUTH_DIR", "/proc/nowhere")];
/// `EX_TEMPFAIL`: an edge is at work.
const AT_WORK: i32 = 75;

fn plan() -> Plan {
    Stage::plan().setting("SESSION_KEY", KEY).setting("SESSION_UNSAFE_SYNC", "on")
}

/// How a command ended, and what it said.
#[derive(Debug)]
struct Ended {
    code: i32,
    said: Value,
    told: String,
}

impl Ended {
    #[track_caller]
    fn well(self, state: &str) -> Value {
        assert_eq!((self.code, self.said["state"].as_str()), (0, Some(state)), "{self:?}");
        self.said
    }

    #[track_caller]
    fn refused(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(parts.iter().all(|part| self.told.contains(part)), "{parts:?}: {self:?}");
    }
}

fn settings(stage: &Stage, own: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let mut settings = stage.settings().clone();
    settings.remove("RUST_LOG");
    settings.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings
}

/// Runs `session` with these arguments.
async fn session_with(stage: &Stage, arguments: &[&str], own: &[(&str, &str)]) -> Ended {
    let arguments = [&["session"], arguments].concat();
    let mut process = spawn_command(&arguments, &settings(stage, own), stage.dir());
    let code = process.end(PATIENCE * 2).await.code().expect("a code");
    let said = serde_json::from_str(process.stdout().trim()).unwrap_or_default();
    Ended { code, said, told: process.stderr() }
}

async fn session(stage: &Stage, arguments: &[&str]) -> Ended {
    session_with(stage, arguments, &[]).await
}

/// The same, killed at this point.
async fn killed(stage: &Stage, arguments: &[&str], point: &str, own: &[(&str, &str)]) {
    let arguments = [&["session"], arguments].concat();
    let own = [own, &[("CRASH_AT", point)]].concat();
    let mut process = spawn_command(&arguments, &settings(stage, &own), stage.dir());
    process.end_by_kill(PATIENCE).await;
}

/// What `check` finds of the session, in the directory and on the bus.
async fn found(stage: &Stage) -> (String, String) {
    let find = async |store: &str| {
        let mut process = spawn_command(
            &["check", "edge", "--json"],
            &settings(stage, &[("SESSION_STORE", store)]),
            stage.dir(),
        );
        process.end(PATIENCE).await;
        let report: Value = serde_json::from_str(process.stdout().trim()).expect("JSON");
        let codes = report["findings"].as_array().expect("findings").iter();
        let mut codes = codes.filter_map(|finding| finding["code"].as_str());
        let known = ["linked", "unlinked", "session-elsewhere", "session-kept", "session-none"];
        codes.find(|code| known.contains(code)).unwrap_or("nothing").to_owned()
    };
    (find("file").await, find("nats").await)
}

async fn said(customer: &Customer, text: &str, answers: usize) -> Written {
    let id = customer.write(text).await;
    customer.receives(answers).await;
    Written::echoed(customer.phone(), id, text)
}

async fn on_bus(stage: &Stage) -> Connector {
    let mut edge = stage.start_with(Role::Edge, &ON_BUS).await;
    edge.ready().await;
    edge
}

async fn in_file(stage: &Stage) -> Connector {
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    edge
}

/// An edge that is linked and has talked, and has stopped; a forwarder.
async fn talked(stage: &Stage, own: &[(&str, &str)]) -> (Connector, Customer, Vec<Written>) {
    let mut edge = stage.start_with(Role::Edge, own).await;
    let forwarder = stage.start(Role::Forwarder).await;
    edge.link(&stage.simulator).await;
    let customer = stage.customer().await;
    let written = vec![said(&customer, "uno", 1).await];
    edge.stop().await;
    (forwarder, customer, written)
}

/// Nobody has seen a message that cannot be read, and nothing is lost, doubled or in another order.
async fn assert_well(stage: &Stage, customer: &Customer, written: &[Written]) {
    stage.evidence(written.len(), [customer]).await.assert_kept(written);
    for counter in ["undecryptable", "retry_requests"] {
        assert_eq!(stage.simulator.counter(counter).await, 0, "{counter}");
    }
}

/// An edge that does not start, and says why.
async fn does_not_start(stage: &Stage, says: &str) {
    let mut edge = spawn(Role::Edge, &settings(stage, &[]), stage.dir());
    assert_eq!(edge.end(PATIENCE).await.code(), Some(78));
    assert!(edge.stderr().contains(says), "{}", edge.stderr());
}

/// An edge on the bus that does not begin, says why, and asks nobody to link.
async fn does_not_begin(stage: &Stage, says: &str) {
    stage.logs.expects("the session cannot be taken over from the bus; trying again");
    let edge = stage.start_with(Role::Edge, &ON_BUS).await;
    eventually("word of the move", PATIENCE, async || {
        let log = edge.process.stderr();
        if log.contains(says) { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(edge.link_state().await["qr"].is_null(), "nobody is asked to link again");
    edge.stop().await;
}

fn auth(stage: &Stage) -> PathBuf {
    PathBuf::from(&stage.settings()["WHATSAPP_AUTH_DIR"])
}

#[tokio::test]
async fn a_session_moves_to_the_bus_and_back_and_the_conversation_goes_on() {
    let stage = plan().set().await;
    stage.logs.expects(warning::CANNOT_GO_ON);
    let (_forwarder, customer, mut written) = talked(&stage, &[]).await;

    let moved = session(&stage, &["move", "--to", "nats"]).await.well("moved");
    assert_eq!((moved["from"].as_str(), moved["to"].as_str()), (Some("file"), Some("nats")));
    assert!(moved["linked"].as_str().expect("a number").starts_with('…'), "{moved}");
    let aside = Path::new(moved["file"].as_str().expect("the old file"));
    assert!(aside.exists() && !auth(&stage).join("default.db").exists());
    does_not_start(&stage, "it was moved to the bus").await;
    let edge = on_bus(&stage).await;
    written.push(said(&customer, "dos", 2).await);
    edge.stop().await;

    // What is written meanwhile waits at WhatsApp.
    let id = customer.write("tres").await;
    written.push(Written::echoed(customer.phone(), id, "tres"));
    session(&stage, &["move", "--to", "file"]).await.well("moved");
    does_not_begin(&stage, "it was moved to").await;
    let store = auth(&stage).join("default.db");
    let bytes = std::fs::read(&store).expect("the store");
    assert!(bytes.starts_with(b"SQLite format 3\0"), "any version opens it");
    assert_eq!(std::fs::metadata(&store).expect("the store").permissions().mode() & 0o777, 0o600);
    assert!(auth(&stage).join("default.linked").exists());
    let edge = in_file(&stage).await;
    customer.receives(3).await;
    written.push(said(&customer, "cuatro", 4).await);
    edge.stop().await;

    // And once more: what was moved away may come again.
    session(&stage, &["move", "--to", "nats"]).await.well("moved");
    session(&stage, &["move", "--to", "nats"]).await.well("already-moved");
    let edge = on_bus(&stage).await;
    written.push(said(&customer, "cinco", 5).await);
    assert!(edge.link_state().await["qr"].is_null(), "nobody is asked to link again");
    assert_well(&stage, &customer, &written).await;
}

/// A number with a file becomes one of a pool, and leaves it again.
#[tokio::test]
async fn a_session_moves_into_a_pool_and_out_of_it_while_its_account_is_paused() {
    let stage = plan().set().await;
    let (_forwarder, customer, mut written) = talked(&stage, &[]).await;
    session(&stage, &["move", "--to", "nats"]).await.well("moved");

    let pool = [&ON_BUS[..], &[("WHATSAPP_ACCOUNTS", "*"), ("SERVICE", "on")]].concat();
    let edge = stage.start_with(Role::Edge, &pool).await;
    assert_eq!(stage.command(&["accounts", "add", "default"]).await.1, 0);
    written.push(said(&customer, "dos", 2).await);
    session(&stage, &["move", "--to", "file"]).await.refused(AT_WORK, &["is at work"]);

    assert_eq!(stage.command(&["accounts", "pause", "default"]).await.1, 0);
    eventually("the account to be nobody's", PATIENCE, async || {
        let moved = session(&stage, &["move", "--to", "file"]).await;
        if moved.code == 0 { Ok(()) } else { Err(moved.told) }
    })
    .await;
    // Resumed too early, or never taken out of the pool: its edges leave it alone, and nobody is shown a QR code.
    stage.logs.expects("the session cannot be taken over from the bus");
    stage.logs.may_have("the account does not start here and is parked");
    assert_eq!(stage.command(&["accounts", "resume", "default"]).await.1, 0);
    eventually("word of the move", PATIENCE, async || {
        let log = edge.process.stderr();
        if log.contains("it was moved to") { Ok(()) } else { Err(log) }
    })
    .await;
    let (link, code) = stage.command(&["link"]).await;
    assert!(link["qr"].is_null() && code != 0, "{link}");
    edge.stop().await;
    let edge = in_file(&stage).await;
    written.push(said(&customer, "tres", 3).await);
    edge.stop().await;
    assert_well(&stage, &customer, &written).await;
}

#[tokio::test]
async fn nothing_is_moved_while_an_edge_is_at_work_in_a_directory() {
    let stage = plan().set().await;
    let (_forwarder, customer, mut written) = talked(&stage, &[]).await;
    let edge = in_file(&stage).await;
    session(&stage, &["move", "--to", "nats"]).await.refused(AT_WORK, &["another edge is running"]);
    session(&stage, &["export", "--out", "out"]).await.refused(AT_WORK, &["another edge is running"]);
    // From another directory it is the lease that tells.
    let elsewhere = stage.dir().join("elsewhere").display().to_string();
    let own = [("WHATSAPP_AUTH_DIR", elsewhere.as_str())];
    session_with(&stage, &["move", "--to", "file"], &own).await.refused(AT_WORK, &["is at work"]);
    written.push(said(&customer, "dos", 2).await);
    assert_well(&stage, &customer, &written).await;
    edge.stop().await;
}

#[tokio::test]
async fn nothing_is_moved_while_an_edge_is_at_work_on_the_bus() {
    let stage = plan().set().await;
    let (_forwarder, customer, mut written) = talked(&stage, &ON_BUS).await;
    let nats = [("SESSION_STORE", "nats")];
    let edge = on_bus(&stage).await;
    session(&stage, &["move", "--to", "file"]).await.refused(AT_WORK, &["is at work", "waiting"]);
    session_with(&stage, &["rekey"], &nats).await.refused(AT_WORK, &["is at work"]);
    session_with(&stage, &["export", "--out", "out"], &nats).await.refused(AT_WORK, &["is at work"]);
    written.push(said(&customer, "dos", 2).await);
    assert_well(&stage, &customer, &written).await;
    edge.stop().await;
}

/// A test for each point at which a move is killed: what is found then in the directory and on the bus.
macro_rules! moves_killed_at {
    ($($name:ident: $to:literal $point:literal leaves $file:literal $bus:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                move_killed_at($to, $point, ($file, $bus)).await;
            }
        )*
    };
}

moves_killed_at! {
    to_the_bus_killed_with_the_lease: "nats" "move.locked" leaves "linked" "session-none";
    to_the_bus_killed_before_the_rows: "nats" "move.begun" leaves "linked" "session-elsewhere";
    to_the_bus_killed_after_the_rows: "nats" "move.staged" leaves "linked" "session-elsewhere";
    to_the_bus_killed_after_the_word_in_the_directory:
        "nats" "move.marked" leaves "session-elsewhere" "session-elsewhere";
    to_the_bus_killed_after_the_file_is_set_aside:
        "nats" "move.left" leaves "session-elsewhere" "session-elsewhere";
    to_the_bus_killed_at_the_end: "nats" "move.opened" leaves "session-elsewhere" "session-kept";
    to_a_file_killed_with_the_lease: "file" "move.locked" leaves "unlinked" "session-kept";
    to_a_file_killed_before_the_rows: "file" "move.begun" leaves "session-elsewhere" "session-kept";
    to_a_file_killed_after_the_rows: "file" "move.staged" leaves "session-elsewhere" "session-kept";
    to_a_file_killed_after_the_word_on_the_bus:
        "file" "move.marked" leaves "session-elsewhere" "session-elsewhere";
    to_a_file_killed_after_the_file_is_in_its_place:
        "file" "move.left" leaves "session-elsewhere" "session-elsewhere";
    to_a_file_killed_after_the_ring_is_cleared:
        "file" "move.cleared" leaves "session-elsewhere" "session-elsewhere";
    to_a_file_killed_at_the_end: "file" "move.opened" leaves "linked" "session-elsewhere";
}

async fn move_killed_at(to: &str, point: &str, leaves: (&str, &str)) {
    let stage = plan().set().await;
    let own = if to == "file" { &ON_BUS[..] } else { &[] };
    let (_forwarder, customer, mut written) = talked(&stage, own).await;
    let command = ["move", "--to", to];
    killed(&stage, &command, point, &[]).await;
    let (file, bus) = found(&stage).await;
    assert_eq!((file.as_str(), bus.as_str()), leaves);
    assert!(file != "linked" || bus != "session-kept", "two places have it");

    let state = if point == "move.opened" { "already-moved" } else { "moved" };
    session(&stage, &command).await.well(state);
    let (file, bus) = found(&stage).await;
    let want =
        if to == "file" { ("linked", "session-elsewhere") } else { ("session-elsewhere", "session-kept") };
    assert_eq!((file.as_str(), bus.as_str()), want);
    let edge = if to == "file" { in_file(&stage).await } else { on_bus(&stage).await };
    written.push(said(&customer, "dos", 2).await);
    assert!(edge.link_state().await["qr"].is_null(), "nobody is asked to link again");
    assert_well(&stage, &customer, &written).await;
}

/// What was staged is old by then. If it were used, keys would be used twice.
#[tokio::test]
async fn an_edge_that_goes_on_after_a_killed_move_is_what_the_next_one_moves() {
    let stage = plan().set().await;
    let (_forwarder, customer, mut written) = talked(&stage, &[]).await;
    killed(&stage, &["move", "--to", "nats"], "move.staged", &[]).await;
    let edge = in_file(&stage).await;
    for text in ["dos", "tres"] {
        written.push(said(&customer, text, written.len() + 1).await);
    }
    edge.stop().await;
    session(&stage, &["move", "--to", "nats"]).await.well("moved");
    let edge = on_bus(&stage).await;
    written.push(said(&customer, "cuatro", 4).await);
    edge.stop().await;

    killed(&stage, &["move", "--to", "file"], "move.staged", &[]).await;
    // The dead command's lease has to run out.
    let edge = on_bus(&stage).await;
    for text in ["cinco", "seis"] {
        written.push(said(&customer, text, written.len() + 1).await);
    }
    edge.stop().await;
    session(&stage, &["move", "--to", "file"]).await.well("moved");
    let _edge = in_file(&stage).await;
    written.push(said(&customer, "siete", 7).await);
    assert_well(&stage, &customer, &written).await;
}

#[tokio::test]
async fn a_session_that_is_there_is_replaced_only_if_that_is_said() {
    let stage = plan().set().await;
    let (_forwarder, customer, mut written) = talked(&stage, &ON_BUS).await;
    // A second device of the same number.
    let mut edge = stage.start(Role::Edge).await;
    edge.link(&stage.simulator).await;
    written.push(said(&customer, "dos", 2).await);
    edge.stop().await;
    let before = found(&stage).await;
    assert_eq!((before.0.as_str(), before.1.as_str()), ("linked", "session-kept"));
    session(&stage, &["move", "--to", "nats"]).await.refused(1, &["the bus has a session", "--replace"]);
    session(&stage, &["move", "--to", "file"])
        .await
        .refused(1, &["WHATSAPP_AUTH_DIR has a session", "--replace"]);
    assert_eq!(found(&stage).await, before);
    session(&stage, &["move", "--to", "nats", "--replace"]).await.well("moved");
    let _edge = on_bus(&stage).await;
    let id = customer.write("tres").await;
    written.push(Written::echoed(customer.phone(), id, "tres"));
    customer.receives(3).await;
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
}

#[tokio::test]
async fn nothing_is_moved_where_nothing_is_or_where_it_would_not_be_safe() {
    let stage = plan().set().await;
    let nobody = "no session of account `default`";
    session_with(&stage, &["rekey"], &[("SESSION_STORE", "nats")]).await.refused(1, &[nobody]);
    session(&stage, &["move", "--to", "nats"]).await.refused(1, &[nobody]);
    session(&stage, &["move", "--to", "file"]).await.refused(1, &[nobody]);
    let safe = [("SESSION_UNSAFE_SYNC", "off")];
    session_with(&stage, &["move", "--to", "nats"], &safe)
        .await
        .refused(78, &["one replica", "SESSION_UNSAFE_SYNC"]);
    session_with(&stage, &["move", "--to", "nats"], &[("SESSION_KEY", "")])
        .await
        .refused(78, &["SESSION_KEY"]);
}

#[tokio::test]
async fn a_session_goes_into_a_file_and_out_of_it_elsewhere() {
    let stage = plan().set().await;
    let (_forwarder, customer, mut written) = talked(&stage, &[]).await;
    // Where commands run.
    let work = stage.dir().join("work");
    let out = work.join("default.session");
    let export = ["export", "--out", "default.session"];
    let import = ["import", "--in", "default.session"];
    let nats = [("SESSION_STORE", "nats")];
    session(&stage, &export).await.well("exported");
    assert_eq!(std::fs::metadata(&out).expect("the file").permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&out).expect("the file");
    assert!(!bytes.windows(8).any(|part| part == b"5491112\0" || part == b"SQLite f"));
    session(&stage, &export).await.refused(1, &["exists already"]);

    session_with(&stage, &import, &[nats[0], ("SESSION_KEY", OTHER)])
        .await
        .refused(1, &["a key that SESSION_KEY does not have"]);
    session_with(&stage, &[&import[..], &["--account", "other"]].concat(), &nats)
        .await
        .refused(1, &["that of the account `default`"]);
    let garbage = work.join("garbage");
    std::fs::write(&garbage, "whatever".repeat(100)).expect("a file");
    session_with(&stage, &["import", "--in", "garbage"], &nats)
        .await
        .refused(1, &["no file that `session export` has made"]);
    std::fs::write(&garbage, &bytes[..bytes.len() - 1]).expect("a file");
    session_with(&stage, &["import", "--in", "garbage"], &nats).await.refused(1, &["damaged"]);
    assert_eq!(found(&stage).await.1, "nothing", "there is not even a stream");

    session_with(&stage, &import, &nats).await.well("imported");
    // Once more is nothing new.
    session_with(&stage, &import, &nats).await.well("imported");
    let edge = on_bus(&stage).await;
    written.push(said(&customer, "dos", 2).await);
    edge.stop().await;
    // To go back to it would use keys twice.
    session_with(&stage, &import, &nats).await.refused(1, &["the export is older", "--go-back"]);
    session_with(&stage, &[&import[..], &["--replace"]].concat(), &nats).await.refused(1, &["--go-back"]);
    let edge = on_bus(&stage).await;
    written.push(said(&customer, "tres", 3).await);
    edge.stop().await;

    // From the bus into another directory.
    session_with(&stage, &["export", "--out", "second.session"], &nats).await.well("exported");
    let elsewhere = stage.dir().join("elsewhere").display().to_string();
    let own = [("WHATSAPP_AUTH_DIR", elsewhere.as_str())];
    killed(&stage, &["import", "--in", "second.session"], "import.staged", &own).await;
    session_with(&stage, &["import", "--in", "second.session"], &own).await.well("imported");
    let mut edge = stage.start_with(Role::Edge, &own).await;
    edge.ready().await;
    written.push(said(&customer, "cuatro", 4).await);
    assert!(edge.link_state().await["qr"].is_null(), "nobody is asked to link again");
    assert_well(&stage, &customer, &written).await;
}

/// An import that dies leaves nothing that an edge would use.
#[tokio::test]
async fn an_import_that_was_killed_is_run_again() {
    let stage = plan().set().await;
    let (_forwarder, customer, mut written) = talked(&stage, &[]).await;
    session(&stage, &["export", "--out", "default.session"]).await.well("exported");
    let import = ["import", "--in", "default.session"];
    let nats = [("SESSION_STORE", "nats")];
    killed(&stage, &import, "import.staged", &nats).await;
    assert_eq!(found(&stage).await.1, "session-elsewhere");
    session_with(&stage, &import, &nats).await.well("imported");
    assert_eq!(found(&stage).await.1, "session-kept");
    let _edge = on_bus(&stage).await;
    written.push(said(&customer, "dos", 2).await);
    assert_well(&stage, &customer, &written).await;
}

#[tokio::test]
async fn a_key_is_replaced_and_the_old_one_is_not_needed_any_more() {
    let stage = plan().set().await;
    stage.logs.expects("the session cannot be taken over from the bus; trying again");
    let (_forwarder, customer, mut written) = talked(&stage, &ON_BUS).await;
    let both = format!("{OTHER},{KEY}");
    let both = [("SESSION_STORE", "nats"), ("SESSION_KEY", both.as_str())];
    let new = [ON_BUS[0], ON_BUS[1], ("SESSION_KEY", OTHER)];
    let edge = stage.start_with(Role::Edge, &new).await;
    eventually("word of the key", PATIENCE, async || {
        let log = edge.process.stderr();
        if log.contains("a key that SESSION_KEY does not have") { Ok(()) } else { Err(log) }
    })
    .await;
    edge.stop().await;
    session_with(&stage, &["rekey"], &new).await.refused(78, &["a key that SESSION_KEY does not have"]);

    killed(&stage, &["rekey"], "rekey.half", &both).await;
    let rekeyed = session_with(&stage, &["rekey"], &both).await;
    assert!(rekeyed.told.contains("4096 of 4096"), "{rekeyed:?}");
    assert_eq!(rekeyed.well("rekeyed")["records"].as_u64(), Some(4_096));
    let mut edge = stage.start_with(Role::Edge, &new).await;
    edge.ready().await;
    written.push(said(&customer, "dos", 2).await);
    assert!(edge.link_state().await["qr"].is_null(), "nobody is asked to link again");
    assert_well(&stage, &customer, &written).await;
}
