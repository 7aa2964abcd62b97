//! `whatsapp-connector check` names what is in the way: every failure that it can name is planted here, on real
//! parts. What no machine can be made to have (another machine's file system, nats-server's clock) is in the unit
//! tests of `src/commands/check` and `src/edge/session/inspect.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::stream;
use serde_json::Value;

use crate::nats_security::authority::Authority;
use crate::nats_security::{old_server, text, tls_config};
use crate::support::{Answer, Layout, Nats, PATIENCE, Role, Setup, Stage, Unwell, root, spawn_command};
use crate::voice::Scribe;

/// What it found.
struct Checked {
    code: Option<i32>,
    findings: Vec<Value>,
    printed: String,
}

impl Checked {
    /// `check <role> --json`.
    async fn of(role: &str, settings: &BTreeMap<String, String>, dir: &Path) -> Self {
        let mut process = spawn_command(&["check", role, "--json"], settings, dir);
        let code = process.end(PATIENCE).await.code();
        let printed = process.stdout();
        let report: Value = serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{error} in `{printed}`\n{}", process.stderr()));
        let findings = report["findings"].as_array().expect("findings").clone();
        let failed = findings.iter().any(|finding| finding["verdict"] == "failure");
        assert_eq!((report["fine"].as_bool(), code), (Some(!failed), Some(i32::from(failed))), "{printed}");
        Self { code, findings, printed }
    }

    fn finding(&self, code: &str) -> Option<&Value> {
        self.findings.iter().find(|finding| finding["code"] == code)
    }

