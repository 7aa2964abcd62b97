//! A payload as JSON: what machines and operators need. What customers wrote is in it only on request. Pure.

use prost::Message;
use serde_json::{Map, Value, json};

use super::mask::Mask;
use crate::wire::header::rfc3339_ms;
use crate::wire::kind::{self, code};
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{
    ChatKind, Context, DeadReason, EventAnswerWord, GroupAction, Identity, InboundMessage, Media,
    NoReplyReason, OptOut, OptOutCause, OptOutState, Outcome, Receipt, ReceiptStatus, Reply, SendMediaKind,
    SendMessage, SendTarget, SessionAction, SessionEvent, SessionState, Takeover, TakeoverCause,
    TakeoverState, outcome, send_message,
};

/// The payload of a message of this kind. `mask` learns the numbers of the people that it is about.
pub(super) fn payload(kind: &str, bytes: &[u8], mask: &mut Mask) -> Value {
    let shown = match kind {
        "message" | "update" | "dead" => InboundMessage::decode(bytes).map(|message| inbound(&message, mask)),
        "reply" => Outcome::decode(bytes).map(|outcome| ended(&outcome, mask)),
        "send" => SendMessage::decode(bytes).map(|request| send(&request, mask)),
        "receipt" => Receipt::decode(bytes).map(|told| receipt(&told, mask)),
        "takeover" => Takeover::decode(bytes).map(|told| takeover(&told, mask)),
        "opt-out" => OptOut::decode(bytes).map(|told| opt_out(&told, mask)),
        "session" => SessionEvent::decode(bytes).map(|event| session(&event, mask)),
        _ => return unreadable(bytes),
    };
    shown.map_or_else(|_error| unreadable(bytes), |fields| Value::Object(fields.0))
}

fn unreadable(bytes: &[u8]) -> Value {
    json!({ "unreadable": true, "bytes": bytes.len() })
}

/// Fields. Empty ones are left out.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let silent = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(all) => all.is_empty(),
            _ => false,
        };
        if !silent {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn time(&mut self, name: &str, ms: i64) {
        if ms != 0 {
            self.put(name, rfc3339_ms(ms));
        }
    }
}

/// An enum's value as a code; for a value that this program does not know, its number.
fn named<E: TryFrom<i32>>(value: i32, name: impl Fn(&E) -> &'static str, prefix: &str) -> String {
    E::try_from(value).map_or_else(|_unknown| value.to_string(), |known| code(name(&known), prefix))
}

fn takeover(told: &Takeover, mask: &mut Mask) -> Fields {
    mask.hide(&told.chat);
    let mut fields = Fields::default();
    fields.put("state", named(told.state, TakeoverState::as_str_name, "TAKEOVER_STATE_"));
    fields.put("cause", named(told.cause, TakeoverCause::as_str_name, "TAKEOVER_CAUSE_"));
    fields.time("began_at", told.began_at_ms);
    fields.time("last_at", told.last_at_ms);
    fields.time("until", told.until_ms);
    if told.until_ms == 0 {
        fields.put("lasts_ms", told.lasts_ms);
    }
    fields.put("message_id", mask.id(&told.message_id));
    fields
}

fn opt_out(told: &OptOut, mask: &mut Mask) -> Fields {
    mask.hide(&told.chat);
    let mut fields = Fields::default();
    fields.put("state", named(told.state, OptOutState::as_str_name, "OPT_OUT_STATE_"));
    fields.put("cause", named(told.cause, OptOutCause::as_str_name, "OPT_OUT_CAUSE_"));
    fields.time("at", told.at_ms);
    fields.put("message_id", mask.id(&told.message_id));
    fields
}

