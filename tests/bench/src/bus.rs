//! A nats-server of its own for each run, its streams made by the connector's own `provision`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::consumer::{Info, PullConsumer, pull};
use async_nats::jetstream::{self, consumer};
use futures::StreamExt as _;

use crate::child::{Child, Core, Order};
use crate::wire;

/// What any part may take to start.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The bus of one run.
#[derive(Debug)]
pub struct Bus {
    /// The server's process.
    pub server: Child,
    /// How the harness writes and looks.
    pub jetstream: jetstream::Context,
    url: String,
}

/// What a stream has on one subject, without its payload.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the stream.
    pub sequence: u64,
    /// The last part of its subject.
    pub chat: String,
    /// When the server stored it, in nanoseconds since 1970.
    pub at: i64,
    /// Its headers.
    pub headers: async_nats::HeaderMap,
}

impl Bus {
    /// Starts a server below `dir` and makes the streams.
    pub async fn start(dir: &Path, core: Core, provisioner: &Path) -> Result<Self> {
        Self::start_with(dir, core, provisioner, "", &[]).await
    }

    /// The same with this configuration; its streams are made with these settings.
    pub async fn start_with(
        dir: &Path,
        core: Core,
        provisioner: &Path,
        config: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let ports = dir.join("ports");
        std::fs::create_dir_all(&ports)?;
        let store = dir.join("store").display().to_string();
        let mut words = vec![nats_server().display().to_string()];
        words.extend(
            ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &store, "--ports_file_dir"].map(str::to_owned),
        );
        words.push(ports.display().to_string());
        if !config.is_empty() {
            let path = dir.join("nats.conf");
            std::fs::write(&path, config)?;
            words.extend(["-c".to_owned(), path.display().to_string()]);
        }
        let order = Order { name: "nats-server".to_owned(), words, environment: BTreeMap::new(), core };
        let mut server = Child::start(&order, dir)?;
        let url = listens(&mut server, &ports).await?;
        provision(provisioner, &url, dir, settings).await?;
        let client = async_nats::connect(&url).await?;
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(Duration::from_secs(30));
        Ok(Self { server, jetstream, url })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The forwarders' consumer, as it is now.
    pub async fn consumer(&self) -> Result<Info> {
        let found: PullConsumer =
            self.jetstream.get_consumer_from_stream(wire::CONSUMER, wire::STREAM_IN).await?;
        Ok(found.cached_info().clone())
    }

    /// Acknowledges all that the forwarders' consumer has, as if it had been answered.
    pub async fn acknowledge_all(&self) -> Result<()> {
        let mut consumer: PullConsumer =
            self.jetstream.get_consumer_from_stream(wire::CONSUMER, wire::STREAM_IN).await?;
        loop {
            let mut batch = consumer.fetch().max_messages(5_000).messages().await?;
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| anyhow::anyhow!("{error}"))?;
                message.ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
            }
            let info = consumer.info().await?;
            if info.num_pending == 0 && info.num_ack_pending == 0 {
                return Ok(());
            }
        }
    }

    /// The last sequence of a stream, and how many messages it has.
    pub async fn state(&self, stream: &str) -> Result<(u64, u64)> {
        let stream = self.jetstream.get_stream_no_info(stream).await?;
        let state = stream.get_info().await?.state;
        Ok((state.last_sequence, state.messages))
    }

    /// All that a stream has on `filter` from `first` on, in order.
    pub async fn read(&self, stream: &str, filter: &str, first: u64) -> Result<Vec<Stored>> {
        let stream = self.jetstream.get_stream(stream).await?;
        let config = pull::OrderedConfig {
            filter_subject: filter.to_owned(),
            headers_only: true,
            deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: first.max(1) },
            ..Default::default()
        };
        let mut consumer = stream.create_consumer(config).await?;
        let mut left = consumer.info().await?.num_pending;
        let mut found = Vec::with_capacity(usize::try_from(left).unwrap_or(0));
        let mut messages = consumer.messages().await?;
        while left > 0 {
            let message =
                tokio::time::timeout(PATIENCE, messages.next()).await.context("a stream's messages")?;
            let message = message.context("a stream that ends")??;
            let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
            left = info.pending;
            found.push(Stored {
                sequence: info.stream_sequence,
                chat: message.subject.rsplit('.').next().unwrap_or_default().to_owned(),
                at: i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0),
                headers: message.headers.clone().unwrap_or_default(),
            });
        }
        Ok(found)
    }

    /// How long it takes until a message is known to be stored, on this bus, now.
    pub async fn round_trip(&self) -> Result<Duration> {
        let subject = format!("wa.in.{}.update.0", wire::ACCOUNT);
        let mut times = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            self.jetstream.publish(subject.clone(), "".into()).await?.await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }
}

async fn listens(server: &mut Child, ports: &Path) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let names = std::fs::read_dir(ports).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in names {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let written: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(url) = written["nats"][0].as_str() {
                return Ok(url.to_owned());
            }
        }
        server.still_runs()?;
        if Instant::now() > deadline {
            bail!("nats-server does not listen:\n{}", server.last_words());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn provision(connector: &Path, url: &str, dir: &Path, settings: &[(&str, &str)]) -> Result<()> {
    let words = vec![connector.display().to_string(), "provision".to_owned()];
    let all = settings.iter().copied().chain([("NATS_URL", url)]);
    let environment = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let order = Order { name: "provision".to_owned(), words, environment, core: Core::Any };
    Child::start(&order, dir)?.ends_well(PATIENCE).await
}

/// `NATS_SERVER_BIN`, else the one on `PATH`.
fn nats_server() -> PathBuf {
    std::env::var_os("NATS_SERVER_BIN").map_or_else(|| "nats-server".into(), PathBuf::from)
}
