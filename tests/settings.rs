//! Bad settings end the start with one message for people and an exit code for supervisors.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::support::{Layout, PATIENCE, Process, Role, Stage, output, spawn, warning};

/// `EX_CONFIG` of `sysexits.h`.
const BAD_CONFIG: i32 = 78;
/// `EX_TEMPFAIL`.
const TAKEN: i32 = 75;
/// `EX_UNAVAILABLE`.
const UNAVAILABLE: i32 = 69;

/// Starts the product without any other part, waits for its end, and returns exit code and message.
async fn refusal(role: Role, settings: &[(&str, &str)], dir: &Path) -> (Option<i32>, String) {
    let mut process = spawn(role, &owned(settings), dir);
    ending(&mut process).await
}

async fn ending(process: &mut Process) -> (Option<i32>, String) {
    let status = process.end(PATIENCE).await;
    (status.code(), process.stderr())
}

fn owned(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn one_message_names_every_bad_setting_what_it_got_and_what_it_takes() {
    let dir = tempfile::tempdir().expect("a directory");
    let bad = [
        ("BACKEND_URL", "localhost:8000", "http://host:port"),
        ("BACKEND_TIMEOUT", "soon", "30s"),
        ("BACKEND_CONCURRENCY", "many", "a number"),
        ("BACKEND_MODE", "echo", "answer or shadow"),
        ("BACKEND_FIELDS", "some", "basic or full"),
        ("MEDIA_URL", "http://edge:8080", "MEDIA_URL_SECRET"),
        ("MEDIA_URL_TTL", "25h", "from 1s to 24h"),
        ("MEDIA_WAIT", "61s", "0s for none"),
        ("TRANSCRIBE_URL", "whisper:9000", "http://host:port"),
        ("TRANSCRIBE_MODEL", "a model", "a model's name"),
        ("GROUPS", "some", "off, mention or all"),
        ("GROUPS_NAME", "yes", "on or off"),
        ("SHADOW_DELAY", "61m", "0s for none"),
        ("ALLOWED_NUMBERS", "everybody", "phone numbers"),
        ("EDGE_ACK_WAIT", "0s", "30s"),
        ("EDGE_CAPACITY", "1001", "1 to 1000"),
        ("HTTP_ADDR", "8080", "127.0.0.1:8080"),
        ("INBOUND_EXTRA", "groups", "status, newsletter"),
        ("LOG_FORMAT", "xml", "json"),
        ("LOOP_LIMIT", "often", "a number per minute, or off"),
        ("NATS_IN_MAX_BYTES", "64", "64MiB"),
        ("NATS_JS_DOMAIN", "a.b", "letters, digits"),
        ("NATS_OUT_MAX_BYTES", "much", "1MiB or more"),
        ("NATS_PROVISION", "maybe", "verify"),
        ("NATS_SUBJECT_PREFIX", "a.b", "letters"),
        ("SEND_NEW_CHATS_PAUSE", "0s", "30s"),
        ("SEND_NEW_CHATS_PER_HOUR", "100001", "0 for no limit"),
        ("SEND_PER_CHAT", "20", "20/10s"),
        ("SEND_TOTAL", "50/s", "or off"),
        ("SERVICE", "yes", "on or off"),
        ("SERVICE_CHECKS", "20", "20/10s"),
        ("SESSION_STORE", "disk", "file or nats"),
        ("SESSION_UNSAFE_SYNC", "yes", "on or off"),
        ("SHUTDOWN_GRACE", "never", "30s"),
        ("TAKEOVER", "on", "off, or a duration"),
        ("TAKEOVER_MAX", "0s", "30s"),
        ("OPT_OUT_WORDS", "stop,!!!", "each with a letter"),
        ("OPT_IN_WORDS", "start", "only together with OPT_OUT_WORDS"),
        ("WHATSAPP_ACCOUNT", "My Shop", "a-z"),
        ("WHATSAPP_ACCOUNTS", "shop,My Shop", "names of accounts, separated by commas"),
    ];
    let settings = bad.map(|(name, got, _takes)| (name, got));

    let (code, said) = refusal(Role::Run, &settings, dir.path()).await;

    assert_eq!(code, Some(BAD_CONFIG), "{said}");
    for (name, got, takes) in bad {
        let line = said.lines().find(|line| line.contains(&format!("{name}=")));
        let line = line.unwrap_or_else(|| panic!("{name} is not named in:\n{said}"));
        assert!(line.contains(got) && line.contains(takes), "expected `{got}` and `{takes}` in `{line}`");
    }
}

#[tokio::test]
async fn the_dotenv_file_is_read_and_the_environment_wins_over_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let work = dir.path().join("work");
    std::fs::create_dir(&work).expect("a working directory");
    std::fs::write(work.join(".env"), "NATS_PROVISION=from-file\nLOG_FORMAT=from-file\n").expect("a file");

    let (code, said) = refusal(Role::Run, &[("LOG_FORMAT", "from-environment")], dir.path()).await;

    assert_eq!(code, Some(BAD_CONFIG), "{said}");
    assert!(said.contains("NATS_PROVISION=from-file"), "{said}");
    assert!(said.contains("LOG_FORMAT=from-environment"), "{said}");
}

