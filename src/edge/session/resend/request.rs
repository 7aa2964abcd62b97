//! Requests a message again, with WhatsApp's own means for that: the retry receipt.

use whatsapp_rust::wacore_binary::JidExt as _;
use whatsapp_rust::{Client, Jid, NodeBuilder};

use crate::edge::session::store::Lost;
use crate::telemetry::redact;
use crate::wire::now_ms;

/// Makes the sender encrypt a message once more, by a retry receipt. The message comes again under the same id,
/// behind what was written in the meantime. `queues` puts it in its place.
pub(crate) async fn ask_again(client: &Client, lost: &Lost) {
    tracing::warn!(
        message_id = lost.id,
        "a message was lost on its way to the disk; its sender is asked for it"
    );
    let (Ok(chat), Ok(sender)) = (lost.chat.parse::<Jid>(), lost.sender.parse::<Jid>()) else {
        tracing::error!(
            message_id = lost.id,
            "the address of a lost message's sender cannot be read; the message stays with WhatsApp"
        );
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
        // The message is not acknowledged, so it comes again with the next connection. So does this request.
        tracing::debug!(error = redact::text(&error), "the request did not leave");
    }
}
