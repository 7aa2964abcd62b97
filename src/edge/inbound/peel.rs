//! What is inside WhatsApp's wrappers. Pure.
//!
//! WhatsApp puts a message into another one to say something of it: it disappears, it may be seen once, it belongs
//! to an album. The client library opens a few of these wrappers, once each. This module opens all of them, however
//! they are nested, down to a limit.

use whatsapp_rust::prelude::{MessageField, wa};

/// How deep wrappers may be nested. Phones nest three at the most.
const DEPTH: usize = 8;

/// The message, what is in it, what is in that, and so on. The last one is no wrapper, or an empty one, or it is nested
/// too deep.
pub(super) fn layers(message: &wa::Message) -> impl Iterator<Item = &wa::Message> {
    std::iter::successors(Some(message), |layer| wrapped(layer)).take(DEPTH + 1)
}

/// Opens every wrapper.
pub(super) fn peel(message: &wa::Message) -> &wa::Message {
    layers(message).last().unwrap_or(message)
}

/// What a message says of itself beside its kind, in any layer.
pub(super) fn beside<'a, T>(
    message: &'a wa::Message,
    what: impl Fn(&'a wa::MessageContextInfo) -> Option<T>,
) -> Option<T> {
    layers(message).find_map(|layer| what(layer.message_context_info.as_option()?))
}

/// May it be opened once only?
pub(super) fn view_once(message: &wa::Message) -> bool {
    let wrapper = |layer: &wa::Message| {
        layer.view_once_message.as_option().is_some()
            || layer.view_once_message_v2.as_option().is_some()
            || layer.view_once_message_v2_extension.as_option().is_some()
    };
    let base = peel(message);
    let videos = [&base.video_message, &base.ptv_message];
    let flags = [
        base.image_message.as_option().and_then(|image| image.view_once),
        videos.into_iter().find_map(|video| video.as_option()).and_then(|video| video.view_once),
        base.audio_message.as_option().and_then(|audio| audio.view_once),
    ];
    flags.contains(&Some(true)) || layers(message).any(wrapper)
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
