//! Other services, which want to have something sent whatever happens, and go on asking until the bus has it.

use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{SendLocation, SendMedia, SendMediaKind, SendMessage, SendPoll, SendText};
use whatsapp_connector::wire::{header, id};

use crate::beside;
use crate::letters::{OPTIONS, Request, Wish};
use crate::support::Streams;

/// How long one publish may take before it is made again, under the same id.
const PUBLISH: Duration = Duration::from_secs(2);
/// How long a service waits until it tries again.
const AGAIN: Duration = Duration::from_millis(200);
/// After so long without the bus something is wrong with the round.
const AT_MOST: Duration = Duration::from_secs(60);

/// The picture that services have sent.
const FILE: &str = "chaos/carta";

/// Puts the picture where the edge finds it.
pub async fn put(streams: &Streams) {
    let bucket = streams.jetstream().get_object_store("WA_MEDIA").await.expect("the bucket");
    let content = beside::bytes(FILE);
    bucket.put(FILE, &mut content.as_slice()).await.expect("an object");
}

/// What has to be on a phone.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The customer's number.
    pub phone: String,
    /// The request's id.
    pub request: String,
    /// The message's WhatsApp id, which derives from it.
    pub id: String,
    /// What kind of message the phone shows.
    pub kind: &'static str,
    /// The words that it shows.
    pub text: String,
}

/// Asks for everything that is for this customer, one after the other.
pub async fn ask(url: &str, phone: &str, number: usize, requests: &[Request], start: Instant) -> Asked {
    let servers: Vec<&str> = url.split(',').collect();
    let client = async_nats::ConnectOptions::new().retry_on_initial_connect().connect(servers).await;
    let client = client.unwrap_or_else(|error| panic!("{url}: {error}"));
    let jetstream = async_nats::jetstream::new(client);
    let mut asked = Asked::default();
    for (count, request) in requests.iter().filter(|request| request.customer == number).enumerate() {
        tokio::time::sleep_until(start + request.at).await;
        let (wanted, message) = worded(phone, count, request.wish);
        let since = Instant::now();
        while let Err(error) = publish(&jetstream, &wanted.request, &message).await {
            if since.elapsed() > AT_MOST {
                asked
                    .complaints
                    .push(format!("{}: the bus has not taken the request: {error}", wanted.request));
                return asked;
            }
            tokio::time::sleep(AGAIN).await;
        }
        asked.wanted.push(wanted);
    }
    asked
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// What the bus has taken.
    pub wanted: Vec<Wanted>,
    /// What went wrong.
    pub complaints: Vec<String>,
}

fn worded(phone: &str, count: usize, wish: Wish) -> (Wanted, SendMessage) {
    let text = format!("aviso {count} para {phone}");
    let request = format!("aviso-{phone}-{count}");
    let (kind, content) = match wish {
        Wish::Text => ("text", Content::Text(SendText { body: text.clone(), ..Default::default() })),
        Wish::Poll => {
            let options = OPTIONS.map(str::to_owned).to_vec();
            ("poll", Content::Poll(SendPoll { question: text.clone(), options, selectable: 0 }))
        }
        Wish::Place => {
            let place = SendLocation {
                latitude: -34.5,
                longitude: -58.25,
                name: text.clone(),
                ..SendLocation::default()
            };
            ("location", Content::Location(place))
        }
        Wish::File => {
            let key = FILE.to_owned();
            let kind = SendMediaKind::Image.into();
            ("image", Content::Media(SendMedia { key, kind, caption: text.clone(), ..SendMedia::default() }))
        }
    };
    let message = SendMessage { to: phone.to_owned(), content: Some(content), ..SendMessage::default() };
    (Wanted { phone: phone.to_owned(), id: id::whatsapp(&request), request, kind, text }, message)
}

async fn publish(
    jetstream: &async_nats::jetstream::Context,
    request: &str,
    message: &SendMessage,
) -> Result<(), String> {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(header::MSG_ID, request);
    let subject = format!("wa.out.default.send.{}", message.to);
    let stored = async {
        let sent = jetstream.publish_with_headers(subject, headers, message.encode_to_vec().into()).await;
        sent.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(PUBLISH, stored).await {
        Ok(stored) => stored.map(|_| ()),
        Err(_elapsed) => Err("no PubAck in time".to_owned()),
    }
}
