//! Who answers the messages: the connector's forwarder, or one of its peers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::bus::Bus;
use crate::child::{Child, Core, Order};
use crate::stub::Stub;

/// A forwarder of somebody's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The connector's, with these settings.
    Ours(BTreeMap<String, String>),
    /// The unordered Rust loop on reqwest: the floor.
    Floor,
    /// nats-py and aiohttp.
    Aiohttp,
    /// FastStream and httpx.
    FastStream,
    /// Node and undici.
    Node,
}

impl Contender {
    /// The connector's forwarder as it is shipped.
    pub fn ours() -> Self {
        Self::Ours(BTreeMap::new())
    }

    /// The same with these settings.
    pub fn ours_with(settings: &[(&str, &str)]) -> Self {
        Self::Ours(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// What it is called in figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::Floor => "reqwest loop",
            Self::Aiohttp => "nats-py + aiohttp",
            Self::FastStream => "FastStream + httpx",
            Self::Node => "Node + undici",
        }
    }

    /// Does it promise a chat's order?
    pub fn keeps_order(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    /// Why it cannot run here, if it cannot.
    pub fn missing(&self, tools: &Path) -> Option<String> {
        let needed = match self {
            Self::Ours(_) | Self::Floor => return None,
            Self::Aiohttp | Self::FastStream => "bench-venv/bin/python",
            Self::Node => "bench-node/node_modules/undici",
        };
        let is_there = tools.join(needed).exists();
        (!is_there).then(|| format!("{}: what it runs on could not be installed here", self.name()))
    }
}

/// How contenders are started.
#[derive(Debug, Clone)]
pub struct Starter {
    /// The connector's binary.
    pub connector: PathBuf,
    /// `.tools` of the repository.
    pub tools: PathBuf,
    /// The scripts of the peers.
    pub peers: PathBuf,
    /// Words in front of what is measured: a profiler.
    pub wrap: Vec<String>,
    /// Where it runs.
    pub core: Core,
}

impl Starter {
    /// Starts one.
    pub fn start(&self, contender: &Contender, bus: &Bus, stub: &Stub, dir: &Path) -> Result<Child> {
        let common = [("NATS_URL", bus.url()), ("BACKEND_URL", stub.url())];
        let mut environment: BTreeMap<String, String> =
            common.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut words = self.wrap.clone();
        match contender {
            Contender::Ours(settings) => {
                environment.insert("HTTP_ADDR".to_owned(), "127.0.0.1:0".to_owned());
                environment.extend(settings.clone());
                words.extend([self.connector.display().to_string(), "forwarder".to_owned()]);
            }
            Contender::Floor => {
                let own = std::env::current_exe().context("the harness's own program")?;
                words.extend([own.display().to_string(), "floor".to_owned()]);
            }
            Contender::Aiohttp => words.extend(self.python(&mut environment, "nats_aiohttp.py")),
            Contender::FastStream => words.extend(self.python(&mut environment, "faststream_httpx.py")),
            Contender::Node => {
                let modules = self.tools.join("bench-node/node_modules").display().to_string();
                environment.insert("NODE_PATH".to_owned(), modules);
                words.extend(["node".to_owned(), self.peers.join("node_undici.cjs").display().to_string()]);
            }
        }
        Child::start(
            &Order { name: contender.name().replace(' ', ""), words, environment, core: self.core },
            dir,
        )
    }

    fn python(&self, environment: &mut BTreeMap<String, String>, script: &str) -> [String; 2] {
        let venv = self.tools.join("bench-venv");
        environment.insert("PYTHONPATH".to_owned(), venv.join("proto").display().to_string());
        let python = venv.join("bin/python");
        [python.display().to_string(), self.peers.join(script).display().to_string()]
    }
}
