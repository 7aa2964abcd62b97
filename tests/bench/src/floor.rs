//! The floor: what a short loop in Rust costs that keeps no order, retries nothing and says nothing.

use std::sync::Arc;

use anyhow::Result;
use async_nats::jetstream::{self, Message, consumer::PullConsumer};
use futures::StreamExt as _;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::wire::rfc3339_ms;
use crate::wire::v1::{InboundMessage, Outcome, Reply, inbound_message::Content, outcome};

/// Pulled at once, and calls at once.
const AT_ONCE: usize = 256;

#[derive(Serialize)]
struct Question<'a> {
    message_id: &'a str,
    from_number: &'a str,
    text: &'a str,
    timestamp_iso: String,
}

#[derive(Deserialize)]
struct Answer {
    response_text: String,
}

struct Loop {
    jetstream: jetstream::Context,
    http: reqwest::Client,
    url: String,
}

/// Runs until it is ended.
pub async fn run() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = async_nats::connect(std::env::var("NATS_URL")?).await?;
    let jetstream = jetstream::new(client);
    let consumer: PullConsumer = jetstream.get_consumer_from_stream("forwarder", "WA_IN").await?;
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(AT_ONCE).build()?;
    let url = format!("{}/v1/channels/whatsapp/gateway/inbound", std::env::var("BACKEND_URL")?);
    let own = Arc::new(Loop { jetstream, http, url });
    let calls = Arc::new(Semaphore::new(AT_ONCE));
    let mut messages = consumer.stream().max_messages_per_batch(AT_ONCE).messages().await?;
    while let Some(message) = messages.next().await {
        let (message, own) = (message?, Arc::clone(&own));
        let permit = Arc::clone(&calls).acquire_owned().await?;
        tokio::spawn(async move {
            if let Err(error) = own.answer(&message).await {
                eprintln!("{error}");
            }
            drop(permit);
        });
    }
    Ok(())
}

impl Loop {
    async fn answer(&self, message: &Message) -> Result<()> {
        let inbound = InboundMessage::decode(message.payload.clone())?;
        let text = match &inbound.content {
            Some(Content::Text(text)) => text.body.as_str(),
            _ => "",
        };
        let question = Question {
            message_id: &inbound.message_id,
            from_number: &inbound.chat,
            text,
            timestamp_iso: rfc3339_ms(inbound.sent_at_ms)?,
        };
        let answer: Answer =
            self.http.post(&self.url).json(&question).send().await?.error_for_status()?.json().await?;
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{}/{}/outcome", inbound.chat, inbound.message_id).as_str());
        headers.insert("Wa-In-Seq", info.stream_sequence.to_string().as_str());
        let reply = Reply { text: answer.response_text, ..Default::default() };
        let subject = format!("wa.out.{}.reply.{}", inbound.account, inbound.chat);
        let outcome = Outcome {
            account: inbound.account,
            chat: inbound.chat,
            chat_jid: inbound.chat_jid,
            message_id: inbound.message_id,
            result: Some(outcome::Result::Reply(reply)),
            ..Default::default()
        };
        self.jetstream.publish_with_headers(subject, headers, outcome.encode_to_vec().into()).await?.await?;
        message.ack().await.map_err(|error| anyhow::anyhow!("{error}"))
    }
}
