//! The session on the bus: what a commit takes beside one of SQLite on the same disk, how long a take-over takes, and how
//! long an edge takes to be online with either.

use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{Binary, Text};
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, sql_query};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whatsapp_connector::bus;
use whatsapp_connector::edge::journal::{Change, Journal, Owner, SessionKeys, Size};
use whatsapp_connector::wire::{Account, Subjects};

use crate::bench::{Bench, say};
use crate::bus::Bus;
use crate::child::Core;
use crate::report::{Report, percentile};
use crate::usage;
use crate::world::World;

/// A key that everybody may know: 32 times 7.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// What keeps a session on the bus.
const ON_BUS: [(&str, &str); 3] =
    [("SESSION_STORE", "nats"), ("SESSION_KEY", KEY), ("SESSION_UNSAFE_SYNC", "on")];
/// How long a value is: about what a ratchet has.
const VALUE: usize = 1_500;
/// How many commits of one kind are made in a row.
const BLOCK: u32 = 500;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    commits(bench, "session", "", report).await?;
    // As safe from a power cut as SQLite FULL is.
    commits(bench, "session.always", "jetstream { sync_interval: always }", report).await?;
    online(bench, "session.file", &[], report).await?;
    online(bench, "session.bus", &ON_BUS, report).await
}

/// Commits of two keys, in balanced order, and take-overs.
async fn commits(bench: &Bench, name: &str, config: &str, report: &mut Report) -> Result<()> {
    let keys = bench.size.of(10_000, 10_000, 200);
    let place = Place::set(bench, config).await?;
    let stop = CancellationToken::new();
    let mut owner = Owner::take(place.journal().await?, &stop).await?;
    let mut file = File::open(&place.dir)?;
    for first in (0..keys).step_by(16) {
        let some: Vec<u32> = (first..keys.min(first + 16)).collect();
        owner.commit(some.iter().map(|key| change(*key, 0)).collect(), &stop).await?;
        file.commit(&some, 0)?;
    }
    let (mut ours, mut sqlites) = (Vec::new(), Vec::new());
    let blocks = bench.size.of(16, 16, 1);
    for block in 0..blocks {
        for on_bus in if block % 2 == 0 { [true, false] } else { [false, true] } {
            for n in 0..BLOCK {
                let at = block * BLOCK + n;
                let two = [(at * 7) % keys, (at * 7 + 1) % keys];
                let began = Instant::now();
                if on_bus {
                    owner.commit(two.map(|key| change(key, at)).to_vec(), &stop).await?;
                    ours.push(ms(began));
                } else {
                    file.commit(&two, at)?;
                    sqlites.push(ms(began));
                }
            }
        }
    }
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut ours, share));
    let [file_p50, file_p99] = [0.5, 0.99].map(|share| percentile(&mut sqlites, share));
    for (figure, value) in [
        ("commit_p50_ms", p50),
        ("commit_p99_ms", p99),
        ("sqlite_p50_ms", file_p50),
        ("sqlite_p99_ms", file_p99),
        ("commit_by_sqlite", p50 / file_p50),
    ] {
        report.add(&format!("{name}.{figure}"), value);
    }
    say(&format!("{name}: a commit {p50:.2} / {p99:.2} ms, of SQLite {file_p50:.2} / {file_p99:.2} ms"));
    for _ in 0..bench.size.of(9, 5, 1) {
        let journal = place.journal().await?;
        let (began, before) = (Instant::now(), usage::own());
        let next = Owner::take(journal, &stop).await?;
        let took = ms(began);
        let used = usage::own().saturating_sub(before).as_secs_f64() * 1e3;
        let found = next.image().count();
        ensure!(found == usize::try_from(keys)?, "{found} of {keys} keys are there after a take-over");
        let fenced = owner.commit(vec![change(0, 0)], &stop).await;
        ensure!(fenced.is_err(), "who had the session before can still write it");
        owner = next;
        report.add(&format!("{name}.take_over_ms"), took);
        report.add(&format!("{name}.take_over_cpu_ms"), used);
        say(&format!(
            "{name}: {keys} keys are taken over in {took:.0} ms, {used:.0} ms of it CPU of the edge"
        ));
    }
    Ok(())
}

/// How long an edge takes that has had a session.
async fn online(bench: &Bench, name: &str, settings: &[(&str, &str)], report: &mut Report) -> Result<()> {
    let mut world = World::set_with(&bench.starter, 1, settings).await?;
    world.customers(bench.size.of(200, 100, 5), false).await?;
    for _ in 0..bench.size.of(7, 5, 1) {
        world.stop_edge().await?;
        let took = world.start_edge(&bench.starter).await?.as_secs_f64() * 1e3;
        report.add(&format!("{name}.online_ms"), took);
        say(&format!("{name}: online after {took:.0} ms"));
    }
    Ok(())
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn change(key: u32, version: u32) -> Change {
    Change::set(name(key), value(version))
}

fn name(key: u32) -> String {
    format!("t/sessions/{key:08}")
}

fn value(version: u32) -> Vec<u8> {
    version.to_be_bytes().repeat(VALUE / 4)
}

/// A bus with the stream of sessions. It has one processor, and who commits has the other one.
struct Place {
    bus: Bus,
    dir: TempDir,
}

impl Place {
    async fn set(bench: &Bench, config: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let core = if bench.starter.core == Core::Any { Core::Any } else { Core::Measured };
        let bus = Bus::start_with(dir.path(), core, &bench.starter.connector, config, &ON_BUS).await?;
        Ok(Self { bus, dir })
    }

    async fn journal(&self) -> Result<Journal> {
        let access = bus::Access::read(|_| None).map_err(|why| anyhow!("{why:?}"))?;
        let settings = bus::Settings {
            url: self.bus.url().to_owned().into(),
            access,
            name: "bench".to_owned(),
            private: None,
        };
        let bus = bus::Bus::connect(&settings, &CancellationToken::new()).await?;
        let (subjects, account) = (Subjects::new("wa")?, Account::parse("default")?);
        Ok(Journal::new(bus, &subjects, &account, SessionKeys::parse(KEY)?, Size::EDGE))
    }
}

/// What the session is in without a bus, with the same keys.
struct File(SqliteConnection);

impl File {
    fn open(dir: &TempDir) -> Result<Self> {
        let path = dir.path().join("beside.db");
        let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
        connection.batch_execute(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE beside (key TEXT PRIMARY KEY, value BLOB NOT NULL)",
        )?;
        Ok(Self(connection))
    }

    fn commit(&mut self, keys: &[u32], version: u32) -> Result<()> {
        let put = |connection: &mut SqliteConnection| {
            for key in keys {
                sql_query("INSERT OR REPLACE INTO beside VALUES (?, ?)")
                    .bind::<Text, _>(name(*key))
                    .bind::<Binary, _>(value(version))
                    .execute(connection)?;
            }
            Ok(())
        };
        Ok(self.0.immediate_transaction::<(), diesel::result::Error, _>(put)?)
    }
}
