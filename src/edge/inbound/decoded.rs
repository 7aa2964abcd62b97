//! The bytes of a message as WhatsApp carries them → what would be on the bus of it. The library hands messages over decoded; this
//! is for the checks of decoders, which begin with bytes that anybody may have written. Pure.

use whatsapp_rust::waproto::codec;

use super::content::{self, Mapped};
use super::media::attached;
use super::{context, sealed};
use crate::wire::v1::InboundMessage;

/// `None`: these bytes are no message, or nothing of it goes on the bus.
pub fn decoded(bytes: &[u8]) -> Option<InboundMessage> {
    let message = codec::message_decode(bytes).ok()?;
    let mapped = content::map(&message);
    let disappears_after_s = content::timer(&message, &mapped, false);
    let (Mapped::Message(content) | Mapped::Update(content)) = mapped else { return None };
    // What is kept and fetched of it is read as well, and must bear whatever it is.
    let _ = (sealed::sealed(&message), sealed::kept(&message), attached(&message));
    Some(InboundMessage {
        quoted_message_id: context::quoted_id(&message),
        context: context::context(&message),
        content: Some(content),
        disappears_after_s,
        ..InboundMessage::default()
    })
}
