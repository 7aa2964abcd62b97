//! An account's own phone hands a message over that a linked device could not read.
//!
//! A device asks with a peer message (a placeholder resend request). The phone answers with one that has the
//! message as the phone stores it.

use std::sync::Arc;

use buffa::{Message as _, MessageField};
use wacore_binary::Jid;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use crate::content;
use crate::delivery::{self, Parcel, SendError};
use crate::hub::Hub;
use crate::ids::{PhoneNumber, new_message_id, unix_now};
use crate::party::{Mail, Sent};
use crate::queue::Class;
use crate::shape::Again;
use crate::signal::{Phone, PhoneError};
use crate::stanza::{self, Addressing};

/// The messages that a device asks its account's phone for.
pub(crate) fn wanted(message: &wa::Message) -> Vec<wa::MessageKey> {
    let request = message
        .protocol_message
        .as_option()
        .and_then(|protocol| protocol.peer_data_operation_request_message.as_option());
    let requests = request.into_iter().flat_map(|request| &request.placeholder_message_resend_request);
    requests.filter_map(|request| request.message_key.as_option().cloned()).collect()
}

/// Answers a device's request, as far as the phone does.
pub(crate) fn answer(
    hub: &Arc<Hub>,
    phone: &mut Phone,
    account: &PhoneNumber,
    mail: &Mail,
    keys: &[wa::MessageKey],
) {
    for key in keys {
        let id = key.id.as_deref().unwrap_or_default();
        let found = hub.read(|world| {
            let names = [key.remote_jid.as_deref(), key.participant.as_deref()];
            let writer = names
                .into_iter()
                .flatten()
                .filter_map(|name| name.parse::<Jid>().ok())
                .find_map(|jid| world.number_of(&jid))?;
            let sent = world.customers.get(&writer)?.sent.get(id)?;
            (sent.shape.again == Again::Owner).then(|| (writer, sent.clone()))
        });
        let Some((writer, sent)) = found else { continue };
        if let Err(error) = hand_over(hub, phone, account, &writer, &sent, &mail.id) {
            tracing::error!(%account, %id, %error, "the owner's phone could not hand a message over");
        }
    }
}

/// The owner's phone hands a customer's message over, asked or not.
pub(crate) fn hands_over(
    hub: &Arc<Hub>,
    account: &PhoneNumber,
    customer: &PhoneNumber,
    id: &str,
) -> Result<(), SendError> {
    let handset = hub
        .read(|world| world.accounts.get(account).map(|a| a.handset.clone()))
        .ok_or_else(|| SendError::NoAccount(account.clone()))?;
    let sent = hub
        .read(|world| Some(world.customers.get(customer)?.sent.get(id).cloned()))
        .ok_or_else(|| SendError::NoCustomer(customer.clone()))?
        .ok_or_else(|| SendError::NoMessage(id.to_owned()))?;
    let mut phone = handset.lock();
    Ok(hand_over(hub, &mut phone, account, customer, &sent, &new_message_id())?)
}

fn hand_over(
    hub: &Arc<Hub>,
    phone: &mut Phone,
    account: &PhoneNumber,
    customer: &PhoneNumber,
    sent: &Sent,
    request: &str,
) -> Result<(), PhoneError> {
    let writer = hub.read(|world| world.customers.get(customer).map(|customer| customer.record.clone()));
    let Some(writer) = writer else { return Ok(()) };
    let own = match writer.addressing {
        Addressing::Pn | Addressing::Lid => customer.pn_jid(0),
        Addressing::Hidden => customer.lid_jid(0),
    };
    let key = wa::MessageKey {
        remote_jid: Some(sent.shape.through.clone().unwrap_or_else(|| own.to_string())),
        from_me: Some(false),
        id: Some(sent.id.clone()),
        participant: sent.shape.through.is_some().then(|| own.to_string()),
    };
    let message = match &sent.shape.raw {
        Some(raw) => waproto::codec::message_decode(&raw.0).unwrap_or_default(),
        None => content::compose(sent.kind, &sent.text, None),
    };
    let stored = wa::WebMessageInfo {
        key: MessageField::some(key),
        message: MessageField::some(message),
        message_timestamp: Some(sent.at),
        push_name: Some(writer.name),
        ..Default::default()
    };
    let message = response(request, stored.encode_to_vec());
    let devices = hub.read(|world| world.devices_of(account));
    let parcel = Parcel { account, message: &message, raw: None, media_type: None };
    let sealed = delivery::seal_for(hub, phone, &parcel, &devices)?;
    let changes = phone.take_changes();
    hub.update(|world| {
        world.save_sessions(account, changes);
        for (device, sealed) in sealed {
            let id = new_message_id();
            let stanza = NodeBuilder::new("message")
                .attr("from", account.pn_jid(0))
                .attr("category", "peer")
                .attr("id", id.as_str())
                .attr("type", "text")
                .attr("t", unix_now())
                .children([stanza::enc(sealed, None)])
                .build();
            world.enqueue(account, device, Class::Message, &id, stanza);
        }
    });
    Ok(())
}

fn response(request: &str, web_message_info: Vec<u8>) -> wa::Message {
    use wa::message::peer_data_operation_request_response_message::PeerDataOperationResult;
    use wa::message::peer_data_operation_request_response_message::peer_data_operation_result::PlaceholderMessageResendResponse;
    use wa::message::{
        PeerDataOperationRequestResponseMessage, PeerDataOperationRequestType, ProtocolMessage,
        protocol_message,
    };
    let resend = PlaceholderMessageResendResponse { web_message_info_bytes: Some(web_message_info) };
    let result = PeerDataOperationResult {
        placeholder_message_resend_response: MessageField::some(resend),
        ..Default::default()
    };
    let response = PeerDataOperationRequestResponseMessage {
        peer_data_operation_request_type: Some(PeerDataOperationRequestType::PLACEHOLDER_MESSAGE_RESEND),
        stanza_id: Some(request.to_owned()),
        peer_data_operation_result: vec![result],
    };
    wa::Message {
        protocol_message: MessageField::some(ProtocolMessage {
            r#type: Some(protocol_message::Type::PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE),
            peer_data_operation_request_response_message: MessageField::some(response),
            ..Default::default()
        }),
        ..Default::default()
    }
}
