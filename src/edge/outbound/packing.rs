//! WhatsApp's message for what is asked for, with what only the session knows: its own addresses and secrets.

use std::time::Duration;

use tokio::time::sleep;
use whatsapp_rust::Jid;
use whatsapp_rust::prelude::wa;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::compose::{self, Around};
use super::file::Ready;
use super::request::{Content, Quote};
use crate::edge::session::{Connection, Ourselves, Poll, Polls};
use crate::wire::ChatToken;
use crate::wire::v1::Identity;

/// How soon a poll is put into the session's store again, if the store did not take it.
const AGAIN: Duration = Duration::from_secs(1);

/// Makes messages.
#[derive(Debug)]
pub(super) struct Packer {
    connection: Connection,
    polls: Polls,
}

/// Which message it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label<'a> {
    /// The chat of its request.
    pub chat: &'a ChatToken,
    /// Where it goes.
    pub to: &'a Jid,
    /// Its WhatsApp id.
    pub id: &'a str,
    /// When it was asked for. Milliseconds.
    pub at_ms: i64,
    /// The file that it names, once WhatsApp has it.
    pub file: Option<&'a Ready>,
    /// It is a group whose members are named by hidden ids.
    pub by_lid: bool,
}

impl Packer {
    /// Keeps polls there.
    pub(super) fn new(connection: Connection, polls: Polls) -> Self {
        Self { connection, polls }
    }

    /// The message, ready to send. A poll is in the session's store then: whoever sees it may vote at once. This may
    /// take any time. Cancel-safe.
    pub(super) async fn pack(
        &self,
        content: &Content,
        quote: Option<&Quote>,
        label: Label<'_>,
    ) -> wa::Message {
        let ourselves = self.connection.ourselves().await;
        let secret = ourselves.secret(label.id);
        if let Content::Poll(poll) = content {
            let poll = Poll {
                secret: secret.to_vec(),
                options: poll.options.clone(),
                creator: identity(&ourselves),
            };
            self.keep(&poll, label).await;
        }
        let own = [ourselves.phone, ourselves.lid];
        let Label { to, at_ms, by_lid, file, .. } = label;
        compose::message(content, quote, &Around { to, own, by_lid, secret, at_ms, file })
    }

    /// Votes come in the chat of the person's own address, which need not be the chat of the request.
    async fn keep(&self, poll: &Poll, label: Label<'_>) {
        let of_address = token(label.to);
        let chats = [Some(label.chat), of_address.as_ref().filter(|token| *token != label.chat)];
        for chat in chats.into_iter().flatten() {
            while let Err(error) = self.polls.keep(chat, label.id, poll.clone()).await {
                tracing::debug!(%error, "a poll cannot be kept yet; it is not sent before");
                sleep(AGAIN).await;
            }
        }
    }
}

/// The chat of a person who is known by this address only, or of a group.
pub(super) fn token(address: &Jid) -> Option<ChatToken> {
    if address.is_pn() {
        Some(ChatToken::phone(&address.user))
    } else if address.is_lid() {
        Some(ChatToken::lid(&address.user))
    } else if address.is_group() {
        Some(ChatToken::group(&address.user))
    } else {
        None
    }
}

fn identity(ourselves: &Ourselves) -> Identity {
    let user = |jid: &Option<Jid>| jid.as_ref().map(|jid| jid.user.to_string()).unwrap_or_default();
    let jid = ourselves.phone.as_ref().map(|jid| jid.to_non_ad().to_string()).unwrap_or_default();
    Identity { jid, phone: user(&ourselves.phone), lid: user(&ourselves.lid) }
}