    /// Found as this, with a sentence that has `words` in it, and with what mends it.
    #[track_caller]
    fn names(&self, verdict: &str, code: &str, words: &str) {
        let found = self.finding(code).unwrap_or_else(|| panic!("{code} is not in {}", self.printed));
        assert_eq!(found["verdict"], verdict, "{found}");
        let what = found["what"].as_str().expect("what is so");
        assert!(what.contains(words), "expected `{words}` in `{what}`");
        assert!(found["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "nothing mends {found}");
    }

    /// Nothing but this is in the way.
    #[track_caller]
    fn fails_only_for(&self, code: &str, words: &str) {
        self.names("failure", code, words);
        let failures: BTreeSet<_> = self
            .findings
            .iter()
            .filter(|finding| finding["verdict"] == "failure")
            .map(|finding| finding["code"].as_str().expect("a code"))
            .collect();
        assert_eq!(failures, BTreeSet::from([code]), "{}", self.printed);
    }
}

fn owned(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The settings of a whole stage, and these.
fn with(stage: &Stage, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut settings = stage.settings().clone();
    settings.extend(owned(own));
    settings
}

#[tokio::test]
async fn a_whole_system_has_nothing_in_the_way_before_and_while_it_runs() {
    let key = ("AI_ASSISTANTS_API_KEYS", "shop:the-key");
    let stage = Stage::plan()
        .backend(key.0, key.1)
        .backend("WHATSAPP_WEBHOOK_SECRET", "the-secret")
        .setting("API_KEY", "the-key")
        .setting("WHATSAPP_WEBHOOK_SECRET", "the-secret")
        .set()
        .await;
    let before = Checked::of("run", stage.settings(), stage.dir()).await;
    assert_eq!(before.code, Some(0), "{}", before.printed);
    before.names("note", "stream-missing", "stream WA_IN does not exist yet");
    before.names("note", "unlinked", "`default` is not linked");
    assert!(stage.streams().await.jetstream().get_stream("WA_IN").await.is_err(), "nothing is made");

    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.receives(1).await;
    let during = Checked::of("run", stage.settings(), stage.dir()).await;
    assert_eq!(during.code, Some(0), "{}", during.printed);
    during.names("note", "auth-dir-taken", "an edge is running on account `default`");
    let linked = during.finding("linked").expect("a linked number")["what"].as_str().expect("a sentence");
    assert!(linked.ends_with("…0000") && !linked.contains("549110"), "{linked}");
    for code in
        ["settings", "nats", "jetstream", "nats-permissions", "streams", "clock", "backend", "backend-key"]
    {
        assert!(
            during.finding(code).is_some_and(|found| found["verdict"] == "fine"),
            "{code}: {}",
            during.printed
        );
    }
    assert!(!during.printed.contains("the-key") && !during.printed.contains("the-secret"));
    // Nobody was disturbed: the edge is the same, and nothing was asked of the assistant or put on the bus.
    customer.write("otra").await;
    customer.receives(2).await;
    let evidence = stage.evidence(2, [&customer]).await;
    assert_eq!((evidence.messages.len(), evidence.outcomes.len()), (2, 2));
    drop(product);

    // And for people.
    let mut process = spawn_command(&["check"], stage.settings(), stage.dir());
    assert!(process.end(PATIENCE).await.success());
    assert!(process.stdout().ends_with("nothing is in the way\n"), "{}", process.stdout());
}

#[tokio::test]
async fn settings_that_cannot_be_used_come_first_and_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = owned(&[("BACKEND_TIMEOUT", "soon"), ("HTTP_ADDR", "8080"), ("WHATSAPP_AUTHDIR", "x")]);
    let found = Checked::of("run", &settings, dir.path()).await;
    found.fails_only_for("bad-setting", "BACKEND_TIMEOUT=soon");
    found.names("note", "unknown-setting", "was WHATSAPP_AUTH_DIR meant?");
    assert_eq!(found.findings.len(), 3, "{}", found.printed);
}

/// Everything but the bus is left out: the edge needs no backend, and an empty directory is fine.
async fn edge_finds(settings: &[(&str, &str)], code: &str, words: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    Checked::of("edge", &owned(settings), dir.path()).await.fails_only_for(code, words);
}

#[tokio::test]
async fn a_bus_that_is_nowhere_or_lets_nobody_in_is_named() {
    edge_finds(&[], "nats-url-missing", "NATS_URL is not set").await;
    edge_finds(&[("NATS_URL", "nats://127.0.0.1:1")], "nats-unreachable", "Connection refused").await;
    let creds = [("NATS_URL", "nats://127.0.0.1:1"), ("NATS_CREDS", "./nowhere")];
    edge_finds(&creds, "nats-login-unusable", "NATS_CREDS=./nowhere").await;

    let dir = tempfile::tempdir().expect("a directory");
    let missing =
        owned(&[("NATS_SERVER_BIN", "/nowhere/nats-server"), ("BACKEND_URL", "http://127.0.0.1:1")]);
    let found = Checked::of("run", &missing, dir.path()).await;
    found.names("failure", "nats-server-missing", "/nowhere/nats-server");

    let (url, old) = old_server().await;
    edge_finds(&[("NATS_URL", &url)], "nats-too-old", "nats-server 2.11.9 is too old").await;
    old.abort();
}

#[tokio::test]
async fn a_login_that_is_refused_and_a_certificate_that_is_distrusted_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let conf = dir.path().join("token.conf");
    std::fs::write(&conf, "authorization { token: \"s3cret\" }\n").expect("a configuration");
    let setup = Setup { config: Some(conf), ..Setup::default() };
    let nats = Nats::start_as(dir.path().join("token"), setup).await;
    let wrong = [("NATS_URL", &*nats.url()), ("NATS_TOKEN", "wrong")];
    edge_finds(&wrong, "nats-login-refused", "refused the login").await;

    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let conf = dir.path().join("tls.conf");
    std::fs::write(&conf, tls_config(&ours, "")).expect("a configuration");
    let setup = Setup { config: Some(conf), ..Setup::default() };
    let nats = Nats::start_as(dir.path().join("tls"), setup).await;
    let ca = text(&theirs.ca());
    edge_finds(&[("NATS_URL", &nats.url()), ("NATS_CA", &ca)], "nats-tls", "UnknownIssuer").await;
}

#[tokio::test]
async fn a_server_without_jetstream_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup { has_store: true, ..Setup::default() };
    let nats = Nats::start_as(dir.path().join("nats"), setup).await;
    edge_finds(&[("NATS_URL", &nats.url())], "jetstream-off", "there is no JetStream").await;
}

#[tokio::test]
async fn streams_that_are_missing_or_different_are_named() {
    let stage = Stage::plan().set().await;
    let verify = with(&stage, &[("NATS_PROVISION", "verify")]);
    let found = Checked::of("edge", &verify, stage.dir()).await;
    found.fails_only_for("stream-missing", "stream WA_IN does not exist");
    for what in ["stream WA_OUT", "stream WA_DLQ", "bucket WA_LEASES", "consumer edge-default on WA_OUT"] {
        assert!(found.printed.contains(&format!("{what} does not exist")), "{}", found.printed);
    }

    stage.output(&["provision"]).await;
    let streams = stage.streams().await;
    let mut inbound = streams.jetstream().get_stream("WA_IN").await.expect("a stream");
    let config = inbound.info().await.expect("its state").config.clone();
    let changed = stream::Config { max_age: Duration::from_secs(86_400), allow_direct: false, ..config };
    streams.jetstream().update_stream(changed).await.expect("a change");
    let found = Checked::of("edge", stage.settings(), stage.dir()).await;
    found.fails_only_for("stream-differs", "WA_IN.allow_direct is false; the settings say true");
    let age =
        found.findings.iter().find(|finding| finding["what"].as_str().is_some_and(|w| w.contains("max_age")));
    assert_eq!(age.expect("the age differs too")["verdict"], "note");
}