fn inbound(message: &InboundMessage, mask: &mut Mask) -> Fields {
    let sender = message.sender.clone().unwrap_or_default();
    for number in [&message.chat_jid, &message.chat] {
        mask.hide(number);
    }
    for person in people(message).chain([&sender]) {
        for number in [&person.jid, &person.phone, &person.lid] {
            mask.hide(number);
        }
    }
    let mut fields = Fields::default();
    fields.put("content", kind::content(message.content.as_ref()));
    fields.put("message_id", mask.id(&message.message_id));
    fields.put("from", from(&sender, mask));
    fields.put("name", mask.text(message.push_name.clone()));
    fields.put("from_me", message.from_me);
    fields.put("self_chat", message.self_chat);
    fields.put("chat_kind", named(message.chat_kind, ChatKind::as_str_name, "CHAT_KIND_"));
    fields.time("sent_at", message.sent_at_ms);
    fields.time("received_at", message.received_at_ms);
    fields.put("quotes", mask.id(&message.quoted_message_id));
    fields.put("offline", message.offline);
    if let Some(replay) = &message.replay {
        let (of, at) = (mask.ce_id(&replay.inbound_id), rfc3339_ms(replay.at_ms));
        fields.put("replay", json!({ "of": of, "dead_letter": replay.dead_letter, "at": at }));
    }
    content(message.content.as_ref(), mask, &mut fields);
    if let Some(said) = &message.context {
        context(said, mask, &mut fields);
    }
    fields
}

/// Everybody whom the message names, but for its sender.
fn people(message: &InboundMessage) -> impl Iterator<Item = &Identity> {
    let named = match &message.content {
        Some(Content::Revoke(revoke)) => revoke.author.as_ref(),
        Some(Content::Product(product)) => product.seller.as_ref(),
        _ => None,
    };
    let changed = match &message.content {
        Some(Content::GroupChange(change)) => change.people.as_slice(),
        _ => &[],
    };
    let context = message.context.iter();
    let said =
        context.flat_map(|said| said.quoted.iter().flat_map(|quoted| &quoted.author).chain(&said.mentions));
    named.into_iter().chain(changed).chain(said)
}

/// What a message says beside its content.
fn context(said: &Context, mask: &Mask, fields: &mut Fields) {
    if let Some(quoted) = &said.quoted {
        fields.put("quoted_author", quoted.author.as_ref().and_then(|author| from(author, mask)));
        fields.put("quoted_kind", mask.code(&quoted.kind));
        fields.put("quoted_text", mask.text(quoted.text.clone()));
    }
    if !said.mentions.is_empty() {
        fields.put("mentions", said.mentions.len());
    }
    fields.put("mentions_us", said.mentions_us);
    fields.put("mentions_all", said.mentions_all);
    fields.put("forwarded", said.forwarded);
    fields.put("album", mask.id(&said.album_message_id));
    fields.put("view_once", said.view_once);
    fields.put("entry_point", mask.code(&said.entry_point));
    if let Some(ad) = &said.ad {
        fields.put("from_ad", true);
        let whole = json!({
            "source_type": ad.source_type, "source_id": ad.source_id, "source_url": ad.source_url,
            "headline": ad.headline, "body": ad.body, "click_id": ad.click_id,
        });
        fields.put("ad", mask.text(whole));
    }
}

fn from(sender: &Identity, mask: &Mask) -> Option<String> {
    let named = [&sender.phone, &sender.lid, &sender.jid].into_iter().find(|name| !name.is_empty());
    named.map(|name| mask.person(name))
}

