//! Three nats-servers that share their streams.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{PATIENCE, Process, clean, eventually, nats_server};

const NODES: usize = 3;
/// A stream that nobody leads does not answer; then it does not matter who is hit.
const AIM: Duration = Duration::from_secs(1);

/// A cluster; its nodes end with it.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// The one that was hit last.
    victim: usize,
    hits: usize,
}

#[derive(Debug)]
struct Node {
    name: String,
    dir: PathBuf,
    port: u16,
    route: u16,
    process: Option<Process>,
}

impl Cluster {
    /// Starts one with everything below `dir`, and waits until it has a leader.
    pub async fn start(dir: &Path) -> Self {
        let ports = free_ports(NODES * 2);
        let mut nodes = Vec::new();
        for (number, pair) in ports.chunks_exact(2).enumerate() {
            let name = format!("node-{number}");
            let dir = dir.join(&name);
            std::fs::create_dir_all(&dir).expect("a directory for a node");
            nodes.push(Node { name, dir, port: pair[0], route: pair[1], process: None });
        }
        let mut cluster = Self { nodes, victim: 0, hits: 0 };
        for number in 0..NODES {
            cluster.spawn(number);
        }
        let urls = cluster.urls();
        eventually("the cluster to have a leader", PATIENCE, async || {
            let client = async_nats::connect(urls.clone()).await.map_err(|error| error.to_string())?;
            let account = async_nats::jetstream::new(client).query_account().await;
            account.map(drop).map_err(|error| error.to_string())
        })
        .await;
        cluster
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        self.urls().join(",")
    }

    fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.port)).collect()
    }

    /// `kill -9` of the victim.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.nodes[self.victim].process.take() {
            process.kill();
        }
    }

    /// SIGSTOP of the victim.
    pub fn freeze(&mut self) {
        if let Some(process) = &mut self.nodes[self.victim].process {
            process.freeze();
        }
    }

    /// All nodes run again.
    pub fn restore(&mut self) {
        for number in 0..NODES {
            match &mut self.nodes[number].process {
                Some(process) => process.thaw(),
                None => self.spawn(number),
            }
        }
    }

    /// The next victim is the leader of the inbound and of the outbound stream in turns. Takes a moment.
    pub async fn aim(&mut self) {
        self.hits += 1;
        let stream = if self.hits % 2 == 1 { "WA_IN" } else { "WA_OUT" };
        self.aim_at(stream).await;
    }

    /// The next victim is the leader of this stream, if it has one. Takes a moment.
    pub async fn aim_at(&mut self, stream: &str) {
        let leader = tokio::time::timeout(AIM, leader(self.urls(), stream)).await.ok().flatten();
        let found = self.nodes.iter().position(|node| Some(&node.name) == leader.as_ref());
        self.victim = found.unwrap_or((self.victim + 1) % NODES);
    }

    fn spawn(&mut self, number: usize) {
        let routes: Vec<String> =
            self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.route)).collect();
        let node = &mut self.nodes[number];
        let mut command = clean(&nats_server());
        command.args(["-a", "127.0.0.1", "-p", &node.port.to_string(), "--name", &node.name]);
        command.args(["--cluster_name", "chaos", "--cluster", &routes[number]]);
        command.args(["--routes", &routes.join(","), "-js", "-sd"]).arg(node.dir.join("store"));
        node.process = Some(Process::start("nats-server", &mut command, &node.dir));
    }
}

/// The name of the node that leads a stream, if it has one.
async fn leader(urls: Vec<String>, stream: &str) -> Option<String> {
    let client = async_nats::connect(urls).await.ok()?;
    let stream = async_nats::jetstream::new(client).get_stream(stream).await.ok()?;
    stream.cached_info().cluster.as_ref()?.leader.clone()
}

/// Ports that nobody has at this moment: each node has to know the others' before it starts.
fn free_ports(count: usize) -> Vec<u16> {
    let taken: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")).collect();
    taken.iter().map(|listener| listener.local_addr().expect("its port").port()).collect()
}
