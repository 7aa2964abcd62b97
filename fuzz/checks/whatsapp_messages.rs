//! Messages as WhatsApp carries them: protobuf that anybody may have written.

use prost::Message as _;
use whatsapp_connector::edge::decoded;
use whatsapp_connector::wire::v1::InboundMessage;

/// The longest id, and the most characters of what is quoted.
const ID: usize = 256;
const QUOTED: usize = 1_000;
/// What decoded text may be longer than its bytes: what is no UTF-8 has characters of three bytes in its place, and names are added.
const MORE: usize = 1_024;

pub fn check(bytes: &[u8]) {
    let Some(message) = decoded(bytes) else { return };
    assert!(message.content.is_some(), "a message without a content");
    assert!(message.quoted_message_id.len() <= ID, "a long id");
    if let Some(context) = &message.context {
        let quoted = context.quoted.as_ref().map_or(0, |quoted| quoted.text.chars().count());
        assert!(quoted <= QUOTED && context.mentions.len() <= ID, "{quoted} characters are quoted");
        assert!(context.album_message_id.len() <= ID);
    }
    let payload = message.encode_to_vec();
    assert!(payload.len() <= 3 * bytes.len() + MORE, "{} bytes of {}", payload.len(), bytes.len());
    let again = InboundMessage::decode(payload.as_slice()).expect("what was written can be read");
    // Bytes, and not messages: a place may be at NaN degrees.
    assert_eq!(again.encode_to_vec(), payload);
}