fn content(content: Option<&Content>, mask: &Mask, fields: &mut Fields) {
    match content {
        None => {}
        Some(Content::Text(text)) => fields.put("text", mask.text(text.body.clone())),
        Some(
            Content::Image(media)
            | Content::Video(media)
            | Content::Audio(media)
            | Content::Document(media)
            | Content::Sticker(media),
        ) => file(media, mask, fields),
        Some(Content::Location(place)) => {
            fields.put("live", place.live);
            let whole = json!({
                "latitude": place.latitude, "longitude": place.longitude,
                "name": place.name, "address": place.address,
            });
            fields.put("location", mask.text(whole));
        }
        Some(Content::Contacts(contacts)) => {
            fields.put("count", contacts.vcards.len().max(contacts.display_names.len()));
            fields.put("contacts", mask.text(contacts.display_names.clone()));
        }
        Some(Content::ButtonReply(reply)) => {
            fields.put("text", mask.text(reply.text.clone()));
            fields.put("button_id", mask.text(reply.button_id.clone()));
            fields.put("by_writing", !reply.written.is_empty());
            fields.put("written", mask.text(reply.written.clone()));
        }
        Some(Content::ListReply(reply)) => {
            fields.put("text", mask.text(reply.title.clone()));
            fields.put("description", mask.text(reply.description.clone()));
            fields.put("row_id", mask.text(reply.row_id.clone()));
            fields.put("by_writing", !reply.written.is_empty());
            fields.put("written", mask.text(reply.written.clone()));
        }
        Some(Content::Poll(poll)) => {
            fields.put("text", mask.text(poll.question.clone()));
            fields.put("options", mask.text(poll.options.clone()));
        }
        Some(Content::Order(order)) => {
            fields.put("text", mask.text(order.text.clone()));
            fields.put("item_count", order.item_count);
            let whole = json!({
                "order_id": order.order_id, "title": order.title,
                "total_thousandths": order.total_thousandths, "currency": order.currency,
            });
            fields.put("order", mask.text(whole));
        }
        Some(Content::Unsupported(other)) => {
            fields.put("whatsapp_kind", mask.code(&other.kind));
            if !other.target_message_id.is_empty() {
                fields.put("target", mask.id(&other.target_message_id));
            }
        }
        Some(other) => more(other, mask, fields),
    }
}

/// The same, for what is less usual.
fn more(content: &Content, mask: &Mask, fields: &mut Fields) {
    match content {
        Content::Album(album) => {
            fields.put("expected_images", album.expected_images);
            fields.put("expected_videos", album.expected_videos);
        }
        Content::Event(event) => {
            fields.time("starts_at", event.starts_at_ms);
            fields.put("canceled", event.canceled);
            fields.put("text", mask.text(event.name.clone()));
            fields.put("description", mask.text(event.description.clone()));
        }
        Content::Product(product) => {
            fields.put("text", mask.text(product.text.clone()));
            let whole = json!({
                "product_id": product.product_id, "title": product.title,
                "price_thousandths": product.price_thousandths, "currency": product.currency,
            });
            fields.put("product", mask.text(whole));
        }
        Content::GroupInvite(invite) => {
            fields.put("text", mask.text(invite.text.clone()));
            fields.put("group_name", mask.text(invite.group_name.clone()));
        }
        update => about(update, mask, fields),
    }
}

/// What is about an earlier message, or about the chat.
fn about(update: &Content, mask: &Mask, fields: &mut Fields) {
    match update {
        Content::Edit(edit) => {
            fields.put("target", mask.id(&edit.target_message_id));
            fields.put("text", mask.text(edit.body.clone()));
        }
        Content::Revoke(revoke) => {
            fields.put("target", mask.id(&revoke.target_message_id));
            fields.put("by_admin", revoke.by_admin);
        }
        Content::Reaction(reaction) => {
            fields.put("target", mask.id(&reaction.target_message_id));
            fields.put("taken_back", reaction.emoji.is_empty());
            fields.put("text", mask.text(reaction.emoji.clone()));
        }
        Content::Media(media) => {
            fields.put("target", mask.id(&media.target_message_id));
            let state = crate::wire::kind::code(media.state().as_str_name(), "MEDIA_STATE_");
            fields.put("state", state);
            fields.put("size_bytes", media.size_bytes);
            fields.put("mime_type", mask.code(&media.mime_type));
            fields.put("reason", mask.code(&media.reason));
        }
        Content::ChatTimer(timer) => fields.put("seconds", timer.seconds),
        Content::GroupChange(change) => {
            fields.put("action", code(change.action().as_str_name(), "GROUP_ACTION_"));
            if !change.people.is_empty() {
                fields.put("people", change.people.len());
            }
            fields.put("subject", mask.text(change.subject.clone()));
            if change.action() == GroupAction::Timer {
                fields.put("seconds", change.seconds);
            }
            fields.put("change", mask.code(&change.kind));
        }
        Content::MissedCall(call) => fields.put("video", call.video),
        Content::PollVote(vote) => {
            fields.put("target", mask.id(&vote.target_message_id));
            fields.put("decrypted", vote.decrypted);
            fields.put("reason", mask.code(&vote.reason));
            fields.put("options", mask.text(vote.options.clone()));
        }
        Content::Pin(pin) => {
            fields.put("target", mask.id(&pin.target_message_id));
            fields.put("pinned", pin.pinned);
        }
        Content::BetterCopy(copy) => {
            fields.put("target", mask.id(&copy.target_message_id));
            if let Some(media) = &copy.file {
                file(media, mask, fields);
            }
        }
        Content::EventAnswer(answer) => {
            fields.put("target", mask.id(&answer.target_message_id));
            fields.put("decrypted", answer.decrypted);
            fields.put("reason", mask.code(&answer.reason));
            let word = named(answer.answer, EventAnswerWord::as_str_name, "EVENT_ANSWER_WORD_");
            fields.put("answer", mask.text(word));
        }
        _ => {}
    }
}

