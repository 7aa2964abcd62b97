//! Ways to nats-server that are not the usual one: TLS before the first word, and a cluster whose addresses are of no
//! use here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::nats_security::authority::Authority;
use crate::nats_security::{text, tls_config};
use crate::support::{PATIENCE, Role, Setup, Stage, eventually, spawn_command};

#[tokio::test]
async fn a_server_that_wants_tls_before_the_first_word_is_reached() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(dir.path(), "ours");
    let path = dir.path().join("nats-server.conf");
    std::fs::write(&path, tls_config(&authority, "handshake_first: true")).expect("a configuration");
    let nats = crate::support::Nats::start_as(
        dir.path().join("nats"),
        Setup { config: Some(path), ..Setup::default() },
    )
    .await;
    let mut settings = [("NATS_URL", nats.url()), ("NATS_CA", text(&authority.ca()))]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>();
    for (tls_first, code) in [("on", 0), ("off", 69)] {
        settings.insert("NATS_TLS_FIRST".to_owned(), tls_first.to_owned());
        let mut process = spawn_command(&["provision"], &settings, dir.path());
        let status = process.end(PATIENCE).await;
        assert_eq!(status.code(), Some(code), "{}", process.stderr());
    }
}

/// In front of nats-server: says that the cluster has another server, too, as a cluster would, with an address that is
/// of no use here.
struct Gossip {
    address: SocketAddr,
    /// Ends all connections when it is cancelled, and is then a new one.
    cut: std::sync::Mutex<CancellationToken>,
    made: AtomicUsize,
    gossiped: SocketAddr,
    /// How often the gossiped address was tried.
    tried: AtomicUsize,
}

impl Gossip {
    async fn start(server: String) -> (Arc<Self>, AbortOnDropHandle<()>) {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (front, useless) = (listen().await, listen().await);
        let gossip = Arc::new(Self {
            address: front.local_addr().expect("an address"),
            cut: std::sync::Mutex::default(),
            made: AtomicUsize::new(0),
            gossiped: useless.local_addr().expect("an address"),
            tried: AtomicUsize::new(0),
        });
        let serving = tokio::spawn({
            let gossip = Arc::clone(&gossip);
            async move {
                let mut connections = JoinSet::new();
                loop {
                    tokio::select! {
                        client = front.accept() => {
                            let client = client.expect("a client").0;
                            gossip.made.fetch_add(1, Ordering::SeqCst);
                            let cut = gossip.cut.lock().expect("a lock").clone();
                            connections.spawn(pass_on(client, server.clone(), gossip.gossiped, cut));
                        }
                        lost = useless.accept() => {
                            // Whoever comes here is hung up on.
                            drop(lost);
                            gossip.tried.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            }
        });
        (gossip, AbortOnDropHandle::new(serving))
    }

    /// Everybody has to connect anew.
    async fn cut(&self) {
        let before = self.made.load(Ordering::SeqCst);
        std::mem::take(&mut *self.cut.lock().expect("a lock")).cancel();
        eventually("another connection", PATIENCE, async || {
            if self.made.load(Ordering::SeqCst) > before { Ok(()) } else { Err("none".to_owned()) }
        })
        .await;
    }
}

async fn pass_on(client: TcpStream, server: String, gossiped: SocketAddr, cut: CancellationToken) {
    let server = TcpStream::connect(server).await.expect("nats-server");
    let (from_server, mut to_server) = server.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let mut from_server = BufReader::new(from_server);
    let mut info = String::new();
    from_server.read_line(&mut info).await.expect("INFO");
    let more = info.replacen('{', &format!("{{\"connect_urls\":[\"{gossiped}\"],"), 1);
    if to_client.write_all(more.as_bytes()).await.is_err() {
        return;
    }
    tokio::select! {
        _ = copy(&mut from_server, &mut to_client) => {}
        _ = copy(&mut from_client, &mut to_server) => {}
        () = cut.cancelled() => {}
    }
}

#[tokio::test]
async fn addresses_that_a_cluster_gossips_are_ignored_if_they_are_of_no_use_here() {
    let mut stage = Stage::plan().set().await;
    stage.logs.expects_an_outage_of_the_bus();
    let server = stage.nats.url().trim_start_matches("nats://").to_owned();
    let (gossip, _serving) = Gossip::start(server).await;
    stage.set("NATS_URL", &format!("nats://{}", gossip.address));
    let mut forwarder = stage.start_with(Role::Forwarder, &[("NATS_IGNORE_DISCOVERED", "on")]).await;
    forwarder.ready().await;
    for _ in 0..6 {
        gossip.cut().await;
        forwarder.ready().await;
    }
    assert_eq!(gossip.tried.load(Ordering::SeqCst), 0, "only NATS_URL counts");
    forwarder.stop().await;

    // Otherwise they are tried.
    let mut forwarder = stage.start(Role::Forwarder).await;
    forwarder.ready().await;
    eventually("the other address to be tried", PATIENCE, async || {
        gossip.cut().await;
        forwarder.ready().await;
        if gossip.tried.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err("never".to_owned()) }
    })
    .await;
    forwarder.stop().await;
}
