//! Asks a phone to upload a file again that has expired: WhatsApp's media retry receipt.

use whatsapp_rust::features::MediaReuploadError;
use whatsapp_rust::{Client, Jid, MediaRetryResult, MediaReuploadRequest};

use super::File;
use crate::edge::session::Connection;
use crate::wire::v1::{ChatKind, InboundMessage};

/// What the phone says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is there again, at this path.
    Here(String),
    /// The phone has it no more.
    Gone,
    /// Nothing: it is off, or something is wrong.
    Silence,
    /// The connection to WhatsApp was lost before it could say anything.
    Unheard,
}

/// Asks for the file of this message. Waits up to half a minute, or until the connection is lost: an answer comes on the
/// connection that it was asked for on, or not at all.
pub(crate) async fn ask_phone(connection: &Connection, message: &InboundMessage, file: &File) -> Answer {
    let client = connection.client().await;
    tokio::select! {
        answer = ask(&client, message, file) => answer,
        () = connection.lost(&client) => Answer::Unheard,
    }
}

async fn ask(client: &Client, message: &InboundMessage, file: &File) -> Answer {
    let Ok(chat) = message.chat_jid.parse::<Jid>() else { return Answer::Gone };
    let sender = message.sender.as_ref().and_then(|sender| sender.jid.parse::<Jid>().ok());
    let request = MediaReuploadRequest {
        msg_id: &message.message_id,
        chat_jid: &chat,
        media_key: &file.key,
        is_from_me: message.from_me,
        participant: sender.as_ref().filter(|_| message.chat_kind() != ChatKind::Direct),
    };
    match client.media_reupload().request(&request).await {
        // The path is a phone's word, as the first one was.
        Ok(MediaRetryResult::Success { direct_path }) => Answer::Here(direct_path),
        Ok(MediaRetryResult::NotFound) => Answer::Gone,
        Err(MediaReuploadError::Client(_) | MediaReuploadError::NotLoggedIn) => Answer::Unheard,
        Ok(MediaRetryResult::GeneralError | MediaRetryResult::DecryptionError) | Err(_) => Answer::Silence,
    }
}
