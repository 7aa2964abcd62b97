//! Kinds of messages that the simulator's phones do not write by themselves, given as protobuf: what has words is
//! answered, and nothing is dropped or taken for something else.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::waproto::codec::message_to_vec;

use crate::support::oracle::Written;
use crate::support::{Customer, Layout, Stage};

/// A message with these fields.
macro_rules! message {
    ($($field:ident: $value:expr),* $(,)?) => { wa::Message { $($field: $value),*, ..Default::default() } };
}

/// A part of a message, of this type and with these fields.
macro_rules! part {
    ($part:path { $($field:ident: $value:expr),* $(,)? }) => {
        MessageField::some({
            use $part as Part;
            #[allow(clippy::needless_update, reason = "a few parts have one field only")]
            let part = Part { $($field: $value),*, ..Default::default() };
            part
        })
    };
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn wrapped(message: wa::Message) -> MessageField<wa::message::FutureProofMessage> {
    part!(wa::message::FutureProofMessage { message: MessageField::some(message) })
}

fn press(body: Option<&str>, params: serde_json::Value) -> Vec<u8> {
    use wa::message::InteractiveResponseMessage;
    use wa::message::interactive_response_message::{Body, NativeFlowResponseMessage};
    let flow = NativeFlowResponseMessage {
        name: some("quick_reply"),
        params_json: Some(params.to_string()),
        ..Default::default()
    };
    let mut reply =
        InteractiveResponseMessage { interactive_response_message: flow.into(), ..Default::default() };
    if let Some(body) = body {
        reply.body = part!(Body { text: some(body) });
    }
    message_to_vec(&message!(interactive_response_message: MessageField::some(reply)))
}

async fn raw(customer: &Customer, bytes: &[u8]) -> String {
    customer.write_with(json!({"raw": BASE64_STANDARD.encode(bytes)})).await
}

#[tokio::test]
async fn what_has_words_is_answered_whatever_it_is_wrapped_in() {
    use wa::message::{ImageMessage, ListResponseMessage, OrderMessage, VideoMessage, list_response_message};
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let video = part!(VideoMessage { mimetype: some("video/mp4"), caption: some("¿Y en verde?") });
    let image = part!(ImageMessage { mimetype: some("image/jpeg"), caption: some("Este otro") });
    let round = part!(VideoMessage { mimetype: some("video/mp4"), caption: some("Mirá") });
    let order = part!(OrderMessage {
        order_id: some("7001"),
        item_count: Some(4),
        message: some("Para las nueve, por favor"),
        total_amount1000: Some(18_250_000),
        total_currency_code: some("UYU"),
    });
    let row = part!(list_response_message::SingleSelectReply { selected_row_id: some("row-9") });
    let picked = part!(ListResponseMessage { title: some("Terraza"), single_select_reply: row });
    let nested = message!(ephemeral_message: wrapped(message!(spoiler_message: wrapped(
        message!(group_mentioned_message: wrapped(message!(conversation: some("muy adentro"))))
    ))));
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (press(Some("Confirmo"), json!({"id": "b_41", "display_text": "Confirmo"})), "Confirmo"),
        (press(None, json!({"id": "b_42", "display_text": "Otro día"})), "Otro día"),
        (
            message_to_vec(&message!(associated_child_message: wrapped(message!(video_message: video)))),
            "¿Y en verde?",
        ),
        (
            message_to_vec(&message!(associated_child_message: wrapped(message!(image_message: image)))),
            "Este otro",
        ),
        (message_to_vec(&message!(ptv_message: round)), "Mirá"),
        (message_to_vec(&message!(order_message: order)), "Para las nueve, por favor"),
        (message_to_vec(&message!(list_response_message: picked)), "Terraza"),
        (message_to_vec(&nested), "muy adentro"),
    ];

    let mut written = Vec::new();
    for (bytes, words) in &rows {
        written.push(Written::echoed(customer.phone(), raw(&customer, bytes).await, words));
    }

    customer.receives(rows.len()).await;
    let evidence = stage.evidence(rows.len(), [&customer]).await;
    evidence.assert_kept(&written);
    let kinds: Vec<_> = evidence.messages.iter().filter_map(|entry| entry.inbound().content).collect();
    let [
        Content::ButtonReply(confirmed),
        Content::ButtonReply(other),
        Content::Video(_),
        Content::Image(_),
        Content::Video(_),
        Content::Order(order),
        Content::ListReply(picked),
        Content::Text(_),
    ] = kinds.as_slice()
    else {
        panic!("{kinds:?}")
    };
    assert_eq!((confirmed.button_id.as_str(), other.button_id.as_str()), ("b_41", "b_42"));
    assert_eq!((order.item_count, order.total_thousandths, order.currency.as_str()), (4, 18_250_000, "UYU"));
    assert_eq!(picked.row_id, "row-9");
}

