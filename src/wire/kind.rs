//! The names of kinds of messages and outcomes, for metrics, logs and commands.

use super::v1::inbound_message::Content;

/// What a message is, in one word.
pub fn content(content: Option<&Content>) -> &'static str {
    match content {
        None => "unreadable",
        Some(Content::Text(_)) => "text",
        Some(Content::Image(_)) => "image",
        Some(Content::Video(_)) => "video",
        Some(Content::Audio(_)) => "audio",
        Some(Content::Document(_)) => "document",
        Some(Content::Sticker(_)) => "sticker",
        Some(Content::Location(_)) => "location",
        Some(Content::Contacts(_)) => "contacts",
        Some(Content::ButtonReply(_)) => "button",
        Some(Content::ListReply(_)) => "list",
        Some(Content::Poll(_)) => "poll",
        Some(Content::Order(_)) => "order",
        Some(Content::Unsupported(_)) => "other",
        Some(Content::Edit(_)) => "edit",
        Some(Content::Revoke(_)) => "revoke",
        Some(Content::Reaction(_)) => "reaction",
        Some(Content::PollVote(_)) => "poll-vote",
        Some(Content::ChatTimer(_)) => "chat-timer",
    }
}

/// A protobuf enum's value as a code: `NO_REPLY_REASON_NOT_TEXT` without `NO_REPLY_REASON_` is `not-text`.
pub fn code(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::*;

    #[test]
    fn codes_are_lower_case() {
        assert_eq!(code("NO_REPLY_REASON_NOT_TEXT", "NO_REPLY_REASON_"), "not-text");
    }

    /// Dashboards and scripts know them by these names.
    #[test]
    fn every_kind_has_the_name_that_it_had() {
        for (kind, name) in [
            (Content::Text(Text::default()), "text"),
            (Content::Image(Media::default()), "image"),
            (Content::Video(Media::default()), "video"),
            (Content::Audio(Media::default()), "audio"),
            (Content::Document(Media::default()), "document"),
            (Content::Sticker(Media::default()), "sticker"),
            (Content::Location(Location::default()), "location"),
            (Content::Contacts(Contacts::default()), "contacts"),
            (Content::ButtonReply(ButtonReply::default()), "button"),
            (Content::ListReply(ListReply::default()), "list"),
            (Content::Poll(Poll::default()), "poll"),
            (Content::Order(Order::default()), "order"),
            (Content::Unsupported(Unsupported::default()), "other"),
            (Content::Edit(Edit::default()), "edit"),
            (Content::Revoke(Revoke::default()), "revoke"),
            (Content::Reaction(Reaction::default()), "reaction"),
            (Content::PollVote(PollVote::default()), "poll-vote"),
            (Content::ChatTimer(ChatTimer::default()), "chat-timer"),
        ] {
            assert_eq!(content(Some(&kind)), name);
        }
        assert_eq!(content(None), "unreadable");
    }
}