fn file(media: &Media, mask: &Mask, fields: &mut Fields) {
    fields.put("mime_type", mask.code(&media.mime_type));
    if media.size_bytes > 0 {
        fields.put("size_bytes", media.size_bytes);
    }
    for (name, is_it) in [
        ("gif", media.gif),
        ("video_note", media.video_note),
        ("voice", media.voice),
        ("animated", media.animated),
    ] {
        fields.put(name, is_it);
    }
    fields.put("text", mask.text(media.caption.clone()));
    fields.put("file_name", mask.text(media.file_name.clone()));
}

fn ended(outcome: &Outcome, mask: &mut Mask) -> Fields {
    mask.hide(&outcome.chat_jid);
    mask.hide(&outcome.chat);
    if let Some(quoted) = &outcome.quotes {
        mask.hide(&quoted.author);
    }
    let mut fields = Fields::default();
    fields.put("message_id", mask.id(&outcome.message_id));
    fields.put("to", (!outcome.chat_jid.is_empty()).then(|| mask.person(&outcome.chat_jid)));
    fields.time("decided_at", outcome.decided_at_ms);
    fields.time("sent_at", outcome.sent_at_ms);
    fields.time("received_at", outcome.received_at_ms);
    match &outcome.result {
        None => fields.put("class", "unreadable"),
        Some(outcome::Result::Reply(reply)) => {
            fields.put("class", "reply");
            answer(reply, mask, &mut fields);
        }
        Some(outcome::Result::None(none)) => {
            fields.put("class", "none");
            fields.put("reason", named(none.reason, NoReplyReason::as_str_name, "NO_REPLY_REASON_"));
            let into = &none.joined_into;
            fields.put("joined_into", (!into.is_empty()).then(|| mask.ce_id(into)));
            if let Some(reply) = &none.would_be {
                let mut would_be = Fields::default();
                answer(reply, mask, &mut would_be);
                fields.put("would_be", would_be.0);
            }
        }
        Some(outcome::Result::Dead(dead)) => {
            fields.put("class", "dead");
            fields.put("reason", named(dead.reason, DeadReason::as_str_name, "DEAD_REASON_"));
            fields.put("detail", mask.code(&dead.detail));
            fields.put("text", mask.text(dead.fallback_text.clone()));
        }
    }
    fields
}

fn answer(reply: &Reply, mask: &Mask, fields: &mut Fields) {
    fields.put("conversation_id", mask.code(&reply.conversation_id));
    fields.put("text", mask.text(reply.text.clone()));
    let Some(choice) = &reply.interactive else { return };
    fields.put("choices", choice.buttons.len() + choice.list_items.len());
    fields.put("buttons", mask.text(choice.buttons.clone()));
    fields.put("button_ids", mask.text(choice.button_ids.clone()));
    fields.put("list_title", mask.text(choice.list_title.clone()));
    let items: Vec<_> = choice
        .list_items
        .iter()
        .map(|item| json!({ "id": item.id, "title": item.title, "description": item.description }))
        .collect();
    fields.put("list_items", mask.text(items));
}

