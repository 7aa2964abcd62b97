//! The parts of a round, and what is done to them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::logs;
use crate::plan::{Deed, Fault, SLOTS, Who};
use crate::proxy::Proxy;
use crate::support::heart::unix_seconds;
use crate::support::{Call, Process, Product, Role, Stage, Streams, eventually, spawn};

/// How long a process may take from SIGTERM to its end. Its own bound is `SHUTDOWN_GRACE`.
const STOP: Duration = Duration::from_secs(20);

/// Something bad that was done.
#[derive(Debug, Clone)]
pub struct Blow {
    /// What.
    pub deed: Deed,
    /// Unix seconds.
    pub at: f64,
}

/// When a forwarder was at work, in unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// It said that it was.
    pub from: f64,
    /// It was killed, or told to end.
    pub to: f64,
}

/// The parts around the product.
#[derive(Debug)]
pub struct Ground {
    /// All of them, and a nats-server of its own.
    pub stage: Stage,
    /// The product's bus instead of that one.
    pub cluster: Option<Cluster>,
}

impl Ground {
    /// Where the bus is.
    pub fn url(&self) -> String {
        self.cluster.as_ref().map_or_else(|| self.stage.nats.url(), Cluster::url)
    }

    /// A look into the streams.
    pub async fn streams(&self) -> Streams {
        Streams::connect(&self.url()).await
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct Cast {
    edge: Option<Process>,
    forwarders: [Option<Process>; SLOTS],
    leaving: Vec<(Who, Process)>,
    /// The way to the backend.
    pub proxy: Proxy,
    /// The parts around the product; after the product, which ends first.
    pub ground: Ground,
    /// The call logs of backends that were killed.
    pub calls: Vec<Call>,
    /// Of forwarders that are gone.
    pub lives: Vec<Life>,
    /// What was done, by kind.
    pub done: BTreeMap<String, usize>,
    /// What was done, and when.
    pub blows: Vec<Blow>,
    /// What the processes themselves did wrong.
    pub complaints: Vec<String>,
}

impl Cast {
    /// All parts, as they stand at the beginning.
    pub fn new(ground: Ground, proxy: Proxy, product: Product) -> Self {
        let mut forwarders = [const { None }; SLOTS];
        for (slot, forwarder) in forwarders.iter_mut().zip(product.forwarders) {
            *slot = Some(forwarder.process);
        }
        Self {
            edge: Some(product.edge.process),
            forwarders,
            leaving: Vec::new(),
            proxy,
            ground,
            calls: Vec::new(),
            lives: Vec::new(),
            done: BTreeMap::new(),
            blows: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Does it.
    pub async fn act(&mut self, deed: Deed) {
        self.look();
        if let (Deed::KillBus | Deed::FreezeBus, Some(cluster)) = (deed, &mut self.ground.cluster) {
            // Before the time is taken: what follows is measured from the hit.
            cluster.aim().await;
        }
        if let Some(name) = deed.name() {
            *self.done.entry(name).or_default() += 1;
            self.blows.push(Blow { deed, at: unix_seconds() });
        }
        match deed {
            Deed::Kill(who) => {
                if let Some(mut process) = self.place(who).take() {
                    let at = unix_seconds();
                    process.kill();
                    self.bury(who, &process, at);
                }
            }
            Deed::Stop(who) => {
                if let Some(mut process) = self.place(who).take() {
                    self.bury(who, &process, unix_seconds());
                    process.terminate();
                    self.leaving.push((who, process));
                }
            }
            Deed::Freeze(who) => {
                if let Some(process) = self.place(who) {
                    process.freeze();
                }
            }
            Deed::Thaw(who) => {
                if let Some(process) = self.place(who) {
                    process.thaw();
                }
            }
            Deed::Start(who) => self.start(who).await,
            Deed::KillBus => match &mut self.ground.cluster {
                Some(cluster) => cluster.kill(),
                None => self.ground.stage.nats.kill(),
            },
            Deed::FreezeBus => match &mut self.ground.cluster {
                Some(cluster) => cluster.freeze(),
                None => self.ground.stage.nats.freeze(),
            },
            Deed::StartBus => match &mut self.ground.cluster {
                Some(cluster) => cluster.restore(),
                None if self.ground.stage.nats.is_running() => self.ground.stage.nats.thaw(),
                None => self.ground.stage.nats.restart().await,
            },
            Deed::KillBackend => self.kill_backend().await,
            Deed::FreezeBackend => self.ground.stage.backend.freeze(),
            Deed::StartBackend => self.start_backend(),
            Deed::Break(fault) => self.proxy.set(Some(fault)),
            Deed::Mend => self.proxy.set(None),
            Deed::WhatsApp(kind, for_ms) => self.ground.stage.simulator.fault(kind, for_ms).await,
        }
    }

    /// All faults off; nats-server, an edge and a forwarder there.
    pub async fn recover(&mut self) {
        self.look();
        self.proxy.set(None);
        self.ground.stage.simulator.no_faults().await;
        for process in self.edge.iter_mut().chain(self.forwarders.iter_mut().flatten()) {
            process.thaw();
        }
        self.act(Deed::StartBus).await;
        self.start_backend();
        if self.edge.is_none() {
            self.start(Who::Edge).await;
        }
        if self.forwarders.iter().all(Option::is_none) {
            self.start(Who::Forwarder(0)).await;
        }
        for (who, process) in std::mem::take(&mut self.leaving) {
            self.see_off(who, process).await;
        }
    }

    /// Nobody may have ended who was not told to.
    pub fn look(&mut self) {
        let edge = (Who::Edge, &mut self.edge);
        let forwarders = self.forwarders.iter_mut().enumerate();
        let all = forwarders.map(|(slot, process)| (Who::Forwarder(slot), process));
        for (who, place) in all.chain([edge]) {
            if let Some(status) = place.as_mut().and_then(Process::ended) {
                self.complaints.push(format!("{who:?} ended by itself, {status}"));
                *place = None;
            }
        }
    }

    /// Its call log goes with it: nobody may call between the reading of that and the end.
    async fn kill_backend(&mut self) {
        self.proxy.set(Some(Fault::Refuse));
        let backend = &mut self.ground.stage.backend;
        // On a busy machine it may have been started a moment ago and not be there yet.
        backend.listens().await;
        self.calls.extend(backend.calls().await);
        backend.kill();
    }

    fn start_backend(&mut self) {
        let backend = &mut self.ground.stage.backend;
        if backend.is_running() {
            backend.thaw();
        } else {
            backend.start_again();
            self.proxy.mend_when_it_listens();
        }
    }

    /// All calls of all backends.
    pub async fn all_calls(&self) -> Vec<Call> {
        let mut calls = self.calls.clone();
        calls.extend(self.ground.stage.backend.calls().await);
        calls
    }

    /// All forwarders that were at work.
    pub fn all_lives(&self) -> Vec<Life> {
        let alive = self.forwarders.iter().flatten();
        let alive = alive.filter_map(|process| logs::ready_at(&process.stderr()));
        let alive = alive.map(|from| Life { from, to: f64::INFINITY });
        self.lives.iter().copied().chain(alive).collect()
    }

    fn bury(&mut self, who: Who, process: &Process, to: f64) {
        let from = logs::ready_at(&process.stderr()).filter(|_| who != Who::Edge);
        self.lives.extend(from.map(|from| Life { from, to }));
    }

    async fn start(&mut self, who: Who) {
        let role = match who {
            Who::Edge => {
                // The two would wait for each other's lock.
                while let Some(at) = self.leaving.iter().position(|(leaving, _)| *leaving == Who::Edge) {
                    let (who, process) = self.leaving.swap_remove(at);
                    self.see_off(who, process).await;
                }
                Role::Edge
            }
            Who::Forwarder(_) => Role::Forwarder,
        };
        let process = spawn(role, self.ground.stage.settings(), self.ground.stage.dir());
        *self.place(who) = Some(process);
    }

    async fn see_off(&mut self, who: Who, mut process: Process) {
        let asked = Instant::now();
        let ended =
            eventually(format!("{who:?} to end after SIGTERM"), STOP * 2, async || match process.ended() {
                Some(status) => Ok(Some(status)),
                None if asked.elapsed() > STOP => Ok(None),
                None => Err("still running".to_owned()),
            })
            .await;
        // Before it has said anything it does not yet hear signals either: it dies of them.
        let deaf = process.stderr().is_empty();
        match ended {
            None => self.complaints.push(format!("{who:?} does not end after SIGTERM")),
            Some(status) if !status.success() && !deaf => {
                self.complaints.push(format!("{who:?} was told to end and did so with {status}"));
            }
            Some(_) => {}
        }
    }

    fn place(&mut self, who: Who) -> &mut Option<Process> {
        match who {
            Who::Edge => &mut self.edge,
            Who::Forwarder(slot) => &mut self.forwarders[slot],
        }
    }
}