/// Takes each permission out of deploy/nats, one at a time: each is named, and nothing else.
#[tokio::test]
async fn each_missing_permission_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let conf = std::fs::read_to_string(root().join("deploy/nats/accounts.conf")).expect("the users");
    let harness = "users: [\n{ user: harness, password: harness }\n";
    let conf = conf.replacen("users: [\n", harness, 1);
    let users = dir.path().join("accounts.conf");
    std::fs::write(&users, &conf).expect("the users");
    let main = dir.path().join("nats-server.conf");
    let store = text(&dir.path().join("store"));
    std::fs::write(&main, format!("jetstream {{ store_dir: \"{store}\" }}\ninclude ./accounts.conf\n"))
        .expect("a configuration");
    let names =
        ["PROVISIONER", "EDGE", "POOL", "FORWARDER", "OPERATOR", "READER", "SENDER", "CHECKER", "SYS"];
    let setup = Setup {
        config: Some(main),
        has_store: true,
        environment: names.map(|name| (format!("NATS_{name}_PASSWORD"), "pass".to_owned())).into(),
        user: Some(("harness".to_owned(), "harness".to_owned())),
        ..Setup::default()
    };
    let nats = Nats::start_as(dir.path().join("nats"), setup).await;
    let backend = Unwell::start(|_| Answer::new(422, "{}")).await;
    let settings = |user: &str, inbox: &str, provision: &str| {
        owned(&[
            ("NATS_URL", &nats.url()),
            ("NATS_USER", user),
            ("NATS_PASSWORD", "pass"),
            ("NATS_INBOX_PREFIX", inbox),
            ("NATS_PROVISION", provision),
            ("MEDIA", "all"),
            ("MEDIA_URL_SECRET", "a-secret-of-the-tests"),
            ("SERVICE", "on"),
            ("OPT_OUT_WORDS", "stop"),
            ("SESSION_STORE", "nats"),
            ("SESSION_KEY", crate::session_on_bus::KEY),
            ("SESSION_UNSAFE_SYNC", "on"),
            ("BACKEND_URL", backend.url()),
        ])
    };
    // Who may make nothing is told so, as long as there is something to make.
    let forwarder = settings("forwarder", "_INBOX_forwarder", "create");
    let found = Checked::of("forwarder", &forwarder, dir.path()).await;
    found.fails_only_for("nats-forbidden", "this user may not publish to $JS.API.STREAM.CREATE.WA_IN");
    let provisioner = settings("provisioner", "_INBOX_provisioner", "create");
    crate::support::output(&["provision"], &provisioner, dir.path()).await;

    let roles = [
        ("forwarder", settings("forwarder", "_INBOX_forwarder", "verify")),
        ("edge", settings("edge", "_INBOX_edge_default", "verify")),
    ];
    for (role, settings) in roles {
        let found = Checked::of(role, &settings, dir.path()).await;
        assert_eq!(found.code, Some(0), "with all of them: {}", found.printed);
        for permission in permissions(&conf, role) {
            let without = without(&conf, role, &permission);
            std::fs::write(&users, without).expect("fewer permissions");
            nats.reload().await;
            let found = Checked::of(role, &settings, dir.path()).await;
            let named: Vec<_> = found
                .findings
                .iter()
                .filter(|finding| {
                    finding["what"].as_str().is_some_and(|what| what.starts_with("this user may not"))
                })
                .map(|finding| {
                    finding["what"].as_str().expect("a sentence").rsplit(' ').next().expect("a subject")
                })
                .collect();
            assert_eq!(named, [permission.as_str()], "{role}: {}", found.printed);
        }
        std::fs::write(&users, &conf).expect("the users");
        nats.reload().await;
    }
}

/// Where a user's block begins and ends.
fn block(conf: &str, user: &str) -> std::ops::Range<usize> {
    let start = conf.find(&format!("user: {user}\n")).expect(user);
    let length = conf[start + 6..].find("user: ").unwrap_or(conf.len() - start - 6);
    start..start + 6 + length
}

