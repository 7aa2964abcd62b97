//! The session with WhatsApp: builds the client, hears its events, and does what the link's state
//! machine says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::store::{SqliteStore, SqliteStoreConfig, Synchronous};
use whatsapp_rust::wacore::types::events::Event;
use whatsapp_rust::wacore_binary::JidExt as _;
use whatsapp_rust::{Client, Jid, NodeBuilder};

use super::events::Ears;
use super::inbound::Inbound;
use super::link::{Input, Qr, State, Then};
use super::lock::AuthDir;
use super::missing::Missing;
use super::online::Board;
use super::receipts::Receipts;
use super::report;
use super::sending::Acks;
use super::store::{Lost, Store};
use crate::bus::{AppendError, Bus};
use crate::telemetry::redact;
use crate::wire::v1::SessionEvent;
use crate::wire::{Account, Subjects, now_ms};

/// The library tries a broken file for thirty seconds before it says so.
const OPEN_PAUSE: Duration = Duration::from_secs(5);

/// How often the connection is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// After so many looks in vain WhatsApp counts as out of reach.
const UNREACHABLE_AFTER: u32 = 5;

/// What the session needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Ask for a pair code for this number instead of only a QR code.
    pub pair_phone: Option<String>,
    /// The simulator's address, in builds that can talk to one.
    pub simulator_url: Option<String>,
    /// How long the library may take to flush when a client ends.
    pub flush_timeout: Duration,
}

/// The session with WhatsApp of one account, for the time of one lease.
pub struct Session {
    /// What it needs to know.
    pub settings: Settings,
    /// Where the store is; its lock is held.
    pub auth: Arc<AuthDir>,
    /// What every message passes.
    pub inbound: Inbound,
    /// What has to come again, and holds its chat until then.
    pub missing: Missing,
    /// Who waits for the server's acks.
    pub acks: Acks,
    /// Who takes receipts.
    pub receipts: Receipts,
    /// Where the link's state is written down.
    pub board: Board,
    /// Ends it.
    pub stop: CancellationToken,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("auth", &self.auth).finish_non_exhaustive()
    }
}

impl Session {
    /// Keeps the account linked and connected until `stop`.
    pub async fn run(self) {
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

    /// One client's life, from its building to its end.
    async fn live(&self) -> Then {
        let (lost, mut losses) = mpsc::unbounded_channel();
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
        let (ears, mut events) = Ears::new(self.missing.clone());
        let stanzas = client.acquire_raw_node_forwarding();
        let subscription = client.subscribe_handler(ears);
        self.board.client(Some(Arc::clone(&client)));
        self.board.apply(Input::Started { linked: client.pn().is_some() });
        let mut handle = bot.spawn();
        let mut reach = Reach::default();
        let mut looks = tokio::time::interval(LOOK);
        let then = loop {
            let input = tokio::select! {
                biased;
                _ = looks.tick() => {
                    reach.look(client.is_connected());
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
                () = self.missing.wants_reconnect(), if client.is_connected() => {
                    tracing::info!("connecting anew, for what was refused in the meantime");
                    client.reconnect_immediately().await;
                    None
                }
                event = events.recv() => match event {
                    Some(event) => self.hear(&event),
                    None => Some(Input::Ended),
                },
                () = &mut handle => {
                    // What it said last is still in the channel.
                    let mut then = self.board.apply(Input::Ended);
                    while let Ok(event) = events.try_recv() {
                        match self.hear(&event).map(|input| self.board.apply(input)) {
                            None | Some(Then::Nothing) => {}
                            Some(said) => then = said,
                        }
                    }
                    break if then == Then::Nothing { Then::Rebuild { after: Duration::from_secs(1) } } else { then };
                }
            };
            let Some(input) = input else { continue };
            let then = self.board.apply(input);
            if then != Then::Nothing {
                self.end(handle).await;
                break then;
            }
        };
        drop((subscription, stanzas));
        self.board.client(None);
        then
    }

    async fn build(
        &self,
        lost: mpsc::UnboundedSender<Lost>,
    ) -> Result<Bot, Box<dyn std::error::Error + Send + Sync>> {
        let config = SqliteStoreConfig { synchronous: Synchronous::Full, ..Default::default() };
        self.auth.make_store()?;
        let path = self.auth.store();
        let store = SqliteStore::with_config(&path.to_string_lossy(), config).await?;
        let bot = Bot::builder()
            .with_backend(Store::new(store, self.missing.clone(), lost))
            .skip_history_sync()
            .with_inbound_durability_hook(self.inbound.clone());
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
                // Any version will do; fetching the current one would need the internet.
                .with_version((2, 3000, 0))
                .with_wanted_pre_key_count(30)
                .build()
                .await?);
        }
        Ok(bot.build().await?)
    }

    async fn end(&self, handle: BotHandle) {
        // What the library does not flush in time, WhatsApp hands over again.
        let _ = tokio::time::timeout(self.settings.flush_timeout, handle.shutdown()).await;
    }

