//! Every way into a guarded nats-server, and a clear word where there is none.

pub mod authority;
mod operator;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::authority::Authority;
use self::operator::Operator;
use crate::support::oracle::{Written, write_each};
use crate::support::{Customer, Layout, Nats, PATIENCE, Process, Role, Setup, Stage, eventually, spawn};

/// `EX_CONFIG` of `sysexits.h`.
const BAD_CONFIG: Option<i32> = Some(78);
/// `EX_UNAVAILABLE`.
const UNAVAILABLE: Option<i32> = Some(69);

/// A nats-server with a configuration of the test's own.
struct Guarded {
    nats: Nats,
    dir: tempfile::TempDir,
}

impl Guarded {
    async fn start(config: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let nats = Nats::start_as(dir.path().join("nats"), configured(dir.path(), &config(dir.path()))).await;
        Self { nats, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file with a secret in it.
    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("a file");
        self.path(name).display().to_string()
    }

    /// `whatsapp-connector provision` goes the whole way: it connects, asks, and makes.
    async fn try_in(&self, url: &str, settings: &[(&str, &str)]) -> (ExitStatus, String) {
        let mut settings = owned(settings);
        settings.insert("NATS_URL".to_owned(), url.to_owned());
        let mut process = start(&settings, self.dir.path());
        (process.end(PATIENCE).await, process.stderr())
    }

    #[track_caller]
    fn lets_in(&self, url: &str, settings: &[(&str, &str)]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let tried = self.try_in(url, settings);
        async move {
            let (status, said) = tried.await;
            assert!(status.success(), "{caller}: {status}\n{said}");
        }
    }

    async fn refuses(&self, url: &str, settings: &[(&str, &str)], code: Option<i32>, word: &str) {
        let (status, said) = self.try_in(url, settings).await;
        assert_eq!(status.code(), code, "{said}");
        let last = said.rsplit("whatsapp-connector: ").next().unwrap_or_default();
        assert!(last.contains(word), "expected `{word}` in `{last}`");
    }
}

fn configured(dir: &Path, config: &str) -> Setup {
    let path = dir.join("nats-server.conf");
    std::fs::write(&path, config).expect("a configuration");
    Setup { config: Some(path), ..Setup::default() }
}

fn start(settings: &BTreeMap<String, String>, dir: &Path) -> Process {
    crate::support::spawn_command(&["provision"], settings, dir)
}

fn owned(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_user_s_password_comes_from_the_address_the_environment_or_a_file() {
    let server = Guarded::start(|_| "authorization { user: me, password: \"p:s/s\" }".to_owned()).await;
    let url = server.nats.url();
    let file = server.file("password", "p:s/s\n");
    server.lets_in(&url.replace("nats://", "nats://me:p%3As%2Fs@"), &[]).await;
    server.lets_in(&url, &[("NATS_USER", "me"), ("NATS_PASSWORD", "p:s/s")]).await;
    server.lets_in(&url, &[("NATS_USER", "me"), ("NATS_PASSWORD_FILE", &file)]).await;
    let refused = "nats-server refused the login";
    server.refuses(&url, &[], UNAVAILABLE, refused).await;
    server.refuses(&url, &[("NATS_USER", "me"), ("NATS_PASSWORD", "no")], UNAVAILABLE, refused).await;
    let both = url.replace("nats://", "nats://me:pass@");
    server.refuses(&both, &[("NATS_TOKEN", "x")], BAD_CONFIG, "NATS_URL holds a login").await;
    let missing = [("NATS_USER", "me"), ("NATS_PASSWORD_FILE", "./nowhere")];
    server.refuses(&url, &missing, BAD_CONFIG, "NATS_PASSWORD_FILE=./nowhere: No such file").await;
    let two = [("NATS_USER", "me"), ("NATS_PASSWORD", "x"), ("NATS_TOKEN", "x")];
    server.refuses(&url, &two, BAD_CONFIG, "NATS_USER=(set): it takes nothing together with another").await;
}

#[tokio::test]
async fn a_token_and_an_nkey_are_logins_too() {
    let server = Guarded::start(|_| "authorization { token: \"s3cret\" }".to_owned()).await;
    let url = server.nats.url();
    let file = server.file("token", "s3cret\n");
    server.lets_in(&url, &[("NATS_TOKEN", "s3cret")]).await;
    server.lets_in(&url, &[("NATS_TOKEN_FILE", &file)]).await;
    server.refuses(&url, &[("NATS_TOKEN", "other")], UNAVAILABLE, "refused the login").await;

    let key = nkeys::KeyPair::new_user();
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key());
    let server = Guarded::start(|_| config).await;
    let url = server.nats.url();
    let seed = key.seed().expect("a seed");
    let file = server.file("seed", &seed);
    server.lets_in(&url, &[("NATS_NKEY", &seed)]).await;
    server.lets_in(&url, &[("NATS_NKEY_FILE", &file)]).await;
    let other = nkeys::KeyPair::new_user().seed().expect("a seed");
    server.refuses(&url, &[("NATS_NKEY", &other)], UNAVAILABLE, "refused the login").await;
    let broken = server.file("broken", "SUNO");
    server.refuses(&url, &[("NATS_NKEY_FILE", &broken)], BAD_CONFIG, "NATS_NKEY_FILE=").await;
}

#[tokio::test]
async fn tls_with_an_authority_of_one_s_own_goes_both_ways_and_distrust_is_told() {
    let mut made = None;
    let server = Guarded::start(|dir| {
        let ours = Authority::new(dir, "ours");
        let config = tls_config(&ours, "verify: true");
        made = Some((ours, Authority::new(dir, "theirs")));
        config
    })
    .await;
    let (ours, theirs) = made.expect("two authorities");
    let plain = server.nats.url();
    let url = plain.replace("nats://", "tls://");
    let [certificate, key] = texts(ours.sign("client"));
    let (ca, other_ca) = (text(&ours.ca()), text(&theirs.ca()));
    let good = [("NATS_CA", ca.as_str()), ("NATS_CERT", &certificate), ("NATS_KEY", &key)];
    server.lets_in(&url, &good).await;
    server.lets_in(&plain, &good).await;
    let elsewhere = [good[1], good[2]];
    server.refuses(&url, &elsewhere, UNAVAILABLE, "no TLS connection to nats-server").await;
    let distrusted = [("NATS_CA", other_ca.as_str()), good[1], good[2]];
    server.refuses(&url, &distrusted, UNAVAILABLE, "UnknownIssuer").await;
    server.refuses(&url, &good[..1], UNAVAILABLE, "no TLS connection to nats-server").await;
    let [stranger, stranger_key] = texts(theirs.sign("client"));
    let strange = [good[0], ("NATS_CERT", stranger.as_str()), ("NATS_KEY", &stranger_key)];
    server.refuses(&url, &strange, UNAVAILABLE, "no TLS connection to nats-server").await;
    let mixed = [good[0], good[1], ("NATS_KEY", stranger_key.as_str())];
    server.refuses(&url, &mixed, BAD_CONFIG, "does not belong to NATS_CERT").await;
    server.refuses(&url, &good[..2], BAD_CONFIG, "NATS_KEY=(not set)").await;
    let no_pem = server.file("no.pem", "nothing");
    server.refuses(&url, &[("NATS_CA", &no_pem)], BAD_CONFIG, "no certificate is in it").await;
}

#[tokio::test]
async fn wss_takes_the_same_authority_and_login() {
    let port = free_port();
    let mut made = None;
    let server = Guarded::start(|dir| {
        let ours = Authority::new(dir, "ours");
        let [certificate, key] = texts(ours.sign("server"));
        made = Some(ours);
        format!(
            "authorization {{ token: \"s3cret\" }}\nwebsocket {{ listen: \"127.0.0.1:{port}\", tls {{ cert_file: \
             \"{certificate}\", key_file: \"{key}\" }} }}"
        )
    })
    .await;
    let ca = text(&made.expect("an authority").ca());
    let url = format!("wss://127.0.0.1:{port}");
    server.lets_in(&url, &[("NATS_CA", &ca), ("NATS_TOKEN", "s3cret")]).await;
    server.refuses(&url, &[("NATS_CA", &ca), ("NATS_TOKEN", "no")], UNAVAILABLE, "refused the login").await;
    server.refuses(&url, &[("NATS_TOKEN", "s3cret")], UNAVAILABLE, "no TLS connection").await;
    let both = format!("{url},{}", server.nats.url());
    server.refuses(&both, &[("NATS_TOKEN", "s3cret")], BAD_CONFIG, "do not go together").await;
}

/// What a server of another version says is all that the connector sees of it.
pub async fn old_server() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("its address"));
    let old = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let (read, mut write) = stream.into_split();
            let info = br#"INFO {"server_id":"X","server_name":"x","version":"2.11.9","go":"","host":"127.0.0.1","port":1,"headers":true,"max_payload":1048576,"proto":1,"jetstream":true}"#;
            write.write_all(&[info.as_slice(), b"\r\n"].concat()).await.expect("INFO");
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("PING") && write.write_all(b"PONG\r\n").await.is_err() {
                    break;
                }
            }
        }
    });
    (url, old)
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_one_sentence() {
    let (url, old) = old_server().await;
    let dir = tempfile::tempdir().expect("a directory");
    let settings = owned(&[("NATS_URL", &url), ("HTTP_ADDR", "127.0.0.1:0")]);
    let mut process = spawn(Role::Forwarder, &settings, dir.path());
    let status = process.end(PATIENCE).await;
    let said = process.stderr();
    assert_eq!(status.code(), UNAVAILABLE, "{said}");
    let last = said.lines().rfind(|line| line.starts_with("whatsapp-connector: ")).unwrap_or_default();
    assert!(
        last.starts_with("whatsapp-connector: nats-server 2.11.9 is too old: this connector needs 2.12"),
        "{said}"
    );
    old.abort();
}

