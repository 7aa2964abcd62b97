//! The parts of a pool's round, and what is done to them.

use std::collections::BTreeMap;

use super::line::Line;
use super::plan::{Deed, EDGES, FORWARDERS, SLOTS};
use crate::cast::Ground;
use crate::support::heart::unix_seconds;
use crate::support::shops::Shop;
use crate::support::{PATIENCE, Process, Role, spawn};

/// From when to when, in unix seconds.
pub type Span = (f64, f64);

/// What is known of one edge's process. Times are unix seconds.
#[derive(Debug, Clone)]
pub struct Life {
    /// As the simulator has it in its visits.
    pub name: String,
    /// When it was killed.
    pub killed: Option<f64>,
    /// When it was frozen, and until when.
    pub frozen: Vec<Span>,
    /// When it was cut off from WhatsApp, and until when.
    pub cut_off: Vec<Span>,
}

#[derive(Debug)]
struct Edge {
    process: Process,
    life: Life,
    /// `None`: there are several servers, and clients find their own ways.
    to_bus: Option<Line>,
    to_whatsapp: Line,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Cast {
    edges: [Option<Edge>; SLOTS],
    forwarders: [Option<Process>; FORWARDERS],
    leaving: Vec<Edge>,
    started: usize,
    shops: Vec<Shop>,
    /// Of edges that are gone.
    lives: Vec<Life>,
    /// The parts around the product; they end after it.
    pub ground: Ground,
    /// What was done, by kind.
    pub done: BTreeMap<&'static str, usize>,
    /// When something was done, or over, that may delay a take-over: unix seconds.
    pub blows: Vec<f64>,
    /// What the processes themselves did wrong.
    pub complaints: Vec<String>,
}

impl Cast {
    /// All parts, as they stand at the beginning.
    pub async fn new(ground: Ground, shops: Vec<Shop>) -> Self {
        let mut cast = Self {
            edges: [const { None }; SLOTS],
            forwarders: [const { None }; FORWARDERS],
            leaving: Vec::new(),
            started: 0,
            shops,
            lives: Vec::new(),
            ground,
            done: BTreeMap::new(),
            blows: Vec::new(),
            complaints: Vec::new(),
        };
        for slot in 0..EDGES {
            cast.start(slot).await;
        }
        for slot in 0..FORWARDERS {
            cast.act(Deed::StartForwarder(slot)).await;
        }
        cast
    }

    /// Does it.
    pub async fn act(&mut self, deed: Deed) {
        self.look();
        if let (Deed::KillServer, Some(cluster)) = (deed, &mut self.ground.cluster) {
            cluster.aim().await;
        }
        if let Some(name) = deed.name() {
            *self.done.entry(name).or_default() += 1;
        }
        match deed {
            Deed::Kill(slot) => {
                if let Some(mut edge) = self.edges[slot].take() {
                    edge.process.kill();
                    edge.life.killed = Some(unix_seconds());
                    self.lives.push(edge.life);
                }
            }
            Deed::Stop(slot) => {
                if let Some(mut edge) = self.edges[slot].take() {
                    edge.process.terminate();
                    self.leaving.push(edge);
                }
            }
            Deed::Freeze(slot) => self.with(slot, |edge| {
                edge.life.frozen.push((unix_seconds(), f64::INFINITY));
                edge.process.freeze();
            }),
            Deed::Thaw(slot) => self.with(slot, Edge::thaw),
            Deed::Start(slot) => self.start(slot).await,
            Deed::CutBus(slot) | Deed::MendBus(slot) => {
                self.with(slot, |edge| edge.cut_bus(matches!(deed, Deed::CutBus(_))));
            }
            Deed::CutWhatsApp(slot) | Deed::MendWhatsApp(slot) => {
                self.with(slot, |edge| edge.cut_whatsapp(matches!(deed, Deed::CutWhatsApp(_))));
            }
            Deed::Drop(account) => {
                self.ground.stage.simulator.shop_fault(&self.shops[account], "drop_connection").await;
            }
            Deed::KillForwarder(slot) => {
                if let Some(mut process) = self.forwarders[slot].take() {
                    process.kill();
                }
            }
            Deed::StartForwarder(slot) => {
                let stage = &self.ground.stage;
                self.forwarders[slot] = Some(spawn(Role::Forwarder, stage.settings(), stage.dir()));
            }
            Deed::KillServer => match &mut self.ground.cluster {
                Some(cluster) => cluster.kill(),
                None => self.ground.stage.nats.kill(),
            },
            Deed::StartServer => match &mut self.ground.cluster {
                Some(cluster) => cluster.restore(),
                None if self.ground.stage.nats.is_running() => {}
                None => self.ground.stage.nats.restart().await,
            },
        }
        if !matches!(deed, Deed::KillForwarder(_) | Deed::StartForwarder(_)) {
            self.blows.push(unix_seconds());
        }
    }