    fn hear(&self, event: &Event) -> Option<Input> {
        Some(match event {
            Event::ServerAck(ack) => {
                self.acks.heard(ack);
                return None;
            }
            Event::Receipt(receipt) => {
                self.receipts.heard(receipt);
                return None;
            }
            Event::PairingQrCode(qr) => {
                Input::Qr(Qr { code: qr.code.clone(), expires: Instant::now() + qr.timeout })
            }
            Event::PairingCode(pairing) => {
                println!(
                    "Pair code for WhatsApp, under Linked devices → Link with phone number: {}",
                    pairing.code
                );
                return None;
            }
            Event::PairError(error) => {
                tracing::error!(error = error.error, "linking failed; scan the next QR code");
                return None;
            }
            Event::PairingQrCodesExhausted(_) => Input::QrExhausted,
            Event::PairSuccess(_) => Input::Paired,
            Event::Connected(_) => Input::Connected,
            Event::Disconnected(_) => Input::Disconnected,
            Event::StreamReplaced(_) => {
                tracing::error!(
                    "another program logged in with this session; this edge stays away for a while"
                );
                Input::Replaced
            }
            Event::LoggedOut(_) => {
                tracing::error!("WhatsApp has logged this number out; it has to be linked again");
                Input::LoggedOut
            }
            Event::TemporaryBan(ban) => {
                tracing::error!(wait = ?ban.expire, "WhatsApp refuses this number for a while");
                Input::Banned(ban.expire.to_std().unwrap_or_default())
            }
            Event::ClientOutdated(_) => {
                tracing::error!("WhatsApp refuses this version of the client; upgrade the connector");
                Input::Outdated
            }
            Event::ConnectFailure(failure) => {
                tracing::error!(reason = ?failure.reason, "WhatsApp refused the login; trying again in a minute");
                Input::Refused
            }
            Event::UndecryptableMessage(_) => {
                tracing::warn!("a message could not be decrypted; its sender is asked to send it again");
                return None;
            }
            _ => return None,
        })
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.cancelled()).await;
    }
}

/// Has the sender encrypt a message once more, with the receipt that WhatsApp has for that. It comes again
/// under the same id, behind what was written in the meantime; `missing` puts it in its place.
async fn ask_again(client: &Client, lost: &Lost) {
    tracing::warn!(
        message_id = lost.id,
        "a message was lost on its way to the disk; its sender is asked for it"
    );
    let (Ok(chat), Ok(sender)) = (lost.chat.parse::<Jid>(), lost.sender.parse::<Jid>()) else {
        tracing::error!(message_id = lost.id, "its sender's address cannot be read; it stays with WhatsApp");
        return;
    };
    let retry = NodeBuilder::new("retry")
        .attr("v", "1")
        .attr("id", lost.id.clone())
        .attr("t", now_ms() / 1000)
        .attr("count", "1")
        .build();
    let registration =
        NodeBuilder::new("registration").bytes(lost.registration_id.to_be_bytes().to_vec()).build();
    let receipt = NodeBuilder::new("receipt").attr("id", lost.id.clone()).attr("type", "retry");
    let receipt = if chat.is_group() {
        receipt.attr("to", chat).attr("participant", sender)
    } else {
        receipt.attr("to", sender)
    };
    let receipt = receipt.children([retry, registration]).build();
    if let Err(error) = client.send_node(receipt).await {
        // Not acknowledged: it comes again with the next connection, and so does this.
        tracing::debug!(error = redact::text(&error), "the request did not leave");
    }
}

/// Says once when WhatsApp cannot be reached, and once when it can again: the library retries without a
/// word to us.
#[derive(Default)]
struct Reach {
    missed: u32,
}

impl Reach {
    fn look(&mut self, connected: bool) {
        if connected {
            if self.missed >= UNREACHABLE_AFTER {
                tracing::info!("WhatsApp can be reached again");
            }
            self.missed = 0;
            return;
        }
        self.missed = self.missed.saturating_add(1);
        if self.missed == UNREACHABLE_AFTER {
            tracing::warn!(
                "WhatsApp cannot be reached: check that this machine may open connections to web.whatsapp.com:443; trying on"
            );
        }
    }
}

/// Puts every new state on the bus, in order. Ends when the session does, or with `stop` if the bus is
/// away then.
pub async fn announce(
    bus: Bus,
    subjects: Subjects,
    account: Account,
    mut states: mpsc::UnboundedReceiver<State>,
    stop: CancellationToken,
) {
    while let Some(state) = states.recv().await {
        let now = now_ms();
        let event = SessionEvent {
            account: account.to_string(),
            state: state.on_the_wire().into(),
            code: state.code().to_owned(),
            detail: state.detail().to_owned(),
            action: state.action().into(),
            at_ms: now,
            chat: String::new(),
        };
        let id = format!("{account}/session/{}/{now}", state.code());
        let record = report::session_event(&subjects, &account, &id, &event);
        let stored = if stop.is_cancelled() {
            tokio::time::timeout(Duration::from_secs(2), bus.append(&record))
                .await
                .unwrap_or(Err(AppendError::Stopped))
        } else {
            bus.append_until_known(&record, &stop).await
        };
        if let Err(error) = stored {
            tracing::warn!(%error, state = state.code(), "a change of the session's state did not get on the bus");
        }
    }
}
