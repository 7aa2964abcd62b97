//! The client library's client: this module builds it, runs it, and ends it when the link's state machine says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::InboundDurabilityHook;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::store::{SqliteStore, SqliteStoreConfig, Synchronous};

use super::connection::ConnectionWriter;
use super::events::{Listener, OutgoingObserver};
use super::http;
use super::link::{Input, Then};
use super::lock::AuthDir;
use super::reachability::Reachability;
use super::resend::{Resends, ask_again};
use super::store::{LOST_WAITING, Lost, Store};
use crate::proxy::Proxy;
use crate::wire::now_ms;

/// A short pause is enough: the library itself retries a broken file for thirty seconds before it reports the
/// error.
const OPEN_PAUSE: Duration = Duration::from_secs(5);

/// How often the edge checks the connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The settings of the session.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Request a pair code for this number, and not only a QR code.
    pub pair_phone: Option<String>,
    /// The simulator's address, in builds that can use one.
    pub simulator_url: Option<String>,
    /// Calls of WhatsApp's web page go through it. The connection itself never goes through a proxy.
    pub proxy: Option<Proxy>,
    /// How long the library may take to flush when a client ends.
    pub flush_timeout: Duration,
}

/// The session of one account with WhatsApp, for one term of the lease.
pub(crate) struct Session<Hook> {
    /// Its settings.
    pub settings: Settings,
    /// Where the store is. The lock on it is held.
    pub auth: Arc<AuthDir>,
    /// Every inbound message passes this hook.
    pub hook: Hook,
    /// The messages that must come again. Each one holds its chat until then.
    pub resends: Resends,
    /// Receives what WhatsApp reports about sent messages.
    pub outgoing: Arc<dyn OutgoingObserver>,
    /// Where the state of the link is written.
    pub connection: ConnectionWriter,
    /// Ends the session.
    pub stop: CancellationToken,
}

impl<Hook> std::fmt::Debug for Session<Hook> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("auth", &self.auth).finish_non_exhaustive()
    }
}

impl<Hook: InboundDurabilityHook + Clone + 'static> Session<Hook> {
    /// Keeps the account linked and connected until `stop`.
    pub(crate) async fn run(self) {
        while !self.stop.is_cancelled() {
            match self.live().await {
                Then::Nothing => break,
                Then::Rebuild { after } => self.pause(after).await,
                Then::StartOver => {
                    let suffix = format!("logged-out-{}", now_ms());
                    if let Err(error) = self.auth.set_aside(&suffix) {
                        tracing::error!(%error, "the dead session cannot be set aside; move the files in WHATSAPP_AUTH_DIR away by hand");
                        self.pause(Duration::from_secs(30)).await;
                    }
                }
                Then::Halt => {
                    self.stop.cancelled().await;
                }
            }
        }
    }

    /// The life of one client, from its building to its end.
    async fn live(&self) -> Then {
        let (lost, mut losses) = mpsc::channel(LOST_WAITING);
        let bot = match self.build(lost).await {
            Ok(bot) => bot,
            Err(error) => {
                tracing::error!(%error, store = %self.auth.store().display(), "the session store cannot be opened; if it is damaged, restore it from a backup or move it away and link again");
                return Then::Rebuild { after: OPEN_PAUSE };
            }
        };
        let client = bot.client();
        // Two grey ticks for the customer without showing the number as "online".
        client.set_force_active_delivery_receipts(true);
        let (listener, mut inputs) = Listener::new(self.resends.clone(), Arc::clone(&self.outgoing));
        let stanzas = client.acquire_raw_node_forwarding();
        let subscription = client.subscribe_handler(listener);
        self.connection.client(Some(Arc::clone(&client)));
        self.connection.apply(Input::Started { linked: client.pn().is_some() });
        let mut handle = bot.spawn();
        let mut reachability = Reachability::default();
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        let then = loop {
            let input = tokio::select! {
                biased;
                _ = checks.tick() => {
                    reachability.check(client.is_connected());
                    None
                }
                () = self.stop.cancelled() => {
                    self.end(handle).await;
                    break Then::Nothing;
                }
                Some(lost) = losses.recv() => {
                    ask_again(&client, &lost).await;
                    None
                }
                () = self.resends.wants_reconnect(), if client.is_connected() => {
                    tracing::info!("connecting anew, for what was refused in the meantime");
                    client.reconnect_immediately().await;
                    None
                }
                input = inputs.recv() => Some(input.unwrap_or(Input::Ended)),
                () = &mut handle => break self.last_words(&mut inputs),
            };
            let Some(input) = input else { continue };
            let then = self.connection.apply(input);
            if then != Then::Nothing {
                self.end(handle).await;
                break then;
            }
        };
        drop((subscription, stanzas));
        self.connection.client(None);
        then
    }

    /// The client has ended by itself. Its last events are still in the channel.
    fn last_words(&self, inputs: &mut mpsc::Receiver<Input>) -> Then {
        let mut then = self.connection.apply(Input::Ended);
        while let Ok(input) = inputs.try_recv() {
            match self.connection.apply(input) {
                Then::Nothing => {}
                said => then = said,
            }
        }
        if then == Then::Nothing { Then::Rebuild { after: Duration::from_secs(1) } } else { then }
    }

    async fn build(&self, lost: mpsc::Sender<Lost>) -> Result<Bot, Box<dyn std::error::Error + Send + Sync>> {
        let config = SqliteStoreConfig { synchronous: Synchronous::Full, ..Default::default() };
        self.auth.make_store()?;
        let path = self.auth.store();
        let store = SqliteStore::with_config(&path.to_string_lossy(), config).await?;
        let bot = Bot::builder()
            .with_backend(Store::new(store, self.resends.clone(), lost))
            .with_http_client(http::client(self.settings.proxy.as_ref()))
            .skip_history_sync()
            .with_inbound_durability_hook(self.hook.clone());
        let bot = match &self.settings.pair_phone {
            Some(phone) => bot.with_pair_code(whatsapp_rust::pair_code::PairCodeOptions {
                phone_number: phone.clone(),
                ..Default::default()
            }),
            None => bot,
        };
        #[cfg(feature = "simulator")]
        if let Some(url) = &self.settings.simulator_url {
            use whatsapp_rust::transport::TokioWebSocketTransportFactory;
            return Ok(bot
                .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(url.as_str()))
                // Any version will do. Fetching the current one would need the internet.
                .with_version((2, 3000, 0))
                .with_wanted_pre_key_count(30)
                .build()
                .await?);
        }
        Ok(bot.build().await?)
    }

    async fn end(&self, handle: BotHandle) {
        // What the library does not flush in time, WhatsApp redelivers.
        let _ = tokio::time::timeout(self.settings.flush_timeout, handle.shutdown()).await;
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.cancelled()).await;
    }
}