    /// All faults off; nats-server, an edge and a forwarder there.
    pub async fn recover(&mut self) {
        self.look();
        self.act(Deed::StartServer).await;
        for edge in self.edges.iter_mut().flatten().chain(&mut self.leaving) {
            edge.thaw();
            edge.cut_bus(false);
            edge.cut_whatsapp(false);
        }
        if self.edges.iter().all(Option::is_none) {
            self.start(0).await;
        }
        for slot in 0..FORWARDERS {
            if self.forwarders[slot].is_none() {
                self.act(Deed::StartForwarder(slot)).await;
            }
        }
        for mut edge in std::mem::take(&mut self.leaving) {
            let status = edge.process.end(PATIENCE).await;
            // Before it has said anything it does not yet hear signals either: it dies of them.
            if !status.success() && !edge.process.stderr().is_empty() {
                self.complaints.push(format!("{} was told to end and did so with {status}", edge.life.name));
            }
            self.lives.push(edge.life);
        }
        self.blows.push(unix_seconds());
    }

    /// Nobody may have ended who was not told to.
    pub fn look(&mut self) {
        let edges = self.edges.iter_mut().flatten().map(|edge| (edge.life.name.as_str(), &mut edge.process));
        let forwarders = self.forwarders.iter_mut().flatten().map(|process| ("forwarder", process));
        for (name, process) in edges.chain(forwarders) {
            if let Some(status) = process.ended() {
                self.complaints.push(format!("{name} ended by itself, {status}"));
            }
        }
        let is_there = |edge: &mut Edge| edge.process.ended().is_none();
        for place in &mut self.edges {
            if let Some(edge) = place.take_if(|edge| !is_there(edge)) {
                self.lives.push(Life { killed: Some(unix_seconds()), ..edge.life });
            }
        }
        for place in &mut self.forwarders {
            place.take_if(|process| process.ended().is_some());
        }
    }

    /// All edges that there were.
    pub fn all_lives(&self) -> Vec<Life> {
        let alive = self.edges.iter().flatten().map(|edge| edge.life.clone());
        self.lives.iter().cloned().chain(alive).collect()
    }

    fn with(&mut self, slot: usize, act: impl FnOnce(&mut Edge)) {
        if let Some(edge) = &mut self.edges[slot] {
            act(edge);
        }
    }

    async fn start(&mut self, slot: usize) {
        self.started += 1;
        let name = format!("edge-{slot}-{}", self.started);
        let stage = &self.ground.stage;
        let port = |url: &str| -> u16 {
            let digits = url.rsplit(':').next().unwrap_or_default().split('/').next().unwrap_or_default();
            digits.parse().unwrap_or_else(|_| panic!("no port in {url}"))
        };
        let mut settings = stage.settings().clone();
        let to_whatsapp = Line::to(port(&stage.simulator.chat_url())).await;
        let url = format!("ws://127.0.0.1:{}/ws/chat?as={name}", to_whatsapp.port());
        settings.insert("WHATSAPP_SIMULATOR_URL".to_owned(), url);
        let to_bus = match self.ground.cluster {
            Some(_) => None,
            None => Some(Line::to(port(&stage.nats.url())).await),
        };
        let bus = to_bus.as_ref().map(|line| format!("nats://127.0.0.1:{}", line.port()));
        settings.extend(bus.map(|url| ("NATS_URL".to_owned(), url)));
        let process = spawn(Role::Edge, &settings, stage.dir());
        let life = Life { name, killed: None, frozen: Vec::new(), cut_off: Vec::new() };
        self.edges[slot] = Some(Edge { process, life, to_bus, to_whatsapp });
    }
}

impl Edge {
    fn thaw(&mut self) {
        // Before: what it says once it is awake is not earlier.
        end(&mut self.life.frozen);
        self.process.thaw();
    }

    fn cut_bus(&mut self, is_cut: bool) {
        if let Some(line) = &self.to_bus {
            line.cut(is_cut);
        }
    }

    fn cut_whatsapp(&mut self, is_cut: bool) {
        self.to_whatsapp.cut(is_cut);
        if is_cut {
            self.life.cut_off.push((unix_seconds(), f64::INFINITY));
        } else {
            end(&mut self.life.cut_off);
        }
    }
}

/// The last span ends now, if it has not.
fn end(spans: &mut [Span]) {
    if let Some(last) = spans.last_mut().filter(|span| span.1 == f64::INFINITY) {
        last.1 = unix_seconds();
    }
}
