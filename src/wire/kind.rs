//! The names of kinds of messages and outcomes, for metrics, logs and commands.

use super::v1::inbound_message::Content;

/// Every kind: its variant, its field in the schema, and its name in metrics, logs and commands.
macro_rules! kinds {
    ($($variant:ident, $field:literal, $name:literal;)*) => {
        /// What a message is, in one word.
        pub fn content(content: Option<&Content>) -> &'static str {
            match content {
                None => "unreadable",
                $(Some(Content::$variant(_)) => $name,)*
            }
        }

        /// The name of the kind's field in the schema. It is the value of the header `Wa-Kind`.
        pub fn field(content: &Content) -> &'static str {
            match content {
                $(Content::$variant(_) => $field,)*
            }
        }

        #[cfg(test)]
        const FIELDS: &[&str] = &[$($field),*];
    };
}

kinds! {
    Text, "text", "text";
    Image, "image", "image";
    Video, "video", "video";
    Audio, "audio", "audio";
    Document, "document", "document";
    Sticker, "sticker", "sticker";
    Location, "location", "location";
    Contacts, "contacts", "contacts";
    ButtonReply, "button_reply", "button";
    ListReply, "list_reply", "list";
    Poll, "poll", "poll";
    Order, "order", "order";
    Album, "album", "album";
    Event, "event", "event";
    Product, "product", "product";
    GroupInvite, "group_invite", "group-invite";
    Unsupported, "unsupported", "other";
    Edit, "edit", "edit";
    Revoke, "revoke", "revoke";
    Reaction, "reaction", "reaction";
    PollVote, "poll_vote", "poll-vote";
    Pin, "pin", "pin";
    BetterCopy, "better_copy", "better-copy";
    EventAnswer, "event_answer", "event-answer";
    MissedCall, "missed_call", "missed-call";
    Media, "media", "media";
    ChatTimer, "chat_timer", "chat-timer";
    GroupChange, "group_change", "group-change";
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
            (Content::GroupChange(GroupChange::default()), "group-change"),
            (Content::Album(Album::default()), "album"),
            (Content::Event(Event::default()), "event"),
            (Content::Product(Product::default()), "product"),
            (Content::GroupInvite(GroupInvite::default()), "group-invite"),
            (Content::Pin(Pin::default()), "pin"),
            (Content::BetterCopy(BetterCopy::default()), "better-copy"),
            (Content::EventAnswer(EventAnswer::default()), "event-answer"),
            (Content::MissedCall(MissedCall::default()), "missed-call"),
            (Content::Media(MediaResult::default()), "media"),
        ] {
            assert_eq!(content(Some(&kind)), name);
        }
        assert_eq!(content(None), "unreadable");
    }

    /// A reader finds the header's value in the schema.
    #[test]
    fn every_field_has_the_name_that_the_schema_gives_it() {
        let prefix = "whatsapp.connector.v1.InboundMessage.";
        let mut wanted: Vec<_> = include_str!("../../proto/golden.txt")
            .lines()
            .filter(|line| line.contains("oneof content"))
            .filter_map(|line| line.strip_prefix(prefix)?.split_once(':'))
            .map(|(field, _)| field)
            .collect();
        let mut fields = FIELDS.to_vec();
        wanted.sort_unstable();
        fields.sort_unstable();
        assert_eq!(fields, wanted);
        let kind = Content::ButtonReply(ButtonReply::default());
        assert_eq!((field(&kind), content(Some(&kind))), ("button_reply", "button"));
    }
}