/// The edge and the forwarder are on a leaf node, the streams and buckets on the hub behind it, in another JetStream
/// domain than the leaf's own.
#[tokio::test]
async fn a_jetstream_domain_and_an_inbox_prefix_are_honoured_by_all_that_the_connector_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let leaf_port = free_port();
    let hub_config = format!(
        "server_name: hub\njetstream {{ domain: hub }}\nleafnodes {{ listen: \"127.0.0.1:{leaf_port}\" }}\n"
    );
    let hub_setup = configured(dir.path(), &hub_config);
    let mut stage = Stage::plan().nats(hub_setup).set().await;
    let leaf_dir = dir.path().join("leaf");
    std::fs::create_dir(&leaf_dir).expect("a directory");
    let permissions = "publish: \">\", subscribe: [\"mine.>\", \"wa.>\"]";
    let leaf_config = format!(
        "server_name: leaf\njetstream {{ domain: leaf }}\n\
         leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{leaf_port}\" }} ] }}\n\
         authorization {{ users: [ {{ user: me, password: x, permissions: {{ {permissions} }} }} ] }}\n"
    );
    let leaf = Nats::start_as(leaf_dir.join("nats"), configured(&leaf_dir, &leaf_config)).await;
    eventually("the leaf to be connected", PATIENCE, async || {
        if leaf.log().contains("Leafnode connection created") { Ok(()) } else { Err(leaf.log()) }
    })
    .await;
    stage.set("NATS_URL", &leaf.url());
    for (name, value) in [
        ("NATS_USER", "me"),
        ("NATS_PASSWORD", "x"),
        ("NATS_JS_DOMAIN", "hub"),
        ("NATS_INBOX_PREFIX", "mine"),
    ] {
        stage.set(name, value);
    }

    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911555", 4).await;
    let mut written = rounds(&customers, 1..=3).await;
    // Its successor sees second deliveries: they count deaths in a bucket.
    product.forwarders[0].process.kill();
    let _again = stage.start(Role::Forwarder).await;
    written.extend(rounds(&customers, 4..=5).await);

    let evidence = stage.evidence(written.len(), &customers).await;
    evidence.assert_kept(&written);
    let hub = stage.streams().await;
    let leases = hub.jetstream().get_key_value("WA_LEASES").await.expect("the leases");
    let lease = leases.get("default").await.expect("a look at it");
    assert!(lease.is_some_and(|holder| !holder.is_empty()), "the lease is on the hub");
    let said = product.edge.process.stderr();
    assert!(!said.contains("refuses something"), "{said}");
}

