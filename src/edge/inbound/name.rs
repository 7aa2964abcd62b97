//! The name of a kind of message that the connector has no field for. Pure.

use whatsapp_rust::prelude::wa;

/// A kind that the client library's schema does not know. Nothing of it is left but its id.
pub(super) const UNKNOWN: &str = "unknown";

/// Fields that say something of a message, or hand out keys. None is a kind.
const BESIDE: [&str; 7] = [
    "message_context_info",
    "sender_key_distribution_message",
    "fast_ratchet_key_sender_key_distribution_message",
    "group_root_key_share",
    "root_secret_distribute_message",
    "sticker_sync_rmr_message",
    "device_sent_message",
];

/// WhatsApp's name of the kind, as its schema has it: `pinInChatMessage`. `None`: there is no kind in it.
pub(super) fn name(message: &wa::Message) -> Option<String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(message) else {
        return Some(UNKNOWN.to_owned());
    };
    let mut set = fields.iter().filter(|(_, value)| !value.is_null());
    set.find(|(field, _)| !BESIDE.contains(&field.as_str())).map(|(field, _)| camel_case(field))
}

/// Does it only hand out keys, or sync the number's own devices?
pub(super) fn only_keys(message: &wa::Message) -> bool {
    message.sender_key_distribution_message.as_option().is_some()
        || message.fast_ratchet_key_sender_key_distribution_message.as_option().is_some()
        || message.group_root_key_share.as_option().is_some()
        || message.root_secret_distribute_message.as_option().is_some()
        || message.sticker_sync_rmr_message.as_option().is_some()
}

fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}
