//! The users of `deploy/nats`: enough for each job, and for nothing else.

mod forbidden;

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::consumer::pull;
use async_nats::{Event, ServerError};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc;
use whatsapp_connector::wire::FileLinks;

use self::forbidden::FORBIDDEN;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{SendMedia, SendMediaKind, SendMessage, SendText};

use crate::nats_security::authority::Authority;
use crate::nats_security::{rounds, text};
use crate::support::http::Http;
use crate::support::oracle::Written;
use crate::support::{
    Connector, Customer, PATIENCE, Role, Setup, Stage, eventually, output, root, spawn_command, warning,
};

/// Signs addresses of files.
const SECRET: &str = "a-secret-of-the-tests";

/// A user of `accounts.conf`, or the harness's own.
const USERS: [&str; 8] =
    ["provisioner", "edge", "pool", "forwarder", "operator", "reader", "sender", "checker"];

/// `deploy/nats` with TLS, and one user more: the harness, who may do everything.
pub struct Account {
    dir: tempfile::TempDir,
    authority: Authority,
    /// How its nats-server is started.
    pub setup: Setup,
}

impl Account {
    /// With a password for each user, from the environment as in `deploy/nats`.
    pub fn new() -> Self {
        Self::with(|accounts| accounts)
    }

    /// With `accounts.conf` as `change` leaves it.
    pub fn with(change: impl FnOnce(String) -> String) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new(dir.path(), "authority");
        let conf = |name: &str| std::fs::read_to_string(root().join("deploy/nats").join(name)).expect(name);
        let harness = "users: [\n{ user: harness, password: harness }\n";
        let accounts = change(conf("accounts.conf")).replacen("users: [\n", harness, 1);
        assert!(accounts.contains(harness), "the account has a list of users");
        std::fs::write(dir.path().join("accounts.conf"), accounts).expect("the users");
        let main = dir.path().join("nats-server.conf");
        let config = format!("{}trace: true\n", conf("nats-server.conf"));
        std::fs::write(&main, config).expect("the configuration");
        let [certificate, key] = authority.sign("server");
        let mut environment: Vec<(String, String)> = [
            ("NATS_STORE_DIR", dir.path().join("store")),
            ("NATS_TLS_CERT", certificate),
            ("NATS_TLS_KEY", key),
            ("NATS_TLS_CA", authority.ca()),
        ]
        .map(|(name, path)| (name.to_owned(), text(&path)))
        .into();
        for user in USERS.iter().chain(&["sys"]) {
            environment.push((format!("NATS_{}_PASSWORD", user.to_uppercase()), password(user)));
        }
        let [certificate, key] = authority.sign("harness");
        let setup = Setup {
            config: Some(main),
            has_store: true,
            environment,
            user: Some(("harness".to_owned(), "harness".to_owned())),
            tls: Some([authority.ca(), certificate, key]),
            ..Setup::default()
        };
        Self { dir, authority, setup }
    }

    /// From the server's next reload on, `user` has another password.
    pub fn change_password(&self, user: &str, password: &str) {
        let path = self.dir.path().join("accounts.conf");
        let conf = std::fs::read_to_string(&path).expect("the users");
        let (before, from) = conf.split_once(&format!("user: {user}\n")).expect(user);
        let (_, after) = from.split_once('\n').expect("a password");
        let changed = format!("{before}user: {user}\n        password: {password}\n{after}");
        std::fs::write(path, changed).expect("the users");
    }

    /// What a process needs to be this user.
    pub fn settings(&self, user: &str, inbox: &str) -> Vec<(String, String)> {
        let [certificate, key] = self.authority.sign(user).map(|path| text(&path));
        [
            ("NATS_USER", user.to_owned()),
            ("NATS_PASSWORD", password(user)),
            ("NATS_INBOX_PREFIX", inbox.to_owned()),
            ("NATS_CA", text(&self.authority.ca())),
            ("NATS_CERT", certificate),
            ("NATS_KEY", key),
            ("NATS_PROVISION", "verify".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// A connection of this user.
    async fn join(&self, stage: &Stage, user: &str) -> async_nats::Client {
        let setup = Setup { user: Some((user.to_owned(), password(user))), ..self.setup.clone() };
        let options = setup.options().custom_inbox_prefix(format!("_INBOX_{user}"));
        options.connect(stage.nats.url()).await.expect(user)
    }

    /// Runs a command as this user.
    pub async fn output(&self, stage: &Stage, arguments: &[&str], user: &str) -> String {
        self.output_with(stage, arguments, user, &[]).await
    }

    async fn output_with(
        &self,
        stage: &Stage,
        arguments: &[&str],
        user: &str,
        own: &[(&str, &str)],
    ) -> String {
        let mut settings = stage.settings().clone();
        settings.extend(self.settings(user, &format!("_INBOX_{user}")));
        settings.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        output(arguments, &settings, stage.dir()).await
    }

    pub async fn start(&self, stage: &Stage, role: Role) -> Connector {
        self.start_with(stage, role, &[]).await
    }

    async fn start_with(&self, stage: &Stage, role: Role, own: &[(&str, &str)]) -> Connector {
        let settings = match role {
            Role::Forwarder => self.settings("forwarder", "_INBOX_forwarder"),
            _ => self.settings("edge", "_INBOX_edge_default"),
        };
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = settings.chain(own.iter().copied()).collect();
        stage.start_with(role, &settings).await
    }
}

fn password(user: &str) -> String {
    format!("pass-of-{user}")
}

/// An operator looks at what is on the bus.
async fn taps(account: &Account, stage: &Stage) {
    let shown = account.output(stage, &["tap"], "operator").await;
    for kind in ["message", "session", "reply"] {
        assert!(shown.contains(&format!("\"kind\":\"{kind}\"")), "{shown}");
    }
}

#[tokio::test]
async fn both_roles_do_their_whole_job_with_the_least_that_they_may() {
    let account = Account::new();
    let mut stage = Stage::plan()
        .nats(account.setup.clone())
        .setting("BACKEND_RETRY_FOR", "1s")
        .setting("FORWARDER_ACK_WAIT", "1s")
        .setting("MEDIA", "all")
        .setting("MEDIA_URL_SECRET", SECRET)
        .setting("TAKEOVER", "30m")
        .setting("SERVICE", "on")
        .setting("OPT_OUT_WORDS", "stop")
        .setting("SESSION_STORE", "nats")
        .setting("SESSION_KEY", crate::session_on_bus::KEY)
        .setting("SESSION_UNSAFE_SYNC", "on")
        .set()
        .await;
    stage.logs.expects(&warning::given_up("http-422"));
    let said = account.output(&stage, &["provision"], "provisioner").await;
    assert!(
        said.contains("ready for the edge of `default`") && said.contains("ready for forwarders"),
        "{said}"
    );
    // Again: all of it is there.
    account.output(&stage, &["provision", "--account", "default"], "provisioner").await;
    let mut edge = account.start(&stage, Role::Edge).await;
    edge.link(&stage.simulator).await;
    let customers = stage.customers("54911888", 4).await;
    // It dies with a message in hand: a second delivery counts deaths, and reads and writes a bucket for that.
    let crash = [("CRASH_AT", "forwarder.after-call")];
    let mut first = account.start_with(&stage, Role::Forwarder, &crash).await;
    let mut written = rounds(&customers, 1..=2).await;
    first.process.end_by_kill(PATIENCE).await;
    let second = account.start(&stage, Role::Forwarder).await;
    written.extend(rounds(&customers, 3..=3).await);
    stage.streams().await.decided(written.len()).await;
    // A dead letter, its copy, and an operator who looks after it.
    stage.backend.kill();
    stage.backend.set("BACKEND_FAIL", "1:422");
    stage.backend.restart().await;
    let customer = stage.customer().await;
    let rejected = customer.write("esto no").await;
    stage.streams().await.decided(written.len() + 1).await;
    written.push(Written::unanswered(customer.phone(), rejected));
    let sticker = json!({"kind": "sticker", "media": {"bytes": "AAAA"}});
    written.push(Written::unanswered(customer.phone(), customer.write_with(sticker).await));
    stage.streams().await.updated(1).await;
    stage.evidence(written.len(), customers.iter().chain([&customer])).await.assert_kept(&written);
    sends_a_file(&stage, &customer).await;
    let letters = account.output(&stage, &["dlq", "list", "--json"], "operator").await;
    assert!(letters.contains("\"reason\":\"rejected\""), "{letters}");
    account.output(&stage, &["dlq", "replay", "1"], "operator").await;
    stage.streams().await.decided(written.len() + 1).await;
    account.output(&stage, &["dlq", "drop", "--all"], "operator").await;
    for command in ["takeover", "resume"] {
        account.output(&stage, &[command, "--chat", customer.phone()], "operator").await;
    }
    account.output(&stage, &["check-number", customer.phone()], "operator").await;
    seen_as_services(&account, &stage).await;
    taps(&account, &stage).await;
    both_are_seen(&account, &stage).await;
    opts_out(&account, &stage, &customer).await;
    let file = format!("default/{0}/{0}/{1}", customer.phone(), written.last().expect("a sticker").id);
    hands_out(&file, [&edge, &second]).await;
    minds_accounts(&account, &stage).await;
    // And what an operator watches.
    assert!(edge.metrics().await.contains("wa_dead_letters_stored"), "the edge counts dead letters");
    assert!(second.metrics().await.contains("wa_dead_letters_stored"), "the forwarder counts them");

    edge.stop().await;
    second.stop().await;
    let log = stage.nats.log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    each_is_used(&log, |user| !["pool", "reader", "sender", "checker"].contains(&user));
}

/// The bus is made ready for a pool, and an operator minds its accounts.
async fn minds_accounts(account: &Account, stage: &Stage) {
    let pool = [("WHATSAPP_ACCOUNTS", "*")];
    account.output_with(stage, &["provision", "--account", "default"], "provisioner", &pool).await;
    // An edge that has given its account back.
    let streams = stage.streams().await;
    let leases = streams.jetstream().get_key_value("WA_LEASES").await.expect("the bucket");
    leases.put("old", "".into()).await.expect("a lease");
    // Its consumer was removed.
    account.output_with(stage, &["accounts", "add", "old"], "operator", &[("NATS_PROVISION", "off")]).await;
    for arguments in [&["list"][..], &["pause", "old"], &["resume", "old"], &["remove", "old"]] {
        account.output(stage, &[&["accounts"], arguments].concat(), "operator").await;
    }
    assert!(leases.entry("old").await.expect("an answer").is_none(), "its lease is removed");
}

#[tokio::test]
async fn an_edge_of_a_pool_does_its_whole_job_with_the_least_that_it_may() {
    let account = Account::new();
    let stage = Stage::plan()
        .nats(account.setup.clone())
        .setting("MEDIA", "all")
        .setting("MEDIA_URL_SECRET", SECRET)
        .setting("TAKEOVER", "30m")
        .setting("SERVICE", "on")
        .setting("OPT_OUT_WORDS", "stop")
        .setting("SESSION_STORE", "nats")
        .setting("SESSION_KEY", crate::session_on_bus::KEY)
        .setting("SESSION_UNSAFE_SYNC", "on")
        .setting("WHATSAPP_ACCOUNTS", "default")
        .set()
        .await;
    account.output_with(&stage, &["provision", "--account", "default"], "provisioner", &[]).await;
    // The consumer of another account is not there: an edge of the pool makes it.
    let settings = account.settings("pool", "_INBOX_pool");
    let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let own = [("NATS_PROVISION", "create"), ("WHATSAPP_ACCOUNTS", "default,other")];
    let settings: Vec<_> = settings.chain(own).collect();
    let edge = stage.start_with(Role::Edge, &settings).await;
    let forwarder = account.start(&stage, Role::Forwarder).await;
    eventually("the number to be linked", PATIENCE, async || {
        let mut settings = stage.settings().clone();
        settings.extend(account.settings("operator", "_INBOX_operator"));
        // It says itself why it fails, and logs nothing.
        settings.remove("RUST_LOG");
        let mut process = spawn_command(&["link", "--account", "default"], &settings, stage.dir());
        process.end(PATIENCE).await;
        let link: serde_json::Value = serde_json::from_str(&process.stdout()).unwrap_or_default();
        if link["state"] == "online" {
            return Ok(());
        }
        let qr = link["qr"].as_str().ok_or_else(|| format!("no QR code in {link}"))?;
        stage.simulator.scan(qr).await?;
        Err("it was scanned".to_owned())
    })
    .await;
    let customer = stage.customer().await;
    let sticker = json!({"kind": "sticker", "media": {"bytes": "AAAA"}});
    let sticker = customer.write_with(sticker).await;
    stage.streams().await.updated(1).await;
    customer.write("hola").await;
    customer.receives(1).await;
    // What was offered in a chat that the edge does not know is looked up.
    let stranger = stage.customers("54911888", 1).await.remove(0);
    stranger.write("1").await;
    stranger.receives(1).await;
    sends_a_file(&stage, &customer).await;
    opts_out(&account, &stage, &customer).await;
    let listed = account.output(&stage, &["accounts", "list", "--json"], "operator").await;
    assert!(listed.contains("\"account\":\"other\"") && listed.contains("\"link\":\"online\""), "{listed}");
    // Nobody is to link it.
    account.output(&stage, &["accounts", "pause", "other"], "operator").await;
    eventually("all to be well", PATIENCE, async || {
        let mut settings = stage.settings().clone();
        settings.extend(account.settings("operator", "_INBOX_operator"));
        // It says itself why it fails, and logs nothing.
        settings.remove("RUST_LOG");
        let mut process = spawn_command(&["status"], &settings, stage.dir());
        let code = process.end(PATIENCE).await.code();
        if code == Some(0) { Ok(()) } else { Err(process.stdout()) }
    })
    .await;
    let file = format!("default/{0}/{0}/{sticker}", customer.phone());
    hands_out(&file, [&edge, &forwarder]).await;
    edge.stop().await;
    forwarder.stop().await;
    let log = stage.nats.log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    each_is_used(&log, |user| user == "pool");
}

async fn both_are_seen(account: &Account, stage: &Stage) {
    let well = account.output(stage, &["status", "--json"], "operator").await;
    let well: serde_json::Value = serde_json::from_str(&well).expect("JSON");
    let roles: Vec<_> =
        well["processes"].as_array().expect("processes").iter().map(|one| &one["role"]).collect();
    assert_eq!(roles, ["edge", "forwarder"]);
}

/// An operator sees both processes, and another service asks what it may.
async fn seen_as_services(account: &Account, stage: &Stage) {
    let operator = account.join(stage, "operator").await;
    eventually("two services", PATIENCE, async || {
        let inbox = operator.new_inbox();
        let answers = operator.subscribe(inbox.clone()).await.expect("a subscription");
        operator.publish_with_reply("$SRV.PING", inbox, "".into()).await.expect("a question");
        let both = answers.take(2).collect::<Vec<_>>();
        match tokio::time::timeout(PATIENCE / 10, both).await {
            Ok(_) => Ok(()),
            Err(_elapsed) => Err("not both".to_owned()),
        }
    })
    .await;
    let checker = account.join(stage, "checker").await;
    for subject in ["wa.svc.default.check-number", "wa.live.status"] {
        let question = r#"{"number":"5491112345678"}"#;
        let answer = checker.request(subject, question.into()).await.expect(subject);
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert!(answer["on_whatsapp"] == true || answer["ready"] == true, "{answer}");
    }
}

/// Somebody wants nothing unasked, and an operator sees to that.
async fn opts_out(account: &Account, stage: &Stage, customer: &Customer) {
    customer.write("stop").await;
    let streams = stage.streams().await;
    eventually("word of it", PATIENCE, async || {
        let told = streams.opt_outs().await;
        if told.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
    })
    .await;
    let before = streams.failed_sends().await.len();
    let content = Some(Content::Text(SendText { body: "oferta".to_owned(), ..Default::default() }));
    streams
        .send("oferta", &SendMessage { to: customer.phone().to_owned(), content, ..Default::default() })
        .await;
    eventually("it to be held back", PATIENCE, async || {
        let failed = streams.failed_sends().await;
        if failed.len() > before { Ok(()) } else { Err(format!("{failed:?}")) }
    })
    .await;
    for what in ["list", "add", "remove"] {
        let chat = ["--chat", customer.phone()];
        let arguments = [&["opt-out", what][..], if what == "list" { &[] } else { &chat }].concat();
        account.output(stage, &arguments, "operator").await;
    }
}

/// Each permission was made use of: none is there for nothing.
fn each_is_used(log: &str, of: impl Fn(&str) -> bool) {
    let used = used(log);
    let conf = std::fs::read_to_string(root().join("deploy/nats/accounts.conf")).expect("the users");
    for (user, permissions) in configured(&conf) {
        // The last one is for what waits for a message in another forwarder's hand, which here is one forwarder's luck.
        let beyond_this_test = |allowed: &&String| {
            !of(&user)
                || allowed.starts_with("+$JS.ACK.*.*.")
                || *allowed == "-wa.out.*.reply.*"
                // A lease is read if the answer to its renewal was lost.
                || (user == "pool" && *allowed == "+$JS.API.DIRECT.GET.KV_WA_LEASES.$KV.WA_LEASES.*")
        };
        for allowed in permissions.iter().filter(|allowed| !beyond_this_test(allowed)) {
            assert!(used.iter().any(|subject| matches(allowed, subject)), "{user} does not need {allowed}");
        }
    }
}

/// Each of these processes hands out the file of three zeros.
async fn hands_out(file: &str, processes: [&Connector; 2]) {
    let links = FileLinks::new(SECRET).expect("links");
    let address = links.sign("http://edge", file, "", u64::MAX);
    for process in processes {
        let path = address.trim_start_matches("http://edge");
        let file = Http::new(format!("http://{}", process.address())).text(path).await;
        assert_eq!(file, "\0\0\0");
    }
}

/// A file of the bucket goes to a phone; one of a bucket that the edge may not read is refused, and said to be.
async fn sends_a_file(stage: &Stage, customer: &Customer) {
    let streams = stage.streams().await;
    let before = customer.inbox().await.len();
    let bucket = streams.jetstream().get_object_store("WA_MEDIA").await.expect("the bucket");
    let mut content: &[u8] = b"foto";
    bucket.put("foto", &mut content).await.expect("an object");
    let kind = SendMediaKind::Image.into();
    let file = SendMedia { key: "foto".to_owned(), kind, ..SendMedia::default() };
    let to = |file| SendMessage {
        to: customer.phone().to_owned(),
        content: Some(Content::Media(file)),
        ..SendMessage::default()
    };
    streams.send("foto", &to(file)).await;
    assert_eq!(customer.receives(before + 1).await[before].kind, "image");
}

/// What was published (`+`) and subscribed to (`-`), as nats-server's trace has it.
fn used(log: &str) -> BTreeSet<String> {
    let operation = |line: &str| {
        let (_, operation) = line.split_once("<<- [")?;
        let mut words = operation.trim_end_matches(']').split(' ');
        let sign = match words.next()? {
            "PUB" | "HPUB" => '+',
            "SUB" => '-',
            _ => return None,
        };
        Some(format!("{sign}{}", words.next()?))
    };
    log.lines().filter_map(operation).collect()
}

/// As NATS reads wildcards.
fn matches(pattern: &str, subject: &str) -> bool {
    if pattern == "+allow_responses" {
        // Nobody but who was asked publishes there.
        return subject.starts_with("+_INBOX_operator.");
    }
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// An edge with the permissions of `MEDIA=inbound`, or asked for a bucket of somebody else's.
#[tokio::test]
async fn a_file_in_a_bucket_that_the_edge_may_not_read_fails_at_once_and_the_chat_goes_on() {
    let account = Account::new();
    let stage = Stage::plan().nats(account.setup.clone()).setting("MEDIA", "all").set().await;
    stage.logs.expects(warning::NOT_TAKEN);
    stage.logs.expects("nats-server refuses");
    account.output(&stage, &["provision"], "provisioner").await;
    let mut edge = account.start(&stage, Role::Edge).await;
    edge.link(&stage.simulator).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let file = SendMedia {
        bucket: "theirs".to_owned(),
        key: "foto".to_owned(),
        kind: SendMediaKind::Image.into(),
        ..SendMedia::default()
    };
    let message = |content| SendMessage {
        to: customer.phone().to_owned(),
        content: Some(content),
        ..SendMessage::default()
    };
    streams.send("foto", &message(Content::Media(file))).await;
    streams
        .send("next", &message(Content::Text(SendText { body: "hola".to_owned(), ..Default::default() })))
        .await;
    assert_eq!(customer.receives(1).await[0].text, "hola");
    assert_eq!(streams.failed_sends().await[0].reason, "bucket-forbidden");
}

#[tokio::test]
async fn each_forbidden_act_is_refused() {
    let account = Account::new();
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    account.output(&stage, &["provision"], "provisioner").await;
    for (user, inbox, acts) in FORBIDDEN {
        let (events, mut heard) = mpsc::unbounded_channel();
        let setup = Setup { user: Some((user.to_owned(), password(user))), ..account.setup.clone() };
        let options = setup.options().custom_inbox_prefix(inbox).event_callback(move |event| {
            if let Event::ServerError(ServerError::Other(words)) = event {
                let _ = events.send(words);
            }
            std::future::ready(())
        });
        let client = options.connect(stage.nats.url()).await.expect(user);
        for act in acts {
            let subject = &act[1..];
            let _subscription = match act.starts_with('+') {
                true => {
                    client.publish(subject.to_owned(), "".into()).await.expect("a publish");
                    None
                }
                false => Some(client.subscribe(subject.to_owned()).await.expect("a subscription")),
            };
            let said = tokio::time::timeout(PATIENCE, heard.recv()).await;
            let said = said.unwrap_or_else(|_elapsed| panic!("{user} may {act}")).expect("an event");
            let verb = if act.starts_with('+') { "Publish" } else { "Subscription" };
            assert!(said.contains(verb) && said.contains(&format!("\"{subject}\"")), "{user} {act}: {said}");
        }
    }
}

#[tokio::test]
async fn other_services_read_with_a_consumer_made_for_them_and_have_messages_sent() {
    let account = Account::new();
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    account.output(&stage, &["provision"], "provisioner").await;
    let harness = stage.streams().await;
    let archive = pull::Config { durable_name: Some("archive".to_owned()), ..pull::Config::default() };
    harness.jetstream().create_consumer_on_stream(archive, "WA_IN").await.expect("a consumer");
    harness
        .jetstream()
        .publish("wa.in.default.message.5491", "x".into())
        .await
        .expect("a message")
        .await
        .expect("stored");

    let join = async |user: &str| async_nats::jetstream::new(account.join(&stage, user).await);
    let reader = join("reader").await;
    let consumer =
        reader.get_consumer_from_stream::<pull::Config, _, _>("archive", "WA_IN").await.expect("it");
    let mut batch = consumer.batch().max_messages(1).messages().await.expect("a batch");
    let message = batch.next().await.expect("a message").expect("a message");
    assert_eq!(&message.payload[..], b"x");
    message.double_ack().await.expect("an ack");
    let sender = join("sender").await;
    let sent = sender.publish("wa.out.default.send.5491", "x".into()).await.expect("a request");
    assert_eq!(sent.await.expect("stored").stream, "WA_OUT");
}

/// The users of an earlier version: the edge may not hear what `status` asks, the forwarder may not answer.
#[tokio::test]
async fn a_process_that_may_not_answer_works_and_says_so_once() {
    let account = Account::with(|accounts| {
        let deaf = accounts.replacen(
            "\"_INBOX_edge_default.>\"\n            \"wa.live.status\"\n",
            "\"_INBOX_edge_default.>\"\n",
            1,
        );
        assert_ne!(deaf, accounts);
        deaf.replace("allow_responses: true", "")
    });
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    stage.logs.expects("nats-server refuses that this process hears what `whatsapp-connector status` asks");
    stage.logs.expects("nats-server refuses that this process answers `whatsapp-connector status`");
    account.output(&stage, &["provision"], "provisioner").await;
    let mut edge = account.start(&stage, Role::Edge).await;
    edge.link(&stage.simulator).await;
    let mut forwarder = account.start(&stage, Role::Forwarder).await;
    forwarder.ready().await;

    for _ in 0..2 {
        let mut settings = stage.settings().clone();
        settings.extend(account.settings("operator", "_INBOX_operator"));
        let mut status = spawn_command(&["status", "--json"], &settings, stage.dir());
        assert_eq!(status.end(PATIENCE).await.code(), Some(1));
        let report: serde_json::Value = serde_json::from_str(&status.stdout()).expect("JSON");
        assert_eq!(
            (&report["processes"], &report["accounts"][0]["link"]),
            (&"[]".parse().unwrap(), &"online".into())
        );
    }

    let customers = stage.customers("54911999", 1).await;
    let written = rounds(&customers, 1..=1).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    for (part, what) in [(&edge, "hears what"), (&forwarder, "answers")] {
        let told = eventually("a warning", PATIENCE, async || {
            let said = part.process.stderr();
            let told: Vec<_> = said.lines().filter(|line| line.contains("nats-server refuses")).collect();
            if told.is_empty() { Err(said) } else { Ok(told.join("\n")) }
        })
        .await;
        assert!(told.contains(&format!("refuses that this process {what}")), "{told}");
        assert!(told.contains("WARN") && told.contains("Permissions Violation"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

/// The users of an earlier version: nobody may ask the edge or the forwarder.
#[tokio::test]
async fn a_process_that_nobody_may_ask_works_and_says_so_once() {
    const REFUSED: &str = "nats-server refuses that services ask this process";
    let account = Account::with(|accounts| {
        let without = |line: &&str| {
            let allowed = line.trim();
            !allowed.starts_with("\"$SRV.*") && allowed != "\"wa.svc.default.*\""
        };
        let earlier = accounts.lines().filter(without).collect::<Vec<_>>().join("\n");
        assert!(earlier.lines().count() + 10 == accounts.lines().count());
        earlier
    });
    let stage = Stage::plan().nats(account.setup.clone()).setting("SERVICE", "on").set().await;
    stage.logs.expects(REFUSED);
    account.output(&stage, &["provision"], "provisioner").await;
    let mut edge = account.start(&stage, Role::Edge).await;
    edge.link(&stage.simulator).await;
    let mut forwarder = account.start(&stage, Role::Forwarder).await;
    forwarder.ready().await;

    let customers = stage.customers("54911999", 1).await;
    let written = rounds(&customers, 1..=1).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    eventually("both to have said it", PATIENCE, async || match stage.logs.count(REFUSED) {
        2 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let well = account.output(&stage, &["status", "--json"], "operator").await;
    let well: serde_json::Value = serde_json::from_str(&well).expect("JSON");
    assert_eq!(well["processes"].as_array().expect("processes").len(), 2, "{well}");
    for part in [&edge, &forwarder] {
        assert_eq!(part.process.stderr().matches(REFUSED).count(), 1);
    }
}

/// The users of an earlier version: the edge may not ask what was offered last in a chat. Nothing depends on it.
#[tokio::test]
async fn an_edge_that_may_not_ask_what_was_offered_keeps_all_promises() {
    let account = Account::with(|accounts| {
        let earlier = accounts.replace("\"$JS.API.DIRECT.GET.WA_OUT.wa.out.default.reply.*\"\n", "\n");
        assert_ne!(earlier, accounts);
        earlier
    });
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    stage.logs.expects(warning::FORBIDDEN);
    account.output(&stage, &["provision"], "provisioner").await;
    let mut edge = account.start(&stage, Role::Edge).await;
    edge.link(&stage.simulator).await;
    let mut forwarder = account.start(&stage, Role::Forwarder).await;
    forwarder.ready().await;

    let customers = stage.customers("54911888", 3).await;
    let written = rounds(&customers, 1..=3).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
}

/// The users of an earlier version: a forwarder may not read a message again that waited. It gets it from the bus again.
#[tokio::test]
async fn a_forwarder_that_may_not_read_again_keeps_all_promises() {
    let account = Account::with(|accounts| {
        let own = "MSG.NEXT.WA_IN.forwarder\"\n            \"$JS.API.DIRECT.GET.WA_IN\"\n";
        let earlier = accounts.replace(own, "MSG.NEXT.WA_IN.forwarder\"\n");
        assert_ne!(earlier, accounts);
        earlier
    });
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    stage.logs.expects(warning::FORBIDDEN);
    account.output(&stage, &["provision"], "provisioner").await;
    let mut edge = account.start(&stage, Role::Edge).await;
    edge.link(&stage.simulator).await;
    let mut forwarder = account.start_with(&stage, Role::Forwarder, &[("WITHOUT_GUARD", "kept")]).await;
    forwarder.ready().await;

    let customers = stage.customers("54911888", 2).await;
    let written = rounds(&customers, 1..=5).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
}

/// A process whose user may not do what it needs ends at once, and says what.
#[tokio::test]
async fn a_missing_permission_is_told_by_name_at_the_start() {
    let account = Account::new();
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    stage.logs.expects(warning::FORBIDDEN);
    stage.logs.expects(warning::CANNOT_GO_ON);
    stage.logs.may_have("nats-server refuses that this process hears what `whatsapp-connector status` asks");
    account.output(&stage, &["provision"], "provisioner").await;
    for (user, inbox, word) in [
        ("sender", "_INBOX_sender", "Publish to \"$JS.API.STREAM.INFO.WA_IN\""),
        ("forwarder", "_INBOX", "set NATS_INBOX_PREFIX"),
    ] {
        let mut settings = stage.settings().clone();
        settings.extend(account.settings(user, inbox));
        let mut process = crate::support::spawn(Role::Forwarder, &settings, stage.dir());
        let status = process.end(PATIENCE).await;
        let said = process.stderr();
        let last = said.rsplit("whatsapp-connector: ").next().unwrap_or_default();
        assert_eq!(status.code(), Some(69), "{said}");
        assert!(last.contains(word), "expected `{word}` in `{last}`");
    }
}

/// The table of docs/nats.md is what accounts.conf has.
#[test]
fn the_permissions_in_the_documentation_are_those_of_the_configuration() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let (documented, configured) =
        (documented(&read("docs/nats.md")), configured(&read("deploy/nats/accounts.conf")));
    assert_eq!(configured.keys().map(String::as_str).collect::<BTreeSet<_>>(), USERS.into_iter().collect());
    for (user, subjects) in &configured {
        assert_eq!(documented.get(user), Some(subjects), "{user}");
    }
    assert_eq!(documented.len(), configured.len());
}

/// Per user, what it publishes (`+`) and subscribes to (`-`).
type Permissions = BTreeMap<String, BTreeSet<String>>;

/// Rows of `| user | publishes | subscribes |`, subjects in backticks.
fn documented(text: &str) -> Permissions {
    let mut found = Permissions::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let ticked =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let [user, publishes, subscribes] = cells[..] else { continue };
        let [user] = &ticked(user)[..] else { continue };
        if !USERS.contains(&user.as_str()) {
            continue;
        }
        let subjects = found.entry(user.clone()).or_default();
        subjects.extend(ticked(publishes).iter().map(|subject| format!("+{subject}")));
        subjects.extend(ticked(subscribes).iter().map(|subject| format!("-{subject}")));
    }
    found
}

fn configured(text: &str) -> Permissions {
    let mut found = Permissions::new();
    let (mut user, mut sign) = (String::new(), '?');
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("user: ") {
            user = name.to_owned();
        }
        sign = if line.contains("publish:") {
            '+'
        } else if line.contains("subscribe:") {
            '-'
        } else {
            sign
        };
        if line.starts_with("allow_responses: true") {
            found.entry(user.clone()).or_default().insert("+allow_responses".to_owned());
        }
        for subject in line.split('"').skip(1).step_by(2) {
            found.entry(user.clone()).or_default().insert(format!("{sign}{subject}"));
        }
    }
    found
}