/// None of these is answered, none is dropped, and none takes another message back.
#[tokio::test]
async fn what_nobody_knows_is_unsupported_and_never_a_revoke() {
    use wa::message::protocol_message::Type;
    use wa::message::{PinInChatMessage, PollCreationMessage, ProtocolMessage};
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let first = customer.write("hola").await;
    let mut written = vec![Written::echoed(customer.phone(), first.clone(), "hola")];
    let mut future = Vec::new();
    prost::encoding::bytes::encode(1_777, &b"new".to_vec(), &mut future);
    // `type` is field 2 of a protocol message, `key` field 1, and `protocolMessage` field 12 of a message.
    let key = part!(wa::MessageKey { id: some(&first) });
    let protocol =
        |kind| message!(protocol_message: part!(ProtocolMessage { r#type: kind, key: key.clone() }));
    let mut newer = message_to_vec(&protocol(None));
    let mut kind = Vec::new();
    prost::encoding::int32::encode(2, &97, &mut kind);
    prost::encoding::bytes::encode(12, &kind, &mut newer);
    let poll = part!(PollCreationMessage { name: some("¿Cuándo?") });
    let pin = message!(pin_in_chat_message: part!(PinInChatMessage { key: key.clone() }));

    for bytes in
        [future, newer, message_to_vec(&pin), message_to_vec(&message!(poll_creation_message_v6: poll))]
    {
        written.push(Written::unanswered(customer.phone(), raw(&customer, &bytes).await));
    }
    written.push(Written::echoed(customer.phone(), customer.write("chau").await, "chau"));
    raw(&customer, &message_to_vec(&protocol(Some(Type::Revoke)))).await;

    customer.receives(2).await;
    let evidence = stage.evidence(6, [&customer]).await;
    evidence.assert_kept(&written);
    let kinds: Vec<_> = evidence.messages.iter().filter_map(|entry| entry.inbound().content).collect();
    let [
        _,
        Content::Unsupported(future),
        Content::Unsupported(newer),
        Content::Unsupported(pin),
        Content::Poll(_),
        _,
    ] = kinds.as_slice()
    else {
        panic!("{kinds:?}")
    };
    assert_eq!(future.kind, "unknown");
    assert_eq!((newer.kind.as_str(), newer.target_message_id.as_str()), ("protocolMessage", first.as_str()));
    assert_eq!(pin.kind, "pinInChatMessage");
    let streams = stage.streams().await;
    let updates = crate::support::eventually("the revoke", crate::support::PATIENCE, async || {
        let updates = streams.updates().await;
        if updates.is_empty() { Err("no update".to_owned()) } else { Ok(updates) }
    })
    .await;
    let revoked: Vec<_> = updates.iter().filter_map(|entry| entry.inbound().content).collect();
    assert!(
        matches!(revoked.as_slice(), [Content::Revoke(it)] if it.target_message_id == first),
        "{revoked:?}"
    );
}
