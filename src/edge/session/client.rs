//! The client library's client: this module builds it, runs it, and ends it when the link's state machine says so.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::store::SqliteStore;
use whatsapp_rust::traits::ProtocolStore as _;
use whatsapp_rust::{CacheConfig, CacheEntryConfig, Client, InboundDurabilityHook};

use super::aside::Asides;
use super::ask::{Asked, Next};
use super::commits::Commits;
use super::connection::ConnectionWriter;
use super::events::{Heard, Listener, OutgoingObserver};
use super::extra::Extra;
use super::groups::Groups;
use super::home::Home;
use super::http::Http;
use super::kept_out::{self, KeptOut};
use super::line::Line;
use super::link::{Input, Then};
use super::media::{Jobs, Uploads};
use super::pace::Pace;
use super::pair_codes::PairCodes;
use super::passkey::Ceremony;
use super::polls::Polls;
use super::presence::{Presence, Speaker};
use super::reachability::Reachability;
use super::resend::{Resends, ask_again};
use super::socket::Sockets;
use super::store::{LOST_WAITING, Lost, Store};
use super::watchdog;
use crate::proxy::Proxy;
use crate::stdout;
use crate::telemetry::metrics;
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
    /// What goes on the bus beside what people write to the number.
    pub extra: Extra,
    /// What WhatsApp is told of the connector's presence.
    pub presence: Presence,
    /// For how long a phone may ask for a sent message again.
    pub resend_for: Duration,
    /// Calls of WhatsApp's web page go through it. The connection itself never goes through a proxy.
    pub proxy: Option<Proxy>,
    /// How long the library may take to flush when a client ends.
    pub flush_timeout: Duration,
}

