//! The whole path: customers' phones in the simulator, an edge that is linked to it, forwarders, and the backend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::bus::PATIENCE;
use crate::child::{Child, Core, Order};
use crate::contender::{Contender, Starter};
use crate::names;
use crate::run::Site;
use crate::support::http::Http;
use crate::support::{Addressing, Customer, Received, Simulator};

const TEXT: &str = "Hola, ¿tienen una mesa para cuatro personas mañana a las nueve de la noche? Gracias";
/// How long an answer may take.
const BOUND: Duration = Duration::from_secs(120);
/// How many phones are asked at a time.
const AT_ONCE: usize = 32;

/// All of it.
#[derive(Debug)]
pub struct World {
    /// Forwarders.
    pub forwarders: Vec<Child>,
    /// The edge; none while it is away.
    edge: Option<Child>,
    admin: Http,
    simulator: Simulator,
    /// Bus, backend, and the directory of all.
    pub site: Site,
    settings: BTreeMap<String, String>,
    customers: Vec<Person>,
}

/// A customer, and when each message was written, in nanoseconds since 1970.
#[derive(Debug)]
struct Person {
    phone: Customer,
    written: Vec<i64>,
    /// A phone sends one message after the other.
    sends: Arc<Mutex<()>>,
}

/// How all answers came.
#[derive(Debug, Default)]
pub struct Answers {
    /// From the customer's stanza to the answer's, in milliseconds, of the messages asked about.
    pub latencies: Vec<f64>,
    /// When the last one came, in nanoseconds since 1970.
    pub last: i64,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl World {
    /// Starts everything; the edge is linked. Forwarders have the other processor, so that the edge has one for itself.
    pub async fn set(starter: &Starter, forwarders: usize) -> Result<Self> {
        Self::set_with(starter, forwarders, &[]).await
    }

    /// The same; the edge has these settings as well.
    pub async fn set_with(starter: &Starter, forwarders: usize, own: &[(&str, &str)]) -> Result<Self> {
        let site = Site::set(starter, Duration::ZERO).await?;
        let simulator = Simulator::start(site.dir.path().join("simulator")).await;
        let text = |text: &str| text.to_owned();
        let mut settings = BTreeMap::from([
            (text("NATS_URL"), text(site.bus.url())),
            (text("WHATSAPP_SIMULATOR_URL"), simulator.chat_url()),
            (text("WHATSAPP_AUTH_DIR"), site.dir.path().join("auth").display().to_string()),
            (text("HTTP_ADDR"), text("127.0.0.1:0")),
            // These customers write faster than people do.
            (text("SEND_PER_CHAT"), text("off")),
            (text("SEND_TOTAL"), text("off")),
            (text("SEND_NEW_CHATS_PER_HOUR"), text("0")),
            (text("LOOP_LIMIT"), text("off")),
        ]);
        settings.extend(own.iter().map(|(name, value)| (text(name), text(value))));
        let admin = Http::new("");
        let (edge, customers) = (None, Vec::new());
        let mut world = Self { forwarders: Vec::new(), edge, admin, simulator, site, settings, customers };
        world.start_edge(starter).await?;
        let core = if starter.core == Core::Any { Core::Any } else { Core::Rest };
        let starter = Starter { core, ..starter.clone() };
        for _ in 0..forwarders {
            world.forwarders.push(world.site.start(&starter, &Contender::ours())?);
        }
        Ok(world)
    }

    /// Starts the edge, which is linked if it is not yet. How long it took to be online.
    pub async fn start_edge(&mut self, starter: &Starter) -> Result<Duration> {
        let mut words = starter.wrap.clone();
        words.extend([starter.connector.display().to_string(), "edge".to_owned()]);
        let order =
            Order { name: "edge".to_owned(), words, environment: self.settings.clone(), core: starter.core };
        let began = Instant::now();
        let mut edge = Child::start(&order, self.site.dir.path())?;
        self.admin = Http::new(edge.line("admin: ", PATIENCE).await?);
        loop {
            edge.still_runs()?;
            let (status, _) = self.admin.get("/readyz").await.unwrap_or_default();
            if status == 200 {
                break;
            }
            let link = self.admin.get("/link.json").await.map(|(_, link)| link).unwrap_or_default();
            if let Some(qr) = link["qr"].as_str() {
                // A code that has run out meanwhile is refused, and there is a new one.
                let _ = self.simulator.scan(qr).await;
            }
            ensure!(began.elapsed() < PATIENCE, "the edge is not ready:\n{}", edge.last_words());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.edge = Some(edge);
        Ok(began.elapsed())
    }

    /// Ends the edge as an operator would.
    pub async fn stop_edge(&mut self) -> Result<()> {
        match self.edge.take() {
            Some(mut edge) => edge.stop().await,
            None => Ok(()),
        }
    }

    /// The edge.
    pub fn edge(&self) -> Result<&Child> {
        self.edge.as_ref().context("the edge is away")
    }

    /// So many customers; each writes one message and gets its answer, which makes the sessions.
    pub async fn customers(&mut self, count: u32, hidden: bool) -> Result<()> {
        for chat in 0..count {
            let addressing = if hidden { Addressing::Hidden } else { Addressing::Phone };
            let phone = self.simulator.customer(&names::phone(chat), addressing).await;
            self.customers.push(Person { phone, written: Vec::new(), sends: Arc::default() });
        }
        self.everybody_writes(1).await;
        let answers = self.answers(0).await?;
        ensure!(answers.problems.is_empty(), "{:?}", answers.problems);
        Ok(())
    }

    /// Everybody writes so many messages, one after the other, as fast as WhatsApp takes them.
    pub async fn everybody_writes(&mut self, each: u32) {
        for people in chunks(&mut self.customers) {
            join_all(people.map(async |(chat, person)| {
                for _ in 0..each {
                    let id = names::message(chat, u32::try_from(person.written.len()).unwrap_or(u32::MAX));
                    person.written.push(names::now_ns());
                    person.phone.write_as(&id, TEXT).await;
                }
            }))
            .await;
        }
    }

    /// So many a second, of one customer after the other, whatever becomes of them.
    pub async fn write_at(&mut self, per_second: u32, messages: u32) -> Result<()> {
        let mut clock = interval(Duration::from_secs(1) / per_second);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        let count = self.customers.len();
        for index in 0..messages {
            clock.tick().await;
            let place = usize::try_from(index)? % count;
            let person = &mut self.customers[place];
            let id = names::message(u32::try_from(place)?, u32::try_from(person.written.len())?);
            let (phone, sends) = (person.phone.clone(), Arc::clone(&person.sends));
            person.written.push(names::now_ns());
            calls.spawn(async move {
                let _turn = sends.lock().await;
                phone.write_as(&id, TEXT).await;
            });
        }
        while let Some(done) = calls.join_next().await {
            done.context("a message was not taken")?;
        }
        Ok(())
    }

    /// How many messages each customer has written at the least.
    pub fn written(&self) -> usize {
        self.customers.iter().map(|person| person.written.len()).min().unwrap_or(0)
    }

    /// Waits until everybody has all answers. Latencies are of each customer's messages from this one on.
    pub async fn answers(&mut self, from: usize) -> Result<Answers> {
        for forwarder in &mut self.forwarders {
            forwarder.still_runs()?;
        }
        let mut answers = Answers::default();
        for people in chunks(&mut self.customers) {
            let inboxes = people.map(async |(chat, person)| {
                (chat, &person.written, person.phone.receives_within(person.written.len(), BOUND).await)
            });
            for (chat, written, inbox) in join_all(inboxes).await {
                answers.read(chat, written, &inbox, from)?;
            }
        }
        Ok(answers)
    }

    /// Every call was made once, and in its chat's order.
    pub fn calls_in_order(&self) -> Result<()> {
        let verdict = crate::judge::judge(&[], &[], &self.site.stub.calls());
        if verdict.is_clean() { Ok(()) } else { bail!("the backend was called out of order: {verdict:?}") }
    }
}

fn chunks(people: &mut [Person]) -> impl Iterator<Item = impl Iterator<Item = (u32, &mut Person)>> {
    people.chunks_mut(AT_ONCE).scan(0_u32, |first, people| {
        let begin = *first;
        *first += u32::try_from(people.len()).unwrap_or(0);
        Some((begin..).zip(people))
    })
}

impl Answers {
    fn read(&mut self, chat: u32, written: &[i64], inbox: &[Received], from: usize) -> Result<()> {
        if inbox.len() != written.len() {
            self.problems.push(format!("chat {chat}: {} answers to {} messages", inbox.len(), written.len()));
        }
        for (number, (began, received)) in written.iter().zip(inbox).enumerate() {
            let id = names::message(chat, u32::try_from(number)?);
            if number >= from && (!received.text.contains(&id) || received.copies != 1) {
                self.problems.push(format!("chat {chat}: answer {number} is another one's, or came again"));
            }
            let at = OffsetDateTime::parse(&received.at, &Rfc3339)?.unix_timestamp_nanos();
            let at = i64::try_from(at)?;
            if number >= from {
                self.latencies.push((at - began) as f64 / 1e6);
                self.last = self.last.max(at);
            }
        }
        Ok(())
    }
}
