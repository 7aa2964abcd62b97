//! The admin server in bad company: clients that are slow, large, many, or guess.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::heart::{Took, Watch};
use crate::support::{Logs, PATIENCE, Process, Role, Stage, eventually, spawn};

const TOKEN: &str = "a-token-of-the-tests";

/// A forwarder that waits for a nats-server which is not there: its admin server is all that it has.
struct Alone {
    process: Process,
    admin: Admin,
    _logs: Logs,
    /// Last, so that the process has ended when it is removed.
    _dir: tempfile::TempDir,
}

impl Alone {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let logs = Logs::of(dir.path());
        logs.may_have("nats-server does not answer; waiting for it");
        let settings = [("NATS_URL", "nats://127.0.0.1:9"), ("HTTP_ADDR", "127.0.0.1:0")];
        let settings: BTreeMap<String, String> =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut process = spawn(Role::Forwarder, &settings, dir.path());
        let url = process.line("admin: ", PATIENCE).await;
        Self { process, admin: Admin(url.trim_start_matches("http://").to_owned()), _logs: logs, _dir: dir }
    }
}

/// The address of an admin server.
struct Admin(String);

impl Admin {
    async fn connect(&self) -> TcpStream {
        self.connect_from("127.0.0.1:0").await
    }

    /// From another address of this machine.
    async fn connect_from(&self, own: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(own.parse().expect("an address")).expect("an address of loopback");
        // So that what is large is under way for a while, as on a network.
        socket.set_send_buffer_size(8 << 10).expect("a size");
        socket.connect(self.0.parse().expect("an address")).await.expect("a connection")
    }

    /// Sends these bytes, and reads until the server closes the connection. It does so without a reset, which
    /// could take the answer away from who is still sending.
    async fn say(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.expect("a request that is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer with a regular end");
        Answer(answer)
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await
    }
}

/// All that comes until the end of a connection, however that comes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

#[derive(Debug)]
struct Answer(String);