/// The old credentials are revoked while messages flow; for a moment nothing is valid. Then the new ones are there.
#[tokio::test]
async fn credentials_are_rotated_under_load_without_a_restart_and_with_nothing_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let creds = dir.path().join("connector.creds");
    let harness_creds = dir.path().join("harness.creds");
    let mut operator = Operator::new();
    let first = operator.user("first");
    first.write(&creds);
    operator.user("harness").write(&harness_creds);
    let mut setup = configured(dir.path(), &operator.config());
    setup.creds = Some(harness_creds);
    let stage = Stage::plan().nats(setup).setting("NATS_CREDS", &text(&creds)).set().await;
    stage.logs.expects_an_outage_of_the_bus();
    stage.logs.expects("cannot log in to nats-server");
    let mut product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911777", 6).await;
    let mut written = rounds(&customers, 1..=3).await;

    operator.revoke(&first);
    configured(dir.path(), &operator.config());
    stage.nats.reload().await;
    // People go on writing; WhatsApp keeps what the edge cannot store.
    let complaint = "cannot log in to nats-server";
    let said = |process: &Process| process.stderr().contains(complaint);
    eventually("everybody to be refused", PATIENCE, async || {
        let mut all = product.forwarders.iter().chain([&product.edge]);
        if all.all(|part| said(&part.process)) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    written.extend(rounds(&customers, 4..=6).await);
    operator.user("second").write(&creds);

    product.edge.ready().await;
    written.extend(rounds(&customers, 7..=8).await);
    let evidence = stage.evidence(written.len(), &customers).await;
    evidence.assert_kept(&evidence.as_it_came(written));
    for part in product.forwarders.iter_mut().chain([&mut product.edge]) {
        assert_eq!(part.process.ended(), None, "nobody had to be started again");
        let times = part.process.stderr().matches(complaint).count();
        assert_eq!(times, 1, "it is told, and not with each attempt");
    }
}

/// Everybody writes once a round.
pub async fn rounds(customers: &[Customer], numbers: RangeInclusive<usize>) -> Vec<Written> {
    let mut written = Vec::new();
    for number in numbers {
        written.extend(write_each(customers, number).await);
    }
    written
}

/// A nats-server's TLS.
pub fn tls_config(authority: &Authority, more: &str) -> String {
    let [certificate, key] = texts(authority.sign("server"));
    let ca = text(&authority.ca());
    format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{ca}\", {more} }}\n")
}

/// As a setting has it.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

fn texts<const N: usize>(paths: [PathBuf; N]) -> [String; N] {
    paths.map(|path| text(&path))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}