/// The session of one account with WhatsApp, for one term of the lease.
pub(crate) struct Session<Hook> {
    /// Its settings.
    pub settings: Settings,
    /// Where the store is. It is this edge's.
    pub auth: Arc<Home>,
    /// Every inbound message passes this hook.
    pub hook: Hook,
    /// The messages that must come again. Each one holds its chat until then.
    pub resends: Resends,
    /// The polls whose votes can be read.
    pub polls: Polls,
    /// The files that are to be fetched.
    pub jobs: Jobs,
    /// The files that were uploaded.
    pub uploads: Uploads,
    /// All HTTP of the session.
    pub http: Http,
    /// Receives what WhatsApp reports about sent messages.
    pub outgoing: Arc<dyn OutgoingObserver>,
    /// Takes what passes the hook by.
    pub asides: Asides,
    /// What is known of groups.
    pub groups: Groups,
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

/// What outlives the clients of a session.
struct Lasting {
    line: Line,
    reachability: Reachability,
    codes: PairCodes,
}

impl<Hook: InboundDurabilityHook + Clone + 'static> Session<Hook> {
    /// Keeps the account linked and connected until `stop`.
    pub(crate) async fn run(self) {
        self.connection.linked(self.auth.read_linked().await);
        let mut lasting = Lasting {
            line: Line::new(self.settings.simulator_url.clone()),
            reachability: Reachability::default(),
            codes: PairCodes::default(),
        };
        if let Some(kept_out) = KeptOut::remembered(&self.auth, now_ms()).await {
            let left = kept_out::left(kept_out.until_ms, now_ms());
            self.connection.apply(Input::KeptOut(kept_out));
            self.pause(left).await;
        }
        while !self.stop.is_cancelled() {
            match self.live(&mut lasting).await {
                Then::Nothing => break,
                Then::Rebuild { after } => self.pause(after).await,
                Then::ComeBack { at_ms } => {
                    self.pause(kept_out::left(at_ms, now_ms())).await;
                }
                Then::StartOver => {
                    self.connection.linked(None);
                    let suffix = format!("logged-out-{}", now_ms());
                    if let Err(error) = self.auth.set_aside(&suffix).await {
                        tracing::error!(%error, "the dead session cannot be set aside; move the files in WHATSAPP_AUTH_DIR away by hand, if it is there");
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
    async fn live(&self, lasting: &mut Lasting) -> Then {
        let (lost, mut losses) = mpsc::channel(LOST_WAITING);
        let ceremony = Ceremony::default();
        let with_code = lasting.codes.may_ask(Instant::now());
        let (bot, commits) = match self.build(lost, with_code, ceremony.clone()).await {
            Ok(built) => built,
            Err(error) => return self.unopened(&*error),
        };
        let client = bot.client();
        // Two grey ticks for the customer without showing the number as "online".
        client.set_force_active_delivery_receipts(true);
        let (listener, mut inputs) = self.listener(&ceremony);
        let stanzas = client.acquire_raw_node_forwarding();
        let subscription = client.subscribe_handler(listener);
        let mut asked = self.begins(&client, &commits);
        let mut handle = bot.spawn();
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        let mut speaker = Speaker::new(self.settings.presence);
        let Lasting { line, reachability, codes } = lasting;
        let line = &*line;
        let mut is_back = pin!(line.is_back(&client).fuse());
        let mut silence = pin!(watchdog::silence(&client));
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
                Some(lost) = losses.recv() => requested(&client, &lost).await,
                () = self.resends.wants_reconnect(), if client.is_connected() => reconnect(&client).await,
                heard = inputs.recv() => match heard {
                    None => Some(Input::Ended),
                    Some(heard) => self.heard(heard, line, codes, &mut speaker).await,
                },
                () = speaker.is_due() => spoken(&mut speaker, &client).await,
                () = codes.next() => Some(code_is_over(codes)),
                next = asked.next() => match next {
                    Next::Asks(ask) => asked.begin(ask, &client, &self.connection.state(), codes),
                    Next::Done(input) => input,
                },
                () = ceremony.times_out() => Some(too_late()),
                () = &mut is_back => line_is_back(),
                () = &mut silence => {
                    silence.set(watchdog::silence(&client));
                    self.fell_silent(&client).await
                }
                () = &mut handle => break self.last_words(&mut inputs).await,
            };
            let Some(input) = input else { continue };
            if matches!(input, Input::Paired | Input::PasskeyOver) {
                ceremony.ends();
            }
            let then = self.connection.apply(input);
            if then != Then::Nothing {
                self.end(handle).await;
                break then;
            }
        };
        self.connection.gate().hangs_up().await;
        ceremony.ends();
        drop((subscription, stanzas));
        let _ = tokio::time::timeout(self.settings.flush_timeout, commits.settled()).await;
        self.let_go();
        then
    }

    /// From now on others find the client, and ask things of it.
    fn begins(&self, client: &Arc<Client>, commits: &Arc<Commits>) -> Asked {
        self.connection.gate().serves(client);
        self.connection.client(Some((Arc::clone(client), Arc::clone(commits))));
        self.connection.apply(Input::Started { linked: client.pn().is_some() });
        let (asker, asked) = Asked::channel();
        self.connection.asker(Some(asker));
        asked
    }

    /// Told before the connection ends, so that it is known why.
    async fn fell_silent(&self, client: &Arc<Client>) -> Option<Input> {
        self.connection.apply(Input::Silent);
        metrics::SILENCES.add(1, []);
        watchdog::give_up(client).await;
        None
    }

    fn listener(&self, ceremony: &Ceremony) -> (Arc<Listener>, mpsc::Receiver<Heard>) {
        let asides = (self.asides.clone(), self.settings.extra, self.groups.clone());
        let waits = (self.resends.clone(), self.connection.gate());
        Listener::new(waits, asides, Arc::clone(&self.outgoing), ceremony.clone())
    }

    /// The number is linked. The day is remembered, for people.
    async fn linked_now(&self) {
        let at_ms = now_ms();
        if let Err(error) = self.auth.write_linked(at_ms).await {
            tracing::debug!(%error, "it is not remembered since when the number is linked");
        }
        self.connection.linked(Some(at_ms));
    }

    /// Nobody uses the client or its store any more.
    fn let_go(&self) {
        self.connection.asker(None);
        self.connection.code(None);
        self.polls.close();
        self.jobs.close();
        self.uploads.close();
        self.connection.client(None);
    }

    fn unopened(&self, error: &(dyn std::error::Error + Send + Sync)) -> Then {
        self.let_go();
        // The session on the bus may have heard a moment earlier that the lease is lost.
        if self.stop.is_cancelled() || self.auth.is_over() {
            // Whoever has ended this has said why.
            tracing::debug!(%error, "the session store is not opened any more");
        } else {
            tracing::error!(%error, store = %self.auth, "the session store cannot be opened; if it is damaged, restore it from a backup or move it away and link again");
        }
        Then::Rebuild { after: OPEN_PAUSE }
    }

    /// Does what has to be done at once about what the client says. Returns what it means for the link.
    async fn heard(
        &self,
        heard: Heard,
        line: &Line,
        codes: &mut PairCodes,
        speaker: &mut Speaker,
    ) -> Option<Input> {
        let now = Instant::now();
        match heard {
            Heard::Link(input) => {
                match &input {
                    Input::Connected => {
                        self.connection.draining(false);
                        speaker.logged_in(now);
                        self.auth.forget_kept_out().await;
                    }
                    // Before the client is ended: a kill in between would mean another attempt.
                    Input::KeptOut(kept_out) => kept_out.remember(&self.auth).await,
                    Input::Paired => {
                        codes.over();
                        self.linked_now().await;
                    }
                    _ => {}
                }
                return Some(input);
            }
            Heard::LoggedIn => self.connection.draining(true),
            Heard::Renamed => speaker.renamed(now),
            Heard::SlowDown => line.slow_down(now),
            Heard::PairCode(code) => {
                codes.came(code.expires);
                self.connection.code(Some(code));
            }
            Heard::NoPairCode(refusal) => {
                let why = refusal.why();
                let wait = codes.refused(refusal, now);
                let wait = humantime::format_duration(wait);
                tracing::warn!(why, next_in = %wait, "WhatsApp gives no pairing code; the QR code works meanwhile");
                stdout::notice(format_args!(
                    "WhatsApp gives no pairing code: {why}. The next one is asked for in {wait}; the QR code works meanwhile."
                ));
            }
        }
        None
    }

    /// The client has ended by itself. Its last events are still in the channel.
    async fn last_words(&self, inputs: &mut mpsc::Receiver<Heard>) -> Then {
        let mut then = self.connection.apply(Input::Ended);
        while let Ok(heard) = inputs.try_recv() {
            let Heard::Link(input) = heard else { continue };
            if let Input::KeptOut(kept_out) = &input {
                kept_out.remember(&self.auth).await;
            }
            match self.connection.apply(input) {
                Then::Nothing => {}
                said => then = said,
            }
        }
        if then == Then::Nothing { Then::Rebuild { after: Duration::from_secs(1) } } else { then }
    }

    async fn build(
        &self,
        lost: mpsc::Sender<Lost>,
        with_code: bool,
        ceremony: Ceremony,
    ) -> Result<(Bot, Arc<Commits>), Box<dyn std::error::Error + Send + Sync>> {
        let database = self.auth.open().await?;
        forget_old(database.store(), self.settings.resend_for).await;
        self.polls.open(database.clone()).await?;
        self.uploads.open(database.clone()).await?;
        let gate = self.connection.gate();
        let store = Store::new(database.clone(), self.resends.clone(), gate.clone(), lost);
        let commits = store.commits();
        self.jobs.open(database.store(), Arc::clone(&commits)).await?;
        let bot = Bot::builder()
            .with_backend(store)
            .with_cache_config(cache(self.settings.resend_for))
            .with_http_client(self.http.clone())
            .skip_history_sync()
            .with_runtime(Pace(ceremony))
            .with_inbound_durability_hook(self.hook.clone());
        let bot = match self.settings.pair_phone.as_ref().filter(|_| with_code) {
            Some(phone) => bot.with_pair_code(whatsapp_rust::pair_code::PairCodeOptions {
                phone_number: phone.clone(),
                ..Default::default()
            }),
            None => bot,
        };
        #[cfg(feature = "simulator")]
        if let Some(url) = &self.settings.simulator_url {
            let bot = bot
                .with_transport_factory(Sockets::to(Some(url), gate).with(database))
                // Any version will do. Fetching the current one would need the internet.
                .with_version((2, 3000, 0))
                .with_wanted_pre_key_count(30)
                .build()
                .await?;
            return Ok((bot, commits));
        }
        let sockets = Sockets::to(None, gate).with(database);
        Ok((bot.with_transport_factory(sockets).build().await?, commits))
    }

    async fn end(&self, mut handle: BotHandle) {
        let client = handle.client();
        let shutdown = async {
            client.disconnect().await;
            (&mut handle).await;
        };
        // What the library does not flush in time, WhatsApp redelivers. While the bus is away, it flushes nothing, and does not come
        // to the connection's end.
        let has_ended = tokio::time::timeout(self.settings.flush_timeout, shutdown).await.is_ok();
        if !has_ended {
            handle.abort();
        }
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.cancelled()).await;
    }
}

async fn requested(client: &Client, lost: &Lost) -> Option<Input> {
    ask_again(client, lost).await;
    None
}

#[expect(clippy::unnecessary_wraps, reason = "one of the things that may happen to a link, as the others")]
fn line_is_back() -> Option<Input> {
    tracing::info!("WhatsApp answers again; connecting at once");
    Some(Input::LineIsBack)
}

async fn spoken(speaker: &mut Speaker, client: &Client) -> Option<Input> {
    speaker.speak(client).await;
    None
}

fn code_is_over(codes: &mut PairCodes) -> Input {
    codes.seen_to();
    Input::PairCodeOver
}

fn too_late() -> Input {
    tracing::warn!("nobody has answered for the passkey in time; linking begins anew with the next QR code");
    Input::PasskeyOver
}

async fn reconnect(client: &Arc<Client>) -> Option<Input> {
    tracing::info!("connecting anew, for what was refused in the meantime");
    client.reconnect_immediately().await;
    None
}

/// The library does this five minutes after a login, so that an edge that never stays that long would keep all.
async fn forget_old(store: &SqliteStore, resend_for: Duration) {
    let age = i64::try_from(resend_for.as_secs()).unwrap_or(i64::MAX);
    let cutoff = (now_ms() / 1_000).saturating_sub(age);
    if let Err(error) = store.delete_expired_sent_messages(cutoff).await {
        tracing::debug!(%error, "old answers stay in the session's store for now");
    }
}

/// The library keeps what was sent for two hours, and answers no phone that asks for it later. Its person reads
/// "Waiting for this message" for ever.
fn cache(resend_for: Duration) -> CacheConfig {
    CacheConfig {
        sent_message_ttl_secs: resend_for.as_secs().max(1),
        // Who has a group's key is read from the store: it forgets that, too (`unkeyed`), and the library would not hear of it.
        sender_key_devices_cache: CacheEntryConfig::new(None, 0),
        ..CacheConfig::default()
    }
}