impl Answer {
    fn status(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// Of a header, named in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        let head = self.0.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_and_others_are_answered_meanwhile() {
    let alone = Alone::start().await;
    let admin = &alone.admin;
    let mut slow = admin.connect().await;
    let began = Watch::start();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n").await.expect("a beginning");
    let (mut read, mut write) = slow.into_split();
    // A byte now and then must not keep it open.
    let drip = async {
        for byte in b"X-Slow: ".iter().chain([b'a'; 1_000].iter()) {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            assert_eq!(admin.get("/livez", "").await.status(), "200");
        }
    };
    let mut answer = Vec::new();
    let end = async {
        let _ = read.read_to_end(&mut answer).await;
        began.took().await
    };
    let dripped = async {
        drip.await;
        std::future::pending::<Took>().await
    };
    let took = tokio::select! { took = end => took, took = dripped => took };
    assert!(took.in_all >= Duration::from_secs(4), "a head may take five seconds, this one had {took}");
    // Well before the fifteen seconds that the whole may take, of which the machine may take some itself.
    assert!(took.own() < Duration::from_secs(8), "a head may take five seconds, this one had {took}");
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let alone = Alone::start().await;
    let admin = &alone.admin;
    let large = format!("X-Large: {}\r\n", "a".repeat(20 << 10));
    assert_eq!(admin.get("/livez", &large).await.status(), "431");
    let many: String = (0..80).map(|n| format!("X-{n}: a\r\n")).collect();
    assert_eq!(admin.get("/livez", &many).await.status(), "431");
    let path = format!("/{}", "a".repeat(20 << 10));
    assert!(["414", "431"].contains(&admin.get(&path, "").await.status()));

    // Refused by what it says that it will send, without waiting for it.
    let announced = admin.get("/livez", "Content-Length: 20000\r\n").await;
    assert_eq!((announced.status(), announced.header("connection")), ("413", Some("close")));
    let head = "POST /livez HTTP/1.1\r\nHost: localhost\r\n";
    let body = "a".repeat(240 << 10);
    let sent = admin.say(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(sent.status(), "413");
    let chunk = format!("3000\r\n{}\r\n", "a".repeat(0x3000));
    let chunks = admin.say(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}")).await;
    assert_eq!(chunks.status(), "413");
    // What some clients send out of habit.
    assert_eq!(admin.get("/livez", "Content-Length: 0\r\n").await.status(), "200");
    assert_eq!(
        admin.say("GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}").await.status(),
        "200"
    );
    // One that does not come.
    assert_eq!(admin.get("/livez", "Content-Length: 5\r\n").await.status(), "408");
}

#[tokio::test]
async fn hundreds_of_silent_connections_keep_nobody_from_being_answered() {
    let alone = Alone::start().await;
    let admin = &alone.admin;
    let mut silent = join_all((0..200).map(|_| admin.connect())).await;

    let began = Watch::start();
    for _ in 0..20 {
        assert_eq!(admin.get("/livez", "").await.status(), "200");
    }
    // Had it to wait for those, it would be for three times the five seconds that a head may take.
    began.within(Duration::from_secs(6), "answers to others").await;
    // And they did not hold what they took.
    assert_eq!(rest(&mut silent[0]).await, "");
    // A flood that goes on, of connections that stay. It replaces its own, however busy the machine is.
    let flood = async {
        let mut held = VecDeque::new();
        loop {
            held.push_back(admin.connect_from("127.0.0.2:0").await);
            if held.len() > 200 {
                held.pop_front();
            }
        }
    };
    let asked = async {
        for _ in 0..50 {
            assert_eq!(admin.get("/livez", "").await.status(), "200");
        }
    };
    tokio::select! { () = asked => {}, () = flood => {} }
}

#[tokio::test]
async fn nobody_is_told_what_serves() {
    let alone = Alone::start().await;
    let admin = &alone.admin;
    let version = env!("CARGO_PKG_VERSION");
    let asked = [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /livez HTTP/1.0\r\n\r\n", "200"),
        ("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", "503"),
        ("GET /link HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /link.json HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /link HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("POST /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("DELETE /link HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("BREW /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /livez\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
    ];
    for (request, status) in asked {
        let answer = admin.say(request).await;
        assert_eq!(answer.status(), status, "{request}");
        assert_eq!((answer.header("server"), answer.header("x-powered-by")), (None, None), "{request}");
        assert!(!answer.0.contains(version), "{request}: {answer:?}");
        for name in ["hyper", "axum", "rust"] {
            assert!(!answer.0.to_lowercase().contains(name), "{request}: {answer:?}");
        }
        if request.starts_with("HEAD") {
            assert_eq!((answer.header("content-length"), answer.body()), (Some("6"), ""));
        }
        if status != "400" {
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{request}");
        }
    }
    // Prometheus wants to know.
    assert!(admin.get("/metrics", "").await.body().contains("wa_build_info"));
}

#[tokio::test]
async fn whoever_has_the_token_sees_the_link_and_nobody_else() {
    let stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).set().await;
    stage.logs.expects("a client sends wrong tokens to the admin server");
    let edge = stage.start(Role::Edge).await;
    let admin = Admin(edge.address().to_owned());
    let basic = |pair: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");

    for path in ["/link", "/link.json"] {
        // From loopback as well: a reverse proxy is there.
        let refused = admin.get(path, "").await;
        assert_eq!(refused.status(), "401", "{refused:?}");
        let challenge = "Basic realm=\"whatsapp-connector\", charset=\"UTF-8\"";
        assert_eq!(refused.header("www-authenticate"), Some(challenge));
        assert!(!refused.0.contains("qr"), "{refused:?}");
        for right in [bearer(TOKEN), basic(&format!("me:{TOKEN}")), basic(&format!(":{TOKEN}"))] {
            let seen = admin.get(path, &right).await;
            assert_eq!(seen.status(), "200", "{seen:?}");
            for (name, value) in [
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
            ] {
                assert_eq!(seen.header(name), Some(value));
            }
            assert!(
                seen.header("content-security-policy").is_some_and(|csp| csp.contains("default-src 'none'"))
            );
        }
    }
    let proxied = "GET /link.json HTTP/1.1\r\nHost: wa.example\r\n";
    assert_eq!(admin.say(format!("{proxied}{}\r\n", bearer(TOKEN))).await.status(), "200");
    for open in ["/livez", "/metrics"] {
        assert_eq!(admin.get(open, "").await.status(), "200");
    }
    assert_eq!(admin.get("/readyz", "").await.status(), "503");

    // Loopback has five wrong ones at once; then they are not looked at, and the right one waits with them.
    let wrong = [
        bearer("b-token-of-the-tests"),
        bearer(&TOKEN[..TOKEN.len() - 1]),
        basic(&format!("{TOKEN}:")),
        format!("Authorization: {TOKEN}\r\n"),
        format!("{}{}", bearer("twice"), bearer(TOKEN)),
    ];
    for wrong in &wrong {
        assert_eq!(admin.get("/link.json", wrong).await.status(), "401", "{wrong}");
    }
    for late in [&wrong[0], &bearer(TOKEN)] {
        let later = admin.get("/link.json", late).await;
        assert_eq!(later.status(), "429", "{late}");
        let wait: u64 =
            later.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a time to wait");
        assert!((1..=12).contains(&wait), "{wait}");
    }
    assert_eq!(admin.get("/link.json", "").await.status(), "401", "to ask without one is no guess");
    assert_eq!(admin.get("/livez", "").await.status(), "200");
    let again = eventually("the right token to be looked at again", PATIENCE, async || {
        let answer = admin.get("/link.json", &bearer(TOKEN)).await;
        if answer.status() == "200" { Ok(answer) } else { Err(answer.0) }
    });
    assert!(again.await.body().contains("\"state\""));
    let log = edge.process.stderr();
    assert_eq!(log.matches("a client sends wrong tokens to the admin server").count(), 1, "{log}");
    assert!(!log.contains(TOKEN) && !log.contains("b-token"), "{log}");
    edge.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_held_open_does_not_hold_the_process() {
    let mut alone = Alone::start().await;
    let _silent = join_all((0..10).map(|_| alone.admin.connect())).await;
    let mut begun = alone.admin.connect().await;
    begun.write_all(b"GET /livez HTTP/1.1\r\n").await.expect("a beginning");
    assert_eq!(alone.admin.get("/livez", "").await.status(), "200");
    let told = Watch::start();
    alone.process.terminate();
    let status = alone.process.end(PATIENCE).await;
    assert!(status.success(), "a clean end is 0, this one was {status}");
    told.within(Duration::from_secs(4), "an end with connections that are held open").await;
}
