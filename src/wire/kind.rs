//! Names for what messages and outcomes are: in metrics, logs and commands.

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
        Some(Content::Unsupported(_)) => "other",
        Some(Content::Edit(_)) => "edit",
        Some(Content::Revoke(_)) => "revoke",
        Some(Content::Reaction(_)) => "reaction",
        Some(Content::PollVote(_)) => "poll-vote",
    }
}

/// A protobuf enum's value as a code: `NO_REPLY_REASON_NOT_TEXT` without `NO_REPLY_REASON_` is `not-text`.
pub fn code(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_lower_case() {
        assert_eq!(super::code("NO_REPLY_REASON_NOT_TEXT", "NO_REPLY_REASON_"), "not-text");
    }
}