fn send(request: &SendMessage, mask: &mut Mask) -> Fields {
    mask.hide(&request.to);
    let mut fields = Fields::default();
    fields.put("to", mask.person(&request.to));
    fields.put("quotes", mask.id(&request.quoted_message_id));
    let quoted = request.quoted.iter();
    quoted.clone().for_each(|quoted| mask.hide(&quoted.author));
    for quoted in quoted {
        fields.put("quotes_request", mask.ce_id(&quoted.request_id));
        fields.put("quoted_text", mask.text(quoted.text.clone()));
    }
    request.mentions.iter().for_each(|person| mask.hide(person));
    if !request.mentions.is_empty() {
        fields.put("mentions", request.mentions.len());
    }
    fields.time("not_after", request.not_after_ms);
    asked(request.content.as_ref(), mask, &mut fields);
    fields
}

/// What a request wants to have sent.
fn asked(content: Option<&send_message::Content>, mask: &Mask, fields: &mut Fields) {
    use send_message::Content as Asked;
    let about = |target: Option<&SendTarget>, fields: &mut Fields| {
        let target = target.cloned().unwrap_or_default();
        fields.put("target", mask.id(&target.message_id));
        fields.put("target_request", mask.ce_id(&target.request_id));
    };
    let name = match content {
        None => "unreadable",
        Some(Asked::Text(text)) => {
            fields.put("text", mask.text(text.body.clone()));
            "text"
        }
        Some(Asked::Reaction(reaction)) => {
            about(reaction.target.as_ref(), fields);
            fields.put("taken_back", reaction.emoji.is_empty());
            fields.put("text", mask.text(reaction.emoji.clone()));
            "reaction"
        }
        Some(Asked::Edit(edit)) => {
            about(edit.target.as_ref(), fields);
            fields.put("text", mask.text(edit.body.clone()));
            "edit"
        }
        Some(Asked::Revoke(revoke)) => {
            about(revoke.target.as_ref(), fields);
            "revoke"
        }
        Some(Asked::Location(place)) => {
            let whole = json!({
                "latitude": place.latitude, "longitude": place.longitude,
                "name": place.name, "address": place.address,
            });
            fields.put("location", mask.text(whole));
            "location"
        }
        Some(Asked::Contacts(cards)) => {
            fields.put("count", cards.contacts.len());
            let names: Vec<_> = cards.contacts.iter().map(|card| card.display_name.clone()).collect();
            fields.put("contacts", mask.text(names));
            "contacts"
        }
        Some(Asked::Poll(poll)) => {
            fields.put("text", mask.text(poll.question.clone()));
            fields.put("options", mask.text(poll.options.clone()));
            "poll"
        }
        Some(Asked::Media(file)) => {
            fields.put("kind", named(file.kind, SendMediaKind::as_str_name, "SEND_MEDIA_KIND_"));
            fields.put("bucket", mask.code(&file.bucket));
            fields.put("key", mask.ce_id(&file.key));
            fields.put("text", mask.text(file.caption.clone()));
            fields.put("file_name", mask.text(file.file_name.clone()));
            fields.put("mime_type", mask.code(&file.mime_type));
            "media"
        }
    };
    fields.put("content", name);
}

fn receipt(told: &Receipt, mask: &mut Mask) -> Fields {
    mask.hide(&told.chat);
    let mut fields = Fields::default();
    fields.put("status", named(told.status, ReceiptStatus::as_str_name, "RECEIPT_STATUS_"));
    fields.put("message_ids", told.message_ids.iter().map(|id| mask.id(id)).collect::<Vec<_>>());
    fields.time("at", told.at_ms);
    fields.put("reason", mask.code(&told.reason));
    fields.put("detail", mask.code(&told.detail));
    fields.time("until", told.until_ms);
    fields.put("request_id", mask.ce_id(&told.request_id));
    fields
}

fn session(event: &SessionEvent, mask: &mut Mask) -> Fields {
    mask.hide(&event.chat);
    let mut fields = Fields::default();
    fields.put("state", named(event.state, SessionState::as_str_name, "SESSION_STATE_"));
    fields.put("code", mask.code(&event.code));
    fields.put("detail", mask.code(&event.detail));
    fields.put("action", named(event.action, SessionAction::as_str_name, "SESSION_ACTION_"));
    fields.time("at", event.at_ms);
    fields.put("chat", (!event.chat.is_empty()).then(|| mask.person(&event.chat)));
    fields
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
