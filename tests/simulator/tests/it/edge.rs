//! The real client library, as the connector uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::http::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::prelude::*;
use whatsapp_rust_tokio_transport::TokioWebSocketTransportFactory;

use crate::LIMIT;

/// What the hook does with messages.
#[derive(Clone, Debug)]
pub enum Manners {
    /// Takes all.
    Take,
    /// Refuses so many calls first.
    Refuse(Arc<AtomicUsize>),
    /// Never comes back, like a process about to be killed.
    Hang,
}

/// Of the page that the library reads nothing is needed: its version is told.
struct NoPages;

#[async_trait::async_trait]
impl HttpClient for NoPages {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse> {
        bail!("{} is not for tests", request.url);
    }
}

/// A message that came to the hook.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub id: String,
    pub text: String,
    pub chat: Jid,
    pub sender: Jid,
    pub sender_alt: Option<Jid>,
    pub from_me: bool,
    pub timestamp: i64,
    pub message: Arc<wa::Message>,
}

struct Hook {
    manners: Manners,
    seen: mpsc::UnboundedSender<Inbound>,
}

#[async_trait::async_trait]
impl whatsapp_rust::InboundDurabilityHook for Hook {
    async fn on_messages(&self, _client: Arc<Client>, batch: &[InboundMessage]) -> Result<()> {
        let people = batch.iter().filter(|inbound| !inbound.message.protocol_message.is_set());
        let people: Vec<Inbound> = people.map(read).collect();
        if people.is_empty() {
            return Ok(()); // bookkeeping between the account's devices
        }
        for inbound in people {
            let _ = self.seen.send(inbound);
        }
        match &self.manners {
            Manners::Take => {}
            Manners::Refuse(left) => {
                let one_less = |n: usize| n.checked_sub(1);
                if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    bail!("refused by the test");
                }
            }
            Manners::Hang => std::future::pending::<()>().await,
        }
        Ok(())
    }
}

fn read(inbound: &InboundMessage) -> Inbound {
    let source = &inbound.info.source;
    Inbound {
        id: inbound.info.id.to_string(),
        text: inbound.message.text_content().unwrap_or_default().to_owned(),
        chat: source.chat.clone(),
        sender: source.sender.clone(),
        sender_alt: source.sender_alt.clone(),
        from_me: source.is_from_me,
        timestamp: inbound.info.timestamp.timestamp(),
        message: Arc::clone(&inbound.message),
    }
}

/// A running client.
pub struct Edge {
    pub client: Arc<Client>,
    handle: Option<BotHandle>,
    events: async_channel::Receiver<Arc<Event>>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
}

impl Edge {
    /// Starts a client on a store, which may be linked already.
    pub async fn start(ws_url: &str, store: &Path, manners: Manners) -> Result<Self> {
        Self::start_with(ws_url, store, manners, None).await
    }

    /// The same; one that is not linked shows a code for this phone number besides the QR codes.
    pub async fn start_with(
        ws_url: &str,
        store: &Path,
        manners: Manners,
        code_for: Option<&str>,
    ) -> Result<Self> {
        let (seen, inbound) = mpsc::unbounded_channel();
        let store: PathBuf = store.to_owned();
        let backend = SqliteStore::new(&store.to_string_lossy()).await?;
        let mut builder = Bot::builder()
            .with_backend(backend)
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(ws_url))
            .with_http_client(NoPages)
            .with_version((2, 3000, 0))
            .with_wanted_pre_key_count(30)
            .skip_history_sync()
            .with_inbound_durability_hook(Hook { manners, seen });
        if let Some(phone) = code_for {
            builder = builder
                .with_pair_code(PairCodeOptions { phone_number: phone.to_owned(), ..Default::default() });
        }
        let bot = builder.build().await?;
        let client = bot.client();
        let (handler, events) = ChannelEventHandler::new();
        client.subscribe_handler(handler).detach();
        Ok(Self { client, handle: Some(bot.spawn()), events, inbound })
    }

    /// The next event for which `pick` has an answer.
    pub async fn event<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let search = async {
            loop {
                let event = self.events.recv().await?;
                if let Some(found) = pick(&event) {
                    return anyhow::Ok(found);
                }
            }
        };
        tokio::time::timeout(LIMIT, search).await.with_context(|| format!("waiting for {what}"))?
    }

    pub async fn qr(&self) -> Result<String> {
        self.event("a QR code", |event| match event {
            Event::PairingQrCode(qr) => Some(qr.code.clone()),
            _ => None,
        })
        .await
    }

    pub async fn connected(&self) -> Result<()> {
        self.event("Connected", |event| match event {
            Event::Connected(_) => Some(()),
            _ => None,
        })
        .await
    }

    /// Waits for the server's word on a message: `None` if accepted, or the error.
    pub async fn server_ack(&self, id: &str) -> Result<Option<String>> {
        self.event("the server's ack", |event| match event {
            Event::ServerAck(ack) if ack.class.as_deref() == Some("message") && ack.id == id => {
                Some(ack.error.clone())
            }
            _ => None,
        })
        .await
    }

    /// Whether the server's word on a message has come that nobody asked for yet. Asks the server
    /// something first, whose answer comes after the word.
    pub async fn was_acked(&self, id: &str) -> Result<bool> {
        self.client.contacts().is_on_whatsapp(&[crate::pn(crate::ANA)]).await?;
        let mut acked = false;
        while let Ok(event) = self.events.try_recv() {
            acked |= matches!(&*event, Event::ServerAck(ack)
                if ack.class.as_deref() == Some("message") && ack.id == id);
        }
        Ok(acked)
    }

    /// The next message that came to the hook.
    pub async fn message(&mut self) -> Result<Inbound> {
        tokio::time::timeout(LIMIT, self.inbound.recv())
            .await
            .context("waiting for a message")?
            .context("the hook is gone")
    }

    /// Whether a message has come that nobody asked for yet.
    pub fn pending(&mut self) -> Option<Inbound> {
        self.inbound.try_recv().ok()
    }

    /// Sends a text and waits until the server has it. Returns the id.
    pub async fn send(&self, to: Jid, text: &str) -> Result<String> {
        let sent = self.client.send_message(to, wa::Message::text(text)).await?;
        if let Some(error) = self.server_ack(&sent.message_id).await? {
            bail!("refused with {error}");
        }
        Ok(sent.message_id)
    }

    /// Ends it as a good process does.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(handle) = self.handle.take() {
            tokio::time::timeout(LIMIT, handle.shutdown()).await?;
        }
        Ok(())
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(mut self) {
        drop(self.handle.take());
    }

    /// Waits until the client has given up by itself.
    pub async fn ended(mut self) -> Result<()> {
        let handle = self.handle.take().context("ended already")?;
        tokio::time::timeout(LIMIT, handle).await.context("waiting for the client to give up")?;
        Ok(())
    }
}
