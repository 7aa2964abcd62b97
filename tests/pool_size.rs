//! Many accounts: what they cost an edge and the simulator. Not for every day: `--ignored`.

use std::time::{Duration, Instant};

use futures::StreamExt as _;

use crate::session_on_bus::KEY;
use crate::support::shops::{Shop, names};
use crate::support::{Connector, Customer, PATIENCE, Role, Stage, eventually};

/// So many numbers are linked at a time.
const LINKING: usize = 4;
/// For how long idle accounts are looked at.
const IDLE: Duration = Duration::from_secs(60);
/// After the last one is online: what its first connection leads to.
const SETTLING: Duration = Duration::from_secs(20);
/// What an idle account may cost, and 200 of them.
const ACCOUNT_BYTES: u64 = 6 << 20;
const ACCOUNT_CPU: f64 = 0.001;
const ALL_BYTES: u64 = 1 << 30;

async fn stage(capacity: usize) -> Stage {
    Stage::plan()
        .setting("SESSION_STORE", "nats")
        .setting("SESSION_KEY", KEY)
        .setting("SESSION_UNSAFE_SYNC", "on")
        .setting("WHATSAPP_AUTH_DIR", "/proc/nowhere")
        .setting("SERVICE", "on")
        .setting("EDGE_CAPACITY", &capacity.to_string())
        .setting("RUST_LOG", "warn")
        .set()
        .await
}

/// Links shops, a few at a time.
async fn link(stage: &Stage, shops: &[Shop]) {
    futures::stream::iter(shops).for_each_concurrent(LINKING, |shop| stage.link_shop(shop)).await;
}

/// Waits until an edge has so many accounts online.
async fn has_online(edge: &Connector, count: usize) {
    eventually(format!("{count} accounts online"), PATIENCE, async || {
        let metrics = edge.metrics().await;
        let line = metrics.lines().find(|line| line.starts_with("wa_pool_links{state=\"online\"}"));
        let online = line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        if online == Some(count) { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
}

/// How much processor time passes meanwhile, as a part of one core.
async fn load(cpu: impl Fn() -> Duration) -> f64 {
    let (began, before) = (Instant::now(), cpu());
    tokio::time::sleep(IDLE).await;
    (cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64()
}

/// `make bench-pool`: a build with debug assertions costs several times as much and is not judged.
#[tokio::test]
#[ignore = "takes minutes, and counts for a release build only"]
async fn what_idle_accounts_cost() {
    let is_judged = std::env::var_os("WHATSAPP_CONNECTOR_BIN").is_some();
    let mut stage = stage(300).await;
    let shops = stage.simulator.shops(200).await;
    let mut figures = Vec::new();
    let mut linked = 0;
    for count in [10, 50, 200] {
        // A new process each time: what an allocator keeps of the linking is not of the accounts.
        stage.set("WHATSAPP_ACCOUNTS", &names(&shops[..count]));
        let linker = stage.start(Role::Edge).await;
        link(&stage, &shops[linked..count]).await;
        linked = count;
        has_online(&linker, count).await;
        linker.stop().await;
        let edge = stage.start(Role::Edge).await;
        has_online(&edge, count).await;
        tokio::time::sleep(SETTLING).await;
        let (edge_load, simulator_load) =
            tokio::join!(load(|| edge.process.cpu()), load(|| stage.simulator.process().cpu()));
        let memory = edge.process.memory();
        println!(
            "{count} idle accounts: {:.1} MiB, {:.2} MiB each; {:.3} % of a core, {:.4} % each (simulator {:.3} %)",
            memory as f64 / f64::from(1 << 20),
            memory as f64 / f64::from(1 << 20) / count as f64,
            edge_load * 100.0,
            edge_load * 100.0 / count as f64,
            simulator_load * 100.0,
        );
        figures.push((count as u64, memory, edge_load));
        edge.stop().await;
    }
    if !is_judged {
        return println!("not judged: WHATSAPP_CONNECTOR_BIN names no release build");
    }
    // What the process itself needs is not the accounts'.
    let &[(few, few_bytes, _), .., (many, many_bytes, many_load)] = figures.as_slice() else { return };
    let each = many_bytes.saturating_sub(few_bytes) / (many - few);
    assert!(each <= ACCOUNT_BYTES, "an account more costs {each} bytes");
    assert!(many_bytes <= ALL_BYTES, "{many} accounts cost {many_bytes} bytes");
    let each = many_load / many as f64;
    assert!(each <= ACCOUNT_CPU, "an idle account costs {:.4} % of a core", each * 100.0);
}

/// What the simulator computes for one account does not depend on how many others there are.
#[tokio::test]
#[ignore = "takes minutes: 300 accounts are linked and online at once"]
async fn the_simulator_has_300_accounts_online_and_each_costs_the_same() {
    let mut stage = stage(300).await;
    let shops = stage.simulator.shops(300).await;
    stage.set("WHATSAPP_ACCOUNTS", &names(&shops));
    let mut customers = Vec::new();
    for (number, shop) in shops.iter().enumerate() {
        customers.push(stage.simulator.customer_of(shop, &format!("54911700{number:05}")).await);
    }
    let edges = [stage.start(Role::Edge).await, stage.start(Role::Edge).await];
    let _forwarder = stage.start(Role::Forwarder).await;
    let mut each = Vec::new();
    for (from, to) in [(0, 30), (30, 300)] {
        link(&stage, &shops[from..to]).await;
        // The same work twice: with 30 accounts online, and with 300.
        talk(&customers[..30], 2 * each.len()).await;
        let before = stage.simulator.process().cpu();
        talk(&customers[..30], 2 * each.len() + 1).await;
        each.push((stage.simulator.process().cpu() - before).as_secs_f64() / 30.0);
    }
    let visits =
        futures::future::join_all(shops.iter().map(|shop| stage.simulator.shop_is_online(shop))).await;
    assert_eq!(visits.iter().filter(|is_online| **is_online).count(), 300);
    println!(
        "a message and its answer cost the simulator {:.2} ms with 30 accounts, {:.2} ms with 300",
        each[0] * 1e3,
        each[1] * 1e3
    );
    // Idle connections ping, so it is not nothing; ten times as many accounts would make it ten times as much.
    assert!(each[1] < 4.0 * each[0].max(0.001), "{each:?} s");
    for edge in edges {
        edge.stop().await;
    }
}

/// Each customer writes, and is answered; it was `before` that often.
async fn talk(customers: &[Customer], before: usize) {
    for customer in customers {
        customer.write(&format!("{before} de {}", customer.phone())).await;
    }
    for customer in customers {
        customer.receives(before + 1).await;
    }
}
