//! The admin server: nobody who reaches it can keep others from an answer, and nobody but whoever may links a number.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Connector, PATIENCE, Role, Stage};

const TOKEN: &str = "a-token-that-is-long-enough";

/// Sends these bytes on a connection of their own, and returns all that comes until it is closed.
async fn raw(edge: &Connector, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(edge.address()).await.expect("a connection");
    // It may be closed before all of it is taken.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection to be closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request with these lines in its head; the answer's head and body.
async fn ask(edge: &Connector, path: &str, lines: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n{lines}\r\n");
    raw(edge, head.as_bytes()).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("no answer")
}

#[tokio::test]
async fn what_is_too_large_too_slow_or_too_much_is_cut_off_and_others_are_answered() {
    let stage = Stage::plan().set().await;
    let edge = stage.start(Role::Edge).await;
    let lives = async || {
        let answer = raw(&edge, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), "200", "{answer}");
        answer
    };
    let said = lives().await.to_lowercase();
    assert!(!said.contains("server:") && !said.contains(env!("CARGO_PKG_VERSION")), "{said}");

    let long = format!("X-Long: {}\r\n", "x".repeat(20 << 10));
    assert_eq!(status(&ask(&edge, "/livez", &long).await), "431");
    let many: String = (0..100).map(|number| format!("X-{number}: x\r\n")).collect();
    assert_eq!(status(&ask(&edge, "/livez", &many).await), "431");
    assert_eq!(status(&ask(&edge, "/livez", "Content-Length: 100000\r\n").await), "413");
    assert_eq!(status(&ask(&edge, "/livez", "Transfer-Encoding: chunked\r\n").await), "413");
    assert_eq!(status(&ask(&edge, "/nowhere", "").await), "404");
    assert_eq!(
        status(&raw(&edge, b"POST /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await),
        "405"
    );
    assert_eq!(status(&raw(&edge, b"no HTTP at all\r\n\r\n").await), "400");
    assert!(
        raw(&edge, b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );

    // Hundreds who say nothing, or never end what they say, keep nobody out.
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(edge.address()).await.expect("a connection");
        if number % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ").await.expect("the beginning of a head");
        }
        idle.push(stream);
        if number % 50 == 0 {
            lives().await;
        }
    }
    lives().await;
    // The last of them is not kept for ever either: a head has five seconds.
    let mut last = idle.pop().expect("the last one");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, last.read_to_end(&mut rest)).await;
    let _ = closed.expect("the idle connection to be closed");

    // Those that are left do not hold up the end.
    let mut held = TcpStream::connect(edge.address()).await.expect("a connection");
    held.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
    let began = std::time::Instant::now();
    edge.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_token_linking_is_for_this_machine() {
    let stage = Stage::plan().set().await;
    let edge = stage.start(Role::Edge).await;
    let local = b"GET /link.json HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&raw(&edge, local).await), "200");
    // A page of somebody else's whose name leads here.
    let refused = ask(&edge, "/link.json", "").await;
    assert_eq!(status(&refused), "403");
    assert!(refused.contains("HTTP_TOKEN"), "{refused}");
}

#[tokio::test]
async fn with_a_token_linking_is_for_whoever_has_it_and_guesses_are_bounded() {
    let stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).set().await;
    let edge = stage.start(Role::Edge).await;
    let with = async |login: &str| ask(&edge, "/link.json", &format!("Authorization: {login}\r\n")).await;
    // curl -u me:a-token-that-is-long-enough
    let basic = "Basic bWU6YS10b2tlbi10aGF0LWlzLWxvbmctZW5vdWdo";
    for right in [&format!("Bearer {TOKEN}"), basic] {
        let answer = with(right).await;
        assert_eq!(status(&answer), "200", "{answer}");
        let head = answer.to_lowercase();
        for line in [
            "cache-control: no-store",
            "x-frame-options: deny",
            "content-security-policy: default-src 'none'",
        ] {
            assert!(head.contains(line), "{line} in {answer}");
        }
    }
    let page = ask(&edge, "/link", &format!("Authorization: {basic}\r\n")).await;
    assert!(status(&page) == "200" && page.contains("<html"), "{page}");
    // From this machine too: a reverse proxy is on it.
    let local = b"GET /link HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let refused = raw(&edge, local).await;
    assert!(
        status(&refused) == "401" && refused.to_lowercase().contains("www-authenticate: basic realm="),
        "{refused}"
    );
    // Health is for whoever asks.
    assert_eq!(status(&ask(&edge, "/metrics", "").await), "200");

    for _ in 0..100 {
        assert_eq!(status(&with("Bearer wrong").await), "401");
    }
    let locked = with(&format!("Bearer {TOKEN}")).await;
    assert!(status(&locked) == "429" && locked.to_lowercase().contains("retry-after: "), "{locked}");
    assert_eq!(status(&ask(&edge, "/livez", "").await), "200");
    let log = edge.process.stderr();
    assert_eq!(log.matches("a hundred wrong logins").count(), 1, "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}

#[tokio::test]
async fn a_token_that_could_be_guessed_is_refused() {
    let stage = Stage::plan().setting("HTTP_TOKEN", "short").set().await;
    let mut edge = crate::support::spawn(Role::Edge, stage.settings(), stage.dir());
    assert_eq!(edge.end(PATIENCE).await.code(), Some(78));
    let said = edge.stderr();
    assert!(said.contains("HTTP_TOKEN=***: it takes 16 or more printable ASCII"), "{said}");
    assert!(!said.contains("short"), "{said}");
}
