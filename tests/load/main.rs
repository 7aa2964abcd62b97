//! What messages cost: processor time and memory of each process, on real parts. `make load` prints the table that
//! docs/operations.md shows. Nothing is promised here and nothing fails but what is lost.
//!
//! The backend is this process's own and answers at once or after `BACKEND_MS`: what is measured is the connector.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "walls of the product, not of its tests"
)]

#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use support::{Answer, Connector, Customer, Layout, Product, Stage, Unwell, eventually};

/// How much; from the environment.
#[derive(Debug, Clone, Copy)]
struct Orders {
    /// `CUSTOMERS`: how many chats.
    customers: usize,
    /// `MESSAGES`: how many each of them writes.
    messages: usize,
    /// `FORWARDERS`: how many.
    forwarders: usize,
    /// `BACKEND_MS`: how long the backend thinks.
    backend: Duration,
    /// `JSON=1`: a line of JSON instead of the table.
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test` runs every test program; this one is asked for by name.
    if !std::env::args().any(|argument| argument == "measure") {
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: usize| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: it takes a number")),
        Err(_) => default,
    };
    let orders = Orders {
        customers: number("CUSTOMERS", 100),
        messages: number("MESSAGES", 20),
        forwarders: number("FORWARDERS", 2),
        backend: Duration::from_millis(u64::try_from(number("BACKEND_MS", 0)).unwrap_or(u64::MAX)),
        json: number("JSON", 0) == 1,
    };
    let measured = measure(orders).await;
    println!("{}", if orders.json { measured.json().to_string() } else { measured.table() });
    ExitCode::SUCCESS
}

/// What a process has used at one moment.
#[derive(Debug, Clone, Copy)]
struct Usage {
    cpu: Duration,
    memory: u64,
}

/// One kind of process, all of them together.
#[derive(Debug)]
struct Row {
    name: &'static str,
    idle: u64,
    /// Processor time over all messages.
    cpu: Duration,
    /// The most memory while they flowed.
    busy: u64,
    /// The memory that waiting messages take, where the process holds them.
    waiting: Option<u64>,
}

#[derive(Debug)]
struct Measured {
    orders: Orders,
    took: Duration,
    rows: Vec<Row>,
}

impl Measured {
    fn messages(&self) -> usize {
        self.orders.customers * self.orders.messages
    }

    fn per_second(&self) -> f64 {
        self.messages() as f64 / self.took.as_secs_f64()
    }

    fn per_message(&self, row: &Row) -> f64 {
        row.cpu.as_secs_f64() * 1e3 / self.messages() as f64
    }

    fn table(&self) -> String {
        let Orders { customers, messages, forwarders, backend, .. } = self.orders;
        let mut text = format!(
            "{customers} chats x {messages} messages, {forwarders} forwarders, a backend of {} ms: {:.0} messages/s \
             answered, all parts on one machine\n\n\
             | process | memory idle | at the most | CPU per message | memory per waiting message |\n\
             |---|---|---|---|---|\n",
            backend.as_millis(),
            self.per_second(),
        );
        for row in &self.rows {
            let waiting = row
                .waiting
                .map_or_else(|| "–".to_owned(), |bytes| format!("{:.1} KiB", bytes as f64 / 1024.0));
            let (idle, busy) = (row.idle >> 20, row.busy >> 20);
            let _ = writeln!(
                text,
                "| {} | {idle} MiB | {busy} MiB | {:.2} ms | {waiting} |",
                row.name,
                self.per_message(row)
            );
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "process": row.name, "idle_bytes": row.idle, "busy_bytes": row.busy,
                "cpu_ms_per_message": self.per_message(row), "bytes_per_waiting_message": row.waiting,
            })
        });
        json!({
            "customers": self.orders.customers, "messages": self.messages(), "forwarders": self.orders.forwarders,
            "backend_ms": self.orders.backend.as_millis(), "messages_per_s": self.per_second(),
            "processes": rows.collect::<Vec<_>>(),
        })
    }
}

async fn measure(orders: Orders) -> Measured {
    let backend = {
        let thinks = orders.backend;
        Unwell::start(move |question| Answer::text(&question.text).after(thinks)).await
    };
    let mut stage = Stage::plan()
        .setting("BACKEND_URL", backend.url())
        .setting("RUST_LOG", "warn")
        // What production has.
        .setting("FORWARDER_ACK_WAIT", "15s")
        .setting("EDGE_ACK_WAIT", "30s")
        .set()
        .await;
    // Nothing fails here but what is lost.
    stage.logs.leave();
    let product = stage.product(Layout::Split { forwarders: orders.forwarders }).await;
    let customers = stage.customers("54911666", orders.customers).await;
    // Everybody's first message makes the sessions; that happens once per person, not once per message.
    write(&customers, 1).await;
    answered(&customers, 1).await;
    let before = look(&stage, &product);

    let began = Instant::now();
    write(&customers, orders.messages).await;
    answered(&customers, orders.messages + 1).await;
    let took = began.elapsed();
    let after = look(&stage, &product);
    let busy = [
        product.edge.process.peak_memory(),
        product.forwarders.iter().map(|one| one.process.peak_memory()).max().unwrap_or_default(),
        stage.nats.process().peak_memory(),
    ];

    // Now the assistant is away, and messages wait.
    backend.set(|_| Answer::new(503, "{}"));
    write(&customers, 1).await;
    for forwarder in &product.forwarders {
        forwarder.not_ready("http-503").await;
    }
    let held = look(&stage, &product);
    write(&customers, orders.messages).await;
    let waiting = orders.customers * orders.messages;
    eventually("all to wait", Duration::from_secs(120), async || {
        let stored = stage.streams().await.messages().await.len();
        let all = orders.customers * (2 * orders.messages + 2);
        if stored >= all { Ok(()) } else { Err(format!("{stored} of {all} are stored")) }
    })
    .await;
    let full = look(&stage, &product);
    backend.set(|question| Answer::text(&question.text));
    answered(&customers, 2 * orders.messages + 2).await;

    let names = ["edge", "forwarder, each", "nats-server"];
    let shares = [1, u32::try_from(orders.forwarders).unwrap_or(1), 1];
    let rows = (0..names.len()).map(|part| Row {
        name: names[part],
        idle: before[part].memory,
        // Forwarders share the messages, so their time is one sum.
        cpu: after[part].cpu.saturating_sub(before[part].cpu),
        busy: busy[part],
        waiting: (names[part].starts_with("forwarder")).then(|| {
            let more = full[part].memory.saturating_sub(held[part].memory) * u64::from(shares[part]);
            more / u64::try_from(waiting).unwrap_or(1)
        }),
    });
    Measured { orders, took, rows: rows.collect() }
}

/// The edge, the forwarders (time together, memory of the largest), nats-server.
fn look(stage: &Stage, product: &Product) -> [Usage; 3] {
    let of = |part: &Connector| Usage { cpu: part.process.cpu(), memory: part.process.memory() };
    let forwarders: Vec<_> = product.forwarders.iter().map(of).collect();
    let forwarders = Usage {
        cpu: forwarders.iter().map(|one| one.cpu).sum(),
        memory: forwarders.iter().map(|one| one.memory).max().unwrap_or_default(),
    };
    let nats = stage.nats.process();
    [of(&product.edge), forwarders, Usage { cpu: nats.cpu(), memory: nats.memory() }]
}

/// Everybody at once, each one message after the other.
async fn write(customers: &[Customer], messages: usize) {
    let all = customers.iter().map(async |customer| {
        for number in 0..messages {
            customer.write(&format!("mensaje {number} de alguien que quiere reservar una mesa")).await;
        }
    });
    join_all(all).await;
}

async fn answered(customers: &[Customer], messages: usize) {
    for customer in customers {
        let inbox = customer.receives_within(messages, Duration::from_secs(300)).await;
        assert_eq!(inbox.len(), messages, "each message has one answer");
    }
}