#[tokio::test]
async fn a_misspelt_setting_is_a_warning_with_the_one_that_was_meant() {
    let stage = Stage::plan().setting("WHATSAPP_AUTHDIR", "hidden-value").set().await;
    stage.logs.expects("WHATSAPP_AUTHDIR is set, and is no setting");

    let edge = stage.start(Role::Edge).await;

    let log = edge.process.stderr();
    assert!(
        log.contains("WHATSAPP_AUTHDIR is set, and is no setting: was WHATSAPP_AUTH_DIR meant?"),
        "{log}"
    );
    assert!(!log.contains("hidden-value"), "{log}");
}

#[tokio::test]
async fn a_secret_from_a_file_is_what_the_backend_gets() {
    let mut stage = Stage::plan().backend("AI_ASSISTANTS_API_KEYS", "shop:from-a-file").set().await;
    let file = stage.dir().join("key");
    std::fs::write(&file, "from-a-file\n").expect("a file");
    stage.set("API_KEY_FILE", file.to_str().expect("a path"));

    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("Hola").await;
    let inbox = customer.receives(1).await;
    assert_eq!(inbox[0].text, "eco: Hola");
}

#[tokio::test]
async fn what_is_in_force_is_shown_with_its_origin_and_no_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let work = dir.path().join("work");
    std::fs::create_dir(&work).expect("a working directory");
    std::fs::write(work.join(".env"), "NATS_REPLICAS=3\nLOG_PII=full\n").expect("a file");
    let key = dir.path().join("key");
    std::fs::write(&key, "topsecret\n").expect("a file");
    let settings = owned(&[
        ("LOG_PII", "masked"),
        ("API_KEY_FILE", key.to_str().expect("a path")),
        ("NATS_URL", "nats://me:topsecret@host:4222"),
    ]);

    let text = output(&["config"], &settings, dir.path()).await;
    let json = output(&["config", "--json"], &settings, dir.path()).await;

    let shown: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let of = |name: &str| {
        let all = shown["settings"].as_array().expect("settings");
        let line = all.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("{name} in {json}"));
        (line["value"].clone(), line["from"].clone())
    };
    assert_eq!(of("NATS_REPLICAS"), ("3".into(), ".env".into()));
    assert_eq!(of("LOG_PII"), ("masked".into(), "environment".into()));
    assert_eq!(of("BACKEND_TIMEOUT"), ("120s".into(), "default".into()));
    assert_eq!(of("NATS_URL"), ("nats://***@host:4222".into(), "environment".into()));
    for output in [&text, &json] {
        assert!(!output.contains("topsecret") && output.contains(key.to_str().expect("a path")), "{output}");
    }
}

#[tokio::test]
async fn one_side_alone_needs_a_bus() {
    for role in [Role::Edge, Role::Forwarder] {
        let dir = tempfile::tempdir().expect("a directory");
        let (code, said) = refusal(role, &[("HTTP_ADDR", "127.0.0.1:0")], dir.path()).await;
        assert_eq!(code, Some(BAD_CONFIG), "{said}");
        assert!(said.contains("NATS_URL is not set"), "{said}");
    }
}

#[tokio::test]
async fn a_second_edge_on_the_same_session_is_refused() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::CANNOT_GO_ON);
    let first = stage.start(Role::Edge).await;
    first.shows_a_code().await;

    let mut second = spawn(Role::Edge, stage.settings(), stage.dir());
    let (code, said) = ending(&mut second).await;

    assert_eq!(code, Some(TAKEN), "{said}");
    assert!(said.contains("another edge is running on account `default`"), "{said}");
    assert!(said.contains("WHATSAPP_AUTH_DIR"), "it must say what to do: {said}");
    // The lock goes with its holder, however that dies.
    drop(first);
    let third = stage.start(Role::Edge).await;
    third.shows_a_code().await;
}

#[tokio::test]
async fn streams_that_break_a_promise_are_refused_with_the_difference() {
    let stage = Stage::plan().setting("NATS_PROVISION", "verify").set().await;
    stage.logs.expects(warning::CANNOT_GO_ON);

    let mut process = spawn(Role::Forwarder, stage.settings(), stage.dir());
    let (code, said) = ending(&mut process).await;

    assert_ne!(code, Some(0));
    assert!(said.contains("WA_IN"), "the missing stream is not named: {said}");
}

/// A message that WhatsApp hands over again later than the window would be answered a second time.
#[tokio::test]
async fn a_stream_with_a_shorter_duplicate_window_is_refused_with_the_difference() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::CANNOT_GO_ON);
    let streams = stage.streams().await;
    streams.make_inbound(Duration::from_secs(3_600)).await;

    let mut process = spawn(Role::Edge, stage.settings(), stage.dir());
    let (code, said) = ending(&mut process).await;

    assert_eq!(code, Some(UNAVAILABLE), "{said}");
    assert!(said.contains("WA_IN.duplicate_window: is 3600s, must be 86400s"), "{said}");
    // The same stream is fine for whoever wants no more of it.
    let settings = [("NATS_DUPLICATE_WINDOW", "1h"), ("REPLY_MAX_AGE", "1h")];
    let edge = stage.start_with(Role::Edge, &settings).await;
    edge.shows_a_code().await;
}
