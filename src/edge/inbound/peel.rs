//! What is inside WhatsApp's wrappers. Pure.
//!
//! WhatsApp puts a message into another one to say something of it: it disappears, it may be seen once, it belongs
//! to an album. The client library opens a few of these wrappers, once each. This module opens all of them, however
//! they are nested, down to a limit.

use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::waproto::whatsapp::message_association::AssociationType;

/// How deep wrappers may be nested. Phones nest three at the most.
const DEPTH: usize = 8;

/// A message without its wrappers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peeled<'a> {
    /// What is inside. A wrapper, if it is empty or nested too deep.
    pub inside: &'a wa::Message,
    /// It is another copy of a file that came before, in a better quality.
    pub better_copy: bool,
}

/// Opens every wrapper.
pub(super) fn peel(message: &wa::Message) -> Peeled<'_> {
    let mut peeled = Peeled { inside: message, better_copy: better_copy(message) };
    for _ in 0..DEPTH {
        let Some(inside) = wrapped(peeled.inside) else { break };
        peeled = Peeled { inside, better_copy: peeled.better_copy || better_copy(inside) };
    }
    peeled
}

fn wrapped(message: &wa::Message) -> Option<&wa::Message> {
    if let Some(sent) = message.device_sent_message.as_option() {
        return sent.message.as_option();
    }
    wrappers(message).into_iter().find_map(|wrapper| wrapper.as_option()?.message.as_option())
}

type Wrapper = MessageField<wa::message::FutureProofMessage>;

/// Every field of a message that is a wrapper.
fn wrappers(message: &wa::Message) -> [&Wrapper; 27] {
    [
        &message.ephemeral_message,
        &message.view_once_message,
        &message.view_once_message_v2,
        &message.view_once_message_v2_extension,
        &message.document_with_caption_message,
        &message.edited_message,
        &message.associated_child_message,
        &message.group_mentioned_message,
        &message.bot_invoke_message,
        &message.bot_task_message,
        &message.bot_forwarded_message,
        &message.lottie_sticker_message,
        &message.event_cover_image,
        &message.poll_creation_message_v4,
        &message.poll_creation_option_image_message,
        &message.status_mention_message,
        &message.status_add_yours,
        &message.group_status_mention_message,
        &message.group_status_message,
        &message.group_status_message_v2,
        &message.limit_sharing_message,
        &message.question_message,
        &message.question_reply_message,
        &message.spoiler_message,
        &message.newsletter_admin_profile_message,
        &message.newsletter_admin_profile_message_v2,
        &message.newsletter_admin_profile_status_message,
    ]
}

fn better_copy(message: &wa::Message) -> bool {
    let association = message
        .message_context_info
        .as_option()
        .and_then(|context| context.message_association.as_option())
        .and_then(|association| association.association_type);
    matches!(
        association,
        Some(
            AssociationType::HdVideoDualUpload
                | AssociationType::HdImageDualUpload
                | AssociationType::HevcVideoDualUpload
        )
    )
}