fn permissions(conf: &str, user: &str) -> Vec<String> {
    let lines = conf[block(conf, user)].lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// An empty list would allow everything, so something harmless is there instead.
fn without(conf: &str, user: &str, permission: &str) -> String {
    let range = block(conf, user);
    let changed = conf[range.clone()].replacen(&format!("\"{permission}\""), "\"nothing\"", 1);
    format!("{}{changed}{}", &conf[..range.start], &conf[range.end..])
}

#[tokio::test]
async fn a_backend_that_would_not_answer_is_named_with_the_reason() {
    let stage = Stage::plan()
        .backend("AI_ASSISTANTS_API_KEYS", "shop:the-key")
        .backend("WHATSAPP_WEBHOOK_SECRET", "the-secret")
        .set()
        .await;
    stage.output(&["provision"]).await;
    let find = async |own: &[(&str, &str)]| Checked::of("forwarder", &with(&stage, own), stage.dir()).await;
    let (key, secret) = (("API_KEY", "the-key"), ("WHATSAPP_WEBHOOK_SECRET", "the-secret"));
    find(&[]).await.fails_only_for("backend-key-refused", "API_KEY is not set");
    find(&[("API_KEY", "wrong"), secret]).await.fails_only_for("backend-key-refused", "refuses API_KEY");
    let found = find(&[key]).await;
    found.fails_only_for("backend-signature-refused", "WHATSAPP_WEBHOOK_SECRET is not set");
    let found = find(&[key, ("WHATSAPP_WEBHOOK_SECRET", "wrong")]).await;
    found.fails_only_for("backend-signature-refused", "refuses the signature");
    let elsewhere = format!("{}/elsewhere", stage.backend.url());
    let found = find(&[key, secret, ("BACKEND_URL", &elsewhere)]).await;
    found.fails_only_for("backend-no-endpoint", "does not have the endpoint (HTTP 404)");
    let found = find(&[key, secret, ("BACKEND_URL", "http://127.0.0.1:1")]).await;
    found.fails_only_for("backend-unreachable", "no connection to BACKEND_URL=http://127.0.0.1:1");
    // The right ones are accepted, and a call that asked nothing was no call.
    assert_eq!(find(&[key, secret]).await.code, Some(0));
    assert!(stage.backend.calls().await.iter().all(|call| call.message_id.is_none()), "nothing was asked");

    let unwell = Unwell::start(|_| Answer::new(503, "{}")).await;
    let url = ("BACKEND_URL", unwell.url());
    find(&[url]).await.fails_only_for("backend-unavailable", "HTTP 503");
    unwell.set(|_| Answer::new(500, "{}"));
    find(&[url]).await.fails_only_for("backend-failing", "HTTP 500");
    unwell.set(|_| Answer::head(307, &[("Location", "http://127.0.0.1:1/"), ("Content-Length", "0")]));
    find(&[url]).await.fails_only_for("backend-redirects", "never followed");
    unwell.set(|_| Answer::raw("").then_hang());
    find(&[url, ("BACKEND_TIMEOUT", "1s")]).await.fails_only_for("backend-silent", "did not answer in time");
    unwell.set(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-").then_close());
    find(&[url]).await.fails_only_for("backend-silent", "broke off");

    let years_ago = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let refused = "{\"detail\":\"Invalid webhook signature\"}";
    let length = refused.len().to_string();
    unwell.set(move |_| Answer::head(401, &[years_ago, ("Content-Length", &length)]).and(refused));
    find(&[url, key, secret]).await.fails_only_for("backend-signature-clock", "s off");
    unwell.set(move |_| Answer::head(422, &[years_ago, ("Content-Length", "0")]));
    let found = find(&[url, key]).await;
    assert_eq!(found.code, Some(0), "{}", found.printed);
    found.names("note", "clock-skew", "the clock of the backend is");
    found.names("note", "backend-key-unproved", "does not prove");
    unwell.set(|_| Answer::new(422, "{}").after(Duration::from_millis(2_100)));
    find(&[url]).await.names("note", "backend-slow", "for an empty call");
}

#[tokio::test]
async fn who_serves_files_is_tried() {
    let secret = ("MEDIA_URL_SECRET", "a-secret-of-the-tests");
    let stage = Stage::plan().setting(secret.0, secret.1).setting("MEDIA", "inbound").set().await;
    let product = stage.product(Layout::OneProcess).await;
    let find = async |own: &[(&str, &str)]| Checked::of("forwarder", &with(&stage, own), stage.dir()).await;
    let base = format!("http://{}", product.edge.address());
    let url = ("MEDIA_URL", base.as_str());
    let found = find(&[url]).await;
    assert!(found.code == Some(0) && found.finding("files").is_some(), "{}", found.printed);
    let found = find(&[url, ("MEDIA_URL_SECRET", "another-secret-of-the-tests")]).await;
    found.fails_only_for("files-signature-refused", "does not take addresses that are signed here");
    let found = find(&[("MEDIA_URL", "http://127.0.0.1:1")]).await;
    assert_eq!(found.code, Some(0), "it may not have been started yet: {}", found.printed);
    found.names("note", "files-unreachable", "cannot be reached");

    for (status, body) in [(404, "no such page"), (200, "<html>Welcome</html>")] {
        let other = Scribe::start(Some((status, body))).await;
        let found = find(&[("MEDIA_URL", &other.url)]).await;
        found.fails_only_for("files-elsewhere", &format!("(HTTP {status})"));
    }
    let other = Scribe::start(Some((503, "later"))).await;
    find(&[("MEDIA_URL", &other.url)]).await.names("note", "files-unavailable", "HTTP 503");
}

#[tokio::test]
async fn who_writes_voice_notes_down_is_tried() {
    let stage = Stage::plan().set().await;
    stage.output(&["provision"]).await;
    let find = async |url: &str, key: &str| {
        let own = [("TRANSCRIBE_URL", url), ("TRANSCRIBE_API_KEY", key)];
        Checked::of("forwarder", &with(&stage, &own), stage.dir()).await
    };
    for (status, key, code, words) in [
        (404, "", "voice-no-endpoint", "does not have the endpoint"),
        (401, "", "voice-key-refused", "wants a key"),
        (403, "wrong", "voice-key-refused", "refuses TRANSCRIBE_API_KEY"),
        (307, "", "voice-redirects", "never followed"),
    ] {
        let scribe = Scribe::start(Some((status, "{}"))).await;
        find(&scribe.url, key).await.fails_only_for(code, words);
    }
    // It understands JSON only, and hangs up.
    let other = Unwell::start(|_| Answer::new(200, "{}")).await;
    find(other.url(), "").await.fails_only_for("voice-silent", "broke off");
    find("http://127.0.0.1:1", "").await.fails_only_for("voice-unreachable", "no connection to");
    for (status, code) in [(429, "voice-unavailable"), (500, "voice-unproved")] {
        let scribe = Scribe::start(Some((status, "{}"))).await;
        find(&scribe.url, "").await.names("note", code, "TRANSCRIBE_URL=http://127.0.0.1");
    }
    let scribe = Scribe::start(Some((400, "{}"))).await;
    let found = find(&scribe.url, "the-key").await;
    assert!(found.code == Some(0) && found.finding("voice").is_some(), "{}", found.printed);
    let (head, _) = scribe.asked().remove(0);
    assert!(head.to_lowercase().contains("authorization: bearer the-key"), "{head}");
}

#[tokio::test]
async fn a_session_that_cannot_be_used_is_named() {
    let mut stage = Stage::plan().set().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.link(&stage.simulator).await;
    edge.stop().await;
    let found = Checked::of("edge", stage.settings(), stage.dir()).await;
    assert_eq!(found.code, Some(0), "{}", found.printed);
    assert!(found.finding("linked").is_some() && found.finding("auth-dir").is_some(), "{}", found.printed);

    let left: Vec<_> =
        std::fs::read_dir(stage.dir().join("auth")).expect("the directory").flatten().collect();
    for file in left {
        let mode = file.metadata().expect("its mode").permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    let (dir, store) = (stage.dir().join("auth"), stage.dir().join("auth/default.db"));
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("another mode");
    };
    for (path, wider, as_it_was) in [(&dir, 0o755, 0o700), (&store, 0o640, 0o600)] {
        chmod(path, wider);
        let found = Checked::of("edge", stage.settings(), stage.dir()).await;
        found.fails_only_for("auth-dir-open", &format!("chmod {as_it_was:o}"));
        chmod(path, as_it_was);
        // SQLite gives the files beside the store its mode, even when it only looks.
        for tail in ["-wal", "-shm"] {
            chmod(&dir.join(format!("default.db{tail}")), 0o600);
        }
    }

    // A page in the middle is gone.
    let mut bytes = std::fs::read(&store).expect("the store");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&store, bytes).expect("a broken store");
    let found = Checked::of("edge", stage.settings(), stage.dir()).await;
    found.fails_only_for("store-damaged", "auth/default.db cannot be read");
    std::fs::write(&store, "no database".repeat(1000)).expect("something else");
    let found = Checked::of("edge", stage.settings(), stage.dir()).await;
    found.fails_only_for("store-damaged", "not a database");

    let file = stage.dir().join("file");
    std::fs::write(&file, "").expect("a file");
    stage.set("WHATSAPP_AUTH_DIR", &text(&file));
    let found = Checked::of("edge", stage.settings(), stage.dir()).await;
    found.fails_only_for("auth-dir-unusable", "cannot be written");
}
